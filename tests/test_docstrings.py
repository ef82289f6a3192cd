"""Public docstrings are complete, and the examples in them run.

The rules, for public functions, classes and methods (names without a leading underscore):

- each has a docstring;
- a function with parameters has an Args section that names every one of them. A one-line docstring
  is enough for a property and for a function with at most one parameter, and a docstring may refer
  to another one instead ("see `Model.get_state`", "As `load_cifar100`");
- a function that returns something says so: in a Returns or Yields section, or in a first line that
  begins with "Return" or "Yield" or says "and return". Properties and context managers are exempt;
- a function whose body raises an error of the package names it in a Raises section.

Commands (`pymobilenet.cli`) are exempt from the last three: their docstrings are the help texts,
and every option has its own.
"""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import pymobilenet
from pymobilenet import errors

PACKAGE = Path(pymobilenet.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(pymobilenet.__path__, "pymobilenet.")
    if not module.name.endswith("__main__")
)
ERRORS = {name for name in vars(errors) if not name.startswith("_") and name[0].isupper()}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def public_definitions(tree):
    """Yield (name, node) of the public functions, classes and methods of a module."""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, FUNCTIONS) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


def decorators_of(node):
    return {ast.unparse(each).split("(")[0].split(".")[-1] for each in node.decorator_list}


def parameters_of(node):
    arguments = node.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [each.arg for each in (arguments.vararg, arguments.kwarg) if each]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def raised_errors(node):
    """The errors of the package that the body raises, apart from nested functions."""
    names, pending = set(), list(node.body)
    while pending:
        each = pending.pop()
        if isinstance(each, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call):
            names.add(ast.unparse(each.exc.func).split(".")[-1])
        pending.extend(ast.iter_child_nodes(each))
    return names & ERRORS


def problems_of(node):
    """What the docstring of a function lacks."""
    text = ast.get_docstring(node)
    if not text:
        return ["no docstring"]
    if isinstance(node, ast.ClassDef):
        return []
    decorators, parameters = decorators_of(node), parameters_of(node)
    is_property = bool(decorators & {"property", "cached_property"})
    refers = re.search(r"\b(see|as) `", text, re.IGNORECASE) is not None
    problems = []
    is_short = "\n" not in text and len(parameters) <= 1
    if parameters and not (is_property or refers or is_short):
        section = text.partition("Args:\n")[2]
        missing = [
            n for n in parameters if not re.search(rf"^ +\**{n}\b.*:", section, re.MULTILINE)
        ]
        problems += [f"Args without {', '.join(missing)}"] if missing else []
    returns = node.returns is not None and ast.unparse(node.returns) not in ("None", "NoReturn")
    says_so = re.match(r"(Return|Yield|Iterate|.*\band return)\b", text) or re.search(
        r"^(Returns|Yields):", text, re.MULTILINE
    )
    if returns and not (is_property or refers or says_so or "contextmanager" in decorators):
        problems.append("no Returns")
    section = text.partition("Raises:\n")[2]
    undocumented = sorted(name for name in raised_errors(node) if name not in section)
    if undocumented and not is_property:
        problems.append(f"Raises without {', '.join(undocumented)}")
    return problems


def incomplete(source, name):
    """'module.function: problem' for each incomplete docstring in a module's source."""
    return [
        f"{name}.{definition}: {problem}"
        for definition, node in public_definitions(ast.parse(source))
        for problem in problems_of(node)
    ]


def test_public_docstrings_are_complete():
    problems = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        source = path.read_text(encoding="utf-8")
        assert name.startswith("pymobilenet")
        is_command = name.startswith("pymobilenet.cli.")
        problems += [
            problem
            for problem in incomplete(source, name)
            if not (is_command and "no docstring" not in problem)
        ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def f() -> None: ...", "no docstring"),
        ("class C:\n    def f(self) -> None: ...", "no docstring"),
        ('def f(a: int, b: int) -> None:\n    """Do it."""', "Args without a, b"),
        ('def f(a, b) -> None:\n    """Do it.\n\n    Args:\n        a: One.\n    """', "without b"),
        ('def f() -> int:\n    """Compute it."""', "no Returns"),
        (
            'def f() -> int:\n    """Return it."""\n    raise ConfigError("x")',
            "without ConfigError",
        ),
        (
            'def f():\n    """Do it.\n\n    Raises:\n        DataError: Bad.\n    """\n'
            '    if f:\n        raise ConfigError("x")',
            "without ConfigError",
        ),
    ],
)
def test_an_incomplete_docstring_is_reported(source, problem):
    assert any(problem in each for each in incomplete(source, "module"))


@pytest.mark.parametrize(
    "source",
    [
        'def f(a: int) -> int:\n    """Return a + 1."""',
        'def f(a, b) -> int:\n    """Do it; see `g`."""',
        'class C:\n    """C."""\n\n    @property\n    def f(self) -> int:\n        """Value."""',
        "def _f(a: int) -> int: ...",
    ],
)
def test_a_complete_docstring_is_not_reported(source):
    assert not [each for each in incomplete(source, "module") if "module.C: " not in each]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = sum(
        len(test.examples)
        for name in MODULES
        for test in finder.find(importlib.import_module(name), name)
    )
    assert examples > 40
