"""Julia's packages by their two lists: the project's, and what juliapkg installs for Python."""

import json
import tomllib
from pathlib import Path

JULIA = Path(__file__).parents[1] / "julia"


def test_python_has_the_versions_installed_that_the_project_admits():
    project = tomllib.loads((JULIA / "Project.toml").read_text())
    installed = json.loads((JULIA / "juliapkg.json").read_text())
    uuids = project["deps"] | project["weakdeps"] | {project["name"]: project["uuid"]}
    assert installed["julia"] == project["compat"]["julia"]
    for name, package in installed["packages"].items():
        assert package["uuid"] == uuids[name]
        assert package.get("version") == project["compat"].get(name)
