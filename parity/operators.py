"""Operators that plant faults in the source of a Python function: one small change each.

A function's code is replaced in place, so that everything that refers to it computes the change.
"""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CONSTANT, AXIS, TERM = "constant changed", "axis swapped", "term dropped"
OFF_BY_ONE, DTYPE = "off by one", "dtype lowered"
OPERATORS = (CONSTANT, AXIS, TERM, OFF_BY_ONE, DTYPE)

OTHER_AXIS = {0: 1, 1: 0, 2: 3, 3: 2, -1: -2, -2: -1}
OTHER_NAME = {"rows": "columns", "columns": "rows", "down": "across", "across": "down"}
AXIS_METHODS = ("swapaxes", "transpose")
LOWERED = {
    "numpy": "np.asarray({}).astype(np.float32).astype(np.float64)",
    "torch": "({}).float().double()",
}
"""Framework -> an expression whose value has the digits of float32."""


@dataclass(frozen=True)
class SourceMutation:
    """One change of one function.

    Attributes:
        operator: One of `OPERATORS`.
        words: The changed line, before and after.
        function: What is changed.
        tree: The definition with the change.
    """

    operator: str
    words: str
    function: Callable
    tree: ast.FunctionDef

    def __str__(self):
        return f"{self.function.__qualname__}: {self.operator}: {self.words}"


def mutations(function, framework="numpy"):
    """All changes of a function, in the order of its source."""
    function = inspect.unwrap(getattr(function, "fget", function))
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    tree.decorator_list = []
    nodes = list(ast.walk(_without_docstring(tree)))
    parents = {id(child): node for node in nodes for child in ast.iter_child_nodes(node)}
    found = []
    for index, node in enumerate(nodes):
        for operator, replacement in _changes(node, parents, framework):
            changed = copy.deepcopy(tree)
            _without_docstring(changed)
            target = list(ast.walk(changed))[index]
            _replace(changed, target, replacement)
            ast.fix_missing_locations(changed)
            before, after = (ast.unparse(each) for each in (node, replacement))
            found.append(SourceMutation(operator, f"{before} -> {after}", function, changed))
    return found


def _without_docstring(tree):
    first = tree.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        tree.body[0] = ast.Pass()
    tree.args.defaults, tree.args.kw_defaults = [], [None] * len(tree.args.kwonlyargs)
    tree.returns = None
    for argument in [*tree.args.args, *tree.args.kwonlyargs]:
        argument.annotation = None
    return tree


def _changes(node, parents, framework) -> Iterator[tuple[str, ast.AST]]:
    """Yield the operators that apply to a node, and what takes its place."""
    parent = parents.get(id(node))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield _changed_constant(node, parent, parents)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
        yield TERM, node.left
        if isinstance(node.op, (ast.Add, ast.Mult)):
            yield TERM, node.right
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield AXIS, node.value
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in AXIS_METHODS:
        yield AXIS, node.func.value
    elif isinstance(node, ast.Name) and node.id in OTHER_NAME and isinstance(node.ctx, ast.Load):
        yield AXIS, ast.Name(OTHER_NAME[node.id], ast.Load())
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Gt, ast.Lt)):
        other = ast.GtE() if isinstance(node.ops[0], ast.Gt) else ast.LtE()
        yield OFF_BY_ONE, ast.Compare(node.left, [other], node.comparators)
    elif isinstance(node, ast.Return) and node.value is not None:
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        if framework == "torch" and len(values) > 1:
            return
        lowered = ast.parse(LOWERED[framework].format(ast.unparse(values[0])), mode="eval").body
        value = ast.Tuple([lowered, *values[1:]], ast.Load()) if len(values) > 1 else lowered
        yield DTYPE, ast.Return(value)


def _changed_constant(node, parent, parents):
    value = node.value
    if isinstance(parent, ast.keyword) and parent.arg in ("axis", "dim"):
        return AXIS, ast.Constant(OTHER_AXIS.get(value, value + 1))
    is_index = isinstance(parent, ast.Subscript) or isinstance(
        parents.get(id(parent)), ast.Subscript
    )
    owner = parent if isinstance(parent, ast.Subscript) else parents.get(id(parent))
    if is_index and getattr(getattr(owner, "value", None), "attr", "") == "shape":
        return AXIS, ast.Constant(OTHER_AXIS.get(value, value + 1))
    if isinstance(value, int):
        return OFF_BY_ONE, ast.Constant(value + 1)
    return CONSTANT, ast.Constant(2 * value if value else 1.0)


def _replace(tree, target, replacement):
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if value is target:
                setattr(node, field, replacement)
                return
            if isinstance(value, list) and any(item is target for item in value):
                value[[item is target for item in value].index(True)] = replacement
                return
    raise AssertionError("the node is not part of the tree")


@contextmanager
def planted(mutation):
    """Replace the function's code while the context is active."""
    function, before = mutation.function, mutation.function.__code__
    function.__code__ = _compiled(mutation.tree, function)
    try:
        yield
    finally:
        function.__code__ = before


def _compiled(tree, function):
    """The code of the definition; inside of a class, so that `super()` finds its cell."""
    body = [ast.ClassDef("Owner", [], [], [tree], [], type_params=[])]
    module = ast.fix_missing_locations(ast.Module(body, []))
    (owner,) = [c for c in compile(module, "<mutant>", "exec").co_consts if inspect.iscode(c)]
    (code,) = [c for c in owner.co_consts if inspect.iscode(c) and c.co_name == function.__name__]
    return code
