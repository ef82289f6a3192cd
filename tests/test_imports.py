"""Who may import whom: the direction design.md gives, and one door to each framework."""

import ast
from pathlib import Path

import pytest

import pymobilenet

ROOT = Path(pymobilenet.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {
    path.relative_to(ROOT.parent).with_suffix("").as_posix().replace("/", ".") for path in FILES
}

# each level may import those before it, and itself where the second word says so
LEVELS = [
    ("errors", "alone"),
    ("files", "alone"),
    ("strict_json", "alone"),
    ("philox", "alone"),
    ("normal", "alone"),
    ("config", "together"),
    ("architecture", "alone"),
    ("summary", "alone"),
    ("weights", "together"),
    ("data", "together"),
    ("backends.parts", "alone"),
    ("backends.checks", "alone"),
    ("backends.probe", "alone"),
    ("backends.base", "alone"),
    ("backends", "alone"),
    ("doors", "together"),
    ("evaluation", "together"),
    ("training", "together"),
    ("parity", "together"),
    ("bench", "together"),
    ("doctor", "alone"),
    ("cli", "together"),
]
SIBLINGS = {"weights": {"data"}, "data": {"weights"}}
TORCH = {
    f"backends.torch.{name}"
    for name in (
        "arrays",
        "by_hand",
        "checkpoint",
        "devices",
        "frozen",
        "model",
        "module",
        "optimizers",
        "processes",
    )
}
JULIA = {f"backends.julia.{name}" for name in ("crossing", "files", "model", "start", "sysimage")}
OWN = {
    "backends.numpy": {"backends.numpy_layers", "backends.numpy_optimizers"},
    "backends.torch": TORCH,
    "backends.julia": JULIA,
    "backends.julia.files": JULIA | {"backends.julia"},
    "backends.julia.model": JULIA,
    "backends.julia.sysimage": JULIA,
    "backends.torch.by_hand": TORCH,
    "backends.torch.model": TORCH,
    "backends.torch.processes": TORCH,
}
DOORS = {
    "torch": ["backends/torch"],
    "juliacall": ["backends/julia"],
    "juliapkg": ["backends/julia"],
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(tree, everywhere):
    """Names of modules imported when the file is, or `everywhere` in it, functions included."""
    found = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, (ast.FunctionDef, ast.Lambda)) and not everywhere:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= MODULES else names | {node.module}
        waiting += ast.iter_child_nodes(node)
    return found


def level_of(module):
    """Position in LEVELS of the deepest entry that holds the module."""
    places = [
        (len(name), place)
        for place, (name, _) in enumerate(LEVELS)
        if module == name or module.startswith(f"{name}.")
    ]
    return max(places)[1]


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def ours(names):
    modules = {module_name(path) for path in FILES} - {""}
    return {name.removeprefix("pymobilenet.") for name in names} & modules


def breaks_the_direction(module, target):
    here, there = level_of(module), level_of(target)
    name, kind = LEVELS[here]
    if LEVELS[there][0] in SIBLINGS.get(name, ()):
        return True
    if here != there:
        return there > here
    return kind == "alone" and target not in OWN.get(module, {module})


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_in_one_direction(path):
    module = module_name(path)
    if not module:
        assert ours(imported(parse(path), everywhere=True)) == {"backends", "config"}
        return
    targets = ours(imported(parse(path), everywhere=False))
    assert not [target for target in targets if breaks_the_direction(module, target)]


@pytest.mark.parametrize("framework", DOORS)
def test_a_framework_is_imported_in_one_place_alone(framework):
    found = []
    for path in FILES:
        names = {name.split(".")[0] for name in imported(parse(path), everywhere=True)}
        if framework in names:
            found.append(path.relative_to(ROOT))
    doors = [Path(door) for door in DOORS[framework]]
    assert found
    assert all(any(path == door or door in path.parents for door in doors) for path in found)


@pytest.mark.parametrize("framework", ["juliacall", "juliapkg", "matplotlib", "PIL"])
def test_what_is_heavy_or_absent_is_imported_inside_functions(framework):
    for path in FILES:
        names = {name.split(".")[0] for name in imported(parse(path), everywhere=False)}
        assert framework not in names, path


def test_the_rules_can_be_broken():
    broken = [
        ("config", "architecture"),
        ("errors", "philox"),
        ("weights.state", "data.dataset"),
        ("data", "weights"),
        ("weights", "backends.base"),
        ("backends.base", "backends.torch"),
        ("backends.torch", "backends.numpy"),
        ("backends", "training"),
        ("backends.torch.model", "doors.layout"),
        ("doors", "evaluation"),
        ("evaluation.scoring", "training"),
        ("doors", "training"),
        ("training.loop", "parity"),
        ("parity.run", "cli"),
    ]
    assert all(breaks_the_direction(*pair) for pair in broken)
