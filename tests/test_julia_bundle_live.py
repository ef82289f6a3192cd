"""Bundles with a live Julia. One that is made here is used by an account without a home folder,
without network, from a read-only disk, while this machine's own Julia and packages are hidden."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from accounts import CAN_USE_ANOTHER_ACCOUNT, as_another_account

from pymobilenet.backends.julia.bundle.info import julia_package
from pymobilenet.backends.julia.bundle.installed import BUNDLE_VARIABLE, InstalledBundle
from pymobilenet.backends.julia.bundle.processes import uncompiled, without_choices
from pymobilenet.backends.julia.project import ensure_julia, julia_executable_and_project

RELOCATED = """
const relocate, bundle = ARGS
id = Base.identify_package("JLD2")
source = Base.locate_package(id)
is_fresh(path) = Base.stale_cachefile(source, path; ignore_loaded=true) !== true
cache = first(filter(is_fresh, Base.find_all_in_cache_path(id)))
path = joinpath(mkpath(joinpath(bundle, "depot", "compiled", "v1.10", "JLD2")), "a.ji")
cp(cache, path)
folder = dirname(dirname(source))
run(`$(Base.julia_cmd()) --startup-file=no $relocate $bundle /elsewhere /other $folder /new/Grün`)
(modules, (includes, requires), others...) = Base.parse_cache_header(cache)
(new_modules, (new_includes, new_requires), new_others...) = Base.parse_cache_header(path)
names, new_names = map(list -> [include.filename for include in list], (includes, new_includes))
expected = VERSION < v"1.11" ? (replace.(names, folder => "/new/Grün"), [2]) : (names, Int[])
changed = filter(k -> others[k] != new_others[k], eachindex(others))
println((new_names, changed) == expected)
println(all(startswith(folder), names))
println((modules, requires) == (new_modules, new_requires))
println(Base.read_dependency_src(path, source) == read(source, String))
println(open(Base.isvalid_file_crc, path))
"""
"""Prints whether the names and further fields (the second is the position of the text), modules,
text of the sources and checksum are as they should be."""


@pytest.mark.julia
def test_a_relocated_cache_file_differs_in_the_paths_of_its_sources_only(tmp_path):
    ensure_julia()
    executable, project = julia_executable_and_project()
    (tmp_path / "script.jl").write_text(RELOCATED)
    relocate = julia_package() / "bundle" / "relocate.jl"
    script = [tmp_path / "script.jl", relocate, tmp_path / "bundle"]
    command = [executable, "--startup-file=no", f"--project={project}", *script]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert done.stdout.split() == [b"true"] * 5


SEAL = """
set -eu
mount --bind "$FOLDER" "$FOLDER"; mount -o remount,bind,ro "$FOLDER"
for hidden in $HIDDEN; do mount -t tmpfs none "$hidden"; done
exec "$@"
"""
"""A read-only bundle, and empty folders in place of Julia's, in a mount namespace."""

LOGITS = """
import json, sys
import numpy as np
from pymobilenet import MobileNetConfig, backend
julia = backend("julia", isolated=True) if "isolated" in sys.argv else backend("julia")
config = MobileNetConfig("v1", 0.25, resolution=32, num_classes=10)
x = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
model = julia.build(config, seed=0)
loss, _ = model.loss_and_grads(x, np.arange(8))
if "isolated" not in sys.argv:
    julia.main.seval("import JLD2")
    try:
        julia.main.seval('MobileNets.load("nothing.safetensors")')
    except Exception as error:
        assert "no such file" in str(error), error
print(json.dumps([model.predict(x).tolist(), loss]))
"""


def can_seal():
    probe = ["unshare", "-m", "-n", "true"]
    return CAN_USE_ANOTHER_ACCOUNT and subprocess.run(probe, capture_output=True).returncode == 0


def logits(command=list, environment=None, *options):
    done = subprocess.run(
        command([sys.executable, "-c", LOGITS, *options]),
        env=environment,
        cwd="/",
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def pymobilenet(command, environment, *words):
    words = [sys.executable, "-m", "pymobilenet.cli", *map(str, words)]
    done = subprocess.run(
        command(words), env=environment, cwd="/", stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def files(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def open_folder():
    """A folder that every account may search, other than pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.soak
@pytest.mark.julia
@pytest.mark.skipif(not can_seal(), reason="requires root, setpriv and namespaces")
def test_a_bundle_works_for_any_account_without_network_on_a_read_only_disk(tmp_path, open_folder):
    expected = logits()
    executable, project = julia_executable_and_project()
    made = tmp_path / "gemacht, für 中" / "bundle.tar.gz"
    made.parent.mkdir()
    printed = pymobilenet(list, None, "bundle", made)
    digest = printed.split()[-1]
    assert list(made.parent.iterdir()) == [made]

    folder = open_folder / "a bundle, für 中"
    environment = without_choices() | {"PYTHONPATH": os.pathsep.join(sys.path)}
    depots = os.environ.get("JULIA_DEPOT_PATH") or os.path.expanduser("~/.julia")
    julia = Path(os.path.realpath(executable)).parents[1]
    hidden = [path for path in (*depots.split(":"), julia, project) if os.path.isdir(path)]
    seal = without_choices() | {
        "FOLDER": str(folder),
        "HIDDEN": " ".join(shlex.quote(str(path)) for path in hidden),
    }
    alone = {"PATH": os.environ["PATH"], "PYTHONPATH": environment["PYTHONPATH"]}
    alone[BUNDLE_VARIABLE] = str(folder)

    def without_network(command):
        return ["unshare", "-n", *command]

    def sealed(command):
        variables = [f"{name}={value}" for name, value in alone.items()]
        command = as_another_account(["env", "-i", *variables, *command])
        return ["unshare", "-m", "-n", "bash", "-c", SEAL, "bash", *command]

    printed = pymobilenet(
        without_network, environment, "bundle", "--use", made, folder, "--sha256", digest
    )
    assert f"export {BUNDLE_VARIABLE}={shlex.quote(str(folder))}" in printed
    before = files(folder)
    assert logits(sealed, seal) == expected
    assert logits(sealed, seal, "isolated") == expected
    assert "Julia BLAS" in pymobilenet(sealed, seal, "doctor")
    assert f"({folder}/julia/bin/julia, of a bundle)" in pymobilenet(sealed, seal, "backends")
    assert files(folder) == before

    bundle = InstalledBundle(folder)
    (library,) = (folder / "depot/compiled").glob("*/NNlib/*.so")
    library.unlink()
    _, packages = uncompiled(bundle, without_choices() | bundle.environment())
    assert packages == ["Flux", "MobileNets"]
