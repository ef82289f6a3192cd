"""julia/Project.toml and julia/juliapkg.json declare the same package versions."""

import json
import tomllib
from pathlib import Path

JULIA = Path(__file__).parents[1] / "julia"


def test_juliapkg_installs_the_versions_of_the_project():
    project = tomllib.loads((JULIA / "Project.toml").read_text())
    installed = json.loads((JULIA / "juliapkg.json").read_text())
    uuids = project["deps"] | project["weakdeps"] | {project["name"]: project["uuid"]}
    assert installed["julia"] == project["compat"]["julia"]
    for name, package in installed["packages"].items():
        assert package["uuid"] == uuids[name]
        assert package.get("version") == project["compat"].get(name)
