"""The import rules: the contracts of import-linter in pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(folder):
    """Run import-linter on the package in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_imports_keep_the_contracts():
    completed = lint_imports(ROOT)
    assert completed.returncode == 0, completed.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        (
            "config/model.py",
            "def late():\n    import pymobilenet.cli",
            "Imports go in one direction BROKEN",
        ),
        (
            "evaluation/scoring.py",
            "import torch",
            "Only the torch backend and the reader of torch files import torch BROKEN",
        ),
        (
            "formats/load.py",
            "import juliacall",
            "Only the Julia backend imports juliacall and juliapkg BROKEN",
        ),
        ("weights/state.py", "import pymobilenet.data", "Imports go in one direction BROKEN"),
    ],
)
def test_an_import_that_breaks_a_contract_is_reported(tmp_path, module, line, contract):
    only_python = shutil.ignore_patterns("__pycache__", "goldens")
    shutil.copytree(ROOT / "pymobilenet", tmp_path / "pymobilenet", ignore=only_python)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "pymobilenet" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{line}\n")
    completed = lint_imports(tmp_path)
    assert completed.returncode == 1
    assert contract in completed.stdout
