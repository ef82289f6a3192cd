"""`pymobilenet bundle`: making, unpacking and choosing a bundle; a script takes Julia's place."""

import json
import os
import platform
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from accounts import CAN_USE_ANOTHER_ACCOUNT, as_another_account
from typer.testing import CliRunner

from pymobilenet.backends.julia import environment, executable, project
from pymobilenet.backends.julia.bundle import archive, info, installed, make, use
from pymobilenet.backends.julia.bundle.copying import copy_julia, copy_package
from pymobilenet.backends.julia.bundle.installed import BUNDLE_VARIABLE, InstalledBundle
from pymobilenet.cli import app
from pymobilenet.data.cache import cache_dir
from pymobilenet.errors import BackendUnavailable, DataError

JULIA = r"""#!/bin/sh
here=$(dirname "$(dirname "$0")")
case "$*" in
  --version) echo julia version 1.10.8; exit ;;
esac
echo "$*" >> "$CALLS"
case "$*" in
  *stage.jl*)
    for folder; do :; done
    mkdir -p "$folder/project"; echo > "$folder/project/Project.toml"
    printf 'julia\0julia\0001.10.8\0%s\0julia\n' "$here"
    printf 'package\0MobileNets\0000.1.0\0%s\0depot/dev/MobileNets\n' "$MOBILENETS"
    printf 'package\0PythonCall\000%s\0%s\0depot/packages/PythonCall/ab\n' "$JULIACALL" "$PACKAGE"
    printf 'artifact\0PythonCall\000%s\0%s\0depot/artifacts/12\n' "$JULIACALL" "$PACKAGE/src" ;;
  *compile.jl*)
    mkdir -p "$here/../depot/compiled/v1.10" "$here/../depot/logs"
    echo compiled > "$here/../depot/compiled/v1.10/a.ji"
    touch "$here/../depot/compiled/v1.10/a.pidfile"
    printf '%s\n/lib/libLLVM.so.1\n/lib/libm.so.6\nlinux-vdso.so.1\n' "$here/lib/libjulia.so" ;;
  *relocate.jl*)
    mkdir -p "$(dirname "$here")/depot/compiled/v1.10"
    echo relocated > "$(dirname "$here")/depot/compiled/v1.10/a.ji" ;;
  *check.jl*) echo znver3 $UNCOMPILED ;;
esac
"""


def julia_folder(path, script=JULIA):
    """A folder of Julia, with links as in its own: inside, outside, and to nothing."""
    for name in ("bin/julia", "lib/julia/sys.so", "lib/libjulia.so.1", "share/julia/base/a.jl"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(script if name == "bin/julia" else name)
    (path / "bin/julia").chmod(0o555)
    (path / "LICENSE.md").write_text("MIT")
    (path / "lib/libjulia.so").symlink_to("libjulia.so.1")
    outside = path.parent / "libgmp.so.10"
    outside.write_text("gmp")
    (path / "lib/julia/libgmp.so").symlink_to(outside)
    (path / "lib/julia/libgmp.so.10").symlink_to("libgmp.so")
    (path / "lib/julia/libgmp-again.so").symlink_to(outside)
    (path / "lib/julia/nothing.so").symlink_to("not-here.so")
    return path


@pytest.fixture
def starts(tmp_path, monkeypatch):
    """A Julia and a package, chosen by the environment; the environments of backend starts."""
    package = tmp_path / "source" / "PythonCall"
    (package / "src").mkdir(parents=True)
    (package / "test").mkdir()
    for name in ("LICENSE", "src/PythonCall.jl", "test/runtests.jl"):
        (package / name).write_text(name)
    julia = julia_folder(tmp_path / "source" / "julia")
    values = {
        "PYTHON_JULIACALL_EXE": str(julia / "bin/julia"),
        "PYTHON_JULIACALL_PROJECT": str(tmp_path),
        "MOBILENETS": str(info.julia_package()),
        "PACKAGE": str(package),
        "JULIACALL": info.metadata.version("juliacall"),
        "CALLS": str(tmp_path / "calls"),
        "UNCOMPILED": "",
        "PYMOBILENET_DATA": str(tmp_path / "cache"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    for name in ("JULIA_CPU_TARGET", "PYTHON_JULIACALL_SYSIMAGE", BUNDLE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    starts = []
    monkeypatch.setattr(make, "start_backend", lambda environment: starts.append(environment))
    monkeypatch.setattr(use, "start_backend", lambda environment, _hint: starts.append(environment))
    return starts


def command(*words):
    return CliRunner().invoke(app, ["bundle", *map(str, words)])


def entries(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def digest(path):
    with archive.open_archive(path) as opened:
        return opened.digest


@pytest.fixture
def bundle(starts, tmp_path):
    """A bundle, in a folder of its own."""
    path = tmp_path / "made" / "bundle.tar.gz"
    path.parent.mkdir()
    result = command(path)
    assert result.exit_code == 0, result.output
    assert entries(path.parent) == {"bundle.tar.gz"}
    assert len(starts) == 1
    assert result.stdout.split()[-1] == digest(path)
    return path


def test_a_bundle_holds_julia_its_packages_the_project_and_licences(bundle, starts, tmp_path):
    (start,) = starts
    staged = Path(start["PYTHON_JULIACALL_EXE"]).parents[2]
    assert start["JULIA_DEPOT_PATH"] == f"{staged}/depot:{staged}/julia/share/julia"
    assert start["PYTHON_JULIACALL_PROJECT"] == f"{staged}/project"
    assert not staged.exists()
    out = tmp_path / "out"
    out.mkdir()
    with archive.open_archive(bundle) as opened:
        opened.unpack(out, lambda: None)
    names = entries(out)
    assert {name for name in names if not name.startswith("depot/dev/MobileNets/")} == {
        *("julia/bin/julia", "julia/lib/julia/sys.so", "julia/lib/julia/libgmp.so"),
        *("julia/lib/julia/libgmp.so.10", "julia/lib/julia/libgmp-again.so"),
        *("julia/lib/libjulia.so", "julia/lib/libjulia.so.1", "julia/share/julia/base/a.jl"),
        *("julia/LICENSE.md", "project/Project.toml", "licences/packages.txt"),
        *("depot/packages/PythonCall/ab/LICENSE", "depot/packages/PythonCall/ab/src/PythonCall.jl"),
        *("depot/artifacts/12/PythonCall.jl", "depot/compiled/v1.10/a.ji"),
    }
    assert "depot/dev/MobileNets/src/MobileNets.jl" in names
    assert not any(name.startswith("depot/dev/MobileNets/test") for name in names)
    assert (out / "julia/lib/julia/libgmp.so").read_text() == "gmp"
    copies = [out / "julia/lib/julia" / f"libgmp{end}" for end in (".so", ".so.10", "-again.so")]
    assert [os.path.realpath(copy) for copy in copies].count(f"{copies[2]}") == 3
    assert os.readlink(out / "julia/lib/libjulia.so") == "libjulia.so.1"
    licences = (out / "licences/packages.txt").read_text()
    assert "julia 1.10.8: julia/LICENSE.md" in licences
    assert "depot/packages/PythonCall/ab/LICENSE" in licences
    about = opened.manifest.info
    assert (about.julia, about.processor) == ("1.10.8", "znver3")
    assert about.libraries == "libLLVM.so.1"
    assert about.folder == str(staged)
    assert about.problem() is None


STRANGE = "a folder/mit Blanks, Grün und 中"


def unpack(bundle, folder, *options):
    folder.parent.mkdir(parents=True, exist_ok=True)
    return command("--use", bundle, folder, *options)


def test_a_bundle_is_used_from_any_folder_and_chosen_by_a_variable(
    bundle, starts, tmp_path, monkeypatch
):
    folder = tmp_path / STRANGE
    result = unpack(bundle, folder, "--sha256", digest(bundle).upper())
    assert result.exit_code == 0, result.output
    assert entries(folder.parent) == {f"{folder.name}/{name}" for name in entries(folder)}
    assert (folder / "depot/compiled/v1.10/a.ji").read_text() == "relocated\n"
    first, *_, relocate, check = Path(os.environ["CALLS"]).read_text().splitlines()
    made, start = starts
    staged = Path(made["PYTHON_JULIACALL_EXE"]).parents[2]
    assert "/stage.jl " in first
    assert relocate.endswith(f"/bundle {staged} {folder}")
    assert f"--project={folder}/project" in check
    assert start[BUNDLE_VARIABLE] == str(folder)
    assert "PYTHON_JULIACALL_EXE" not in start
    assert f"export {BUNDLE_VARIABLE}={shlex.quote(str(folder))}\n" in result.stdout
    assert "PYTHON_JULIACALL_EXE is set and comes first: unset it" in result.stdout

    monkeypatch.setenv(BUNDLE_VARIABLE, str(folder))
    assert installed.chosen_bundle() is None
    monkeypatch.delenv("PYTHON_JULIACALL_EXE")
    monkeypatch.delenv("PYTHON_JULIACALL_PROJECT")
    monkeypatch.setenv("JULIA_DEPOT_PATH", "/mine")
    assert executable.find_julia() == f"{folder}/julia/bin/julia"
    assert project.is_set_up()
    assert project.julia_executable_and_project() == (
        f"{folder}/julia/bin/julia",
        f"{folder}/project",
    )
    project.ensure_julia()
    with environment.environment_of_start():
        assert os.environ["PYTHON_JULIACALL_EXE"] == f"{folder}/julia/bin/julia"
        assert os.environ["JULIA_DEPOT_PATH"].startswith(f"{folder}/depot:")
    assert os.environ["JULIA_DEPOT_PATH"] == "/mine"
    assert "PYTHON_JULIACALL_EXE" not in os.environ


@pytest.fixture
def unpacked(bundle, tmp_path, monkeypatch):
    """The folder of a bundle that the environment chooses."""
    folder = tmp_path / "unpacked"
    assert unpack(bundle, folder).exit_code == 0
    for name in ("EXE", "PROJECT"):
        monkeypatch.delenv(f"PYTHON_JULIACALL_{name}")
    monkeypatch.setenv(BUNDLE_VARIABLE, str(folder))
    return folder


def test_a_bundle_is_available_after_a_start_on_this_kind_of_processor(unpacked, monkeypatch):
    path = InstalledBundle(unpacked).executable
    assert executable.status() == f"not started yet ({path}, of a bundle)"
    executable.record_start(path)
    assert executable.status() == f"available ({path})"
    monkeypatch.setattr(executable, "processor_features", lambda: "others")
    assert executable.status() == f"not started yet ({path}, of a bundle)"
    monkeypatch.setenv("UNCOMPILED", "Flux NNlib")
    with pytest.raises(BackendUnavailable, match=r"is for znver3, and cannot .* Flux, NNlib"):
        executable.try_new_julia()


def problem_of_the_start():
    with pytest.raises(BackendUnavailable) as raised:
        project.ensure_julia()
    assert f"{BUNDLE_VARIABLE}: " in str(raised.value)
    assert f"unset {BUNDLE_VARIABLE}" in str(raised.value)
    assert executable.status().startswith("unavailable: ")
    return str(raised.value)


def change_info(folder, **changes):
    path = folder / installed.RECORD
    record = json.loads(path.read_text())
    record["info"] |= changes
    path.write_text(json.dumps(record))


def test_a_folder_that_was_moved_is_refused_except_with_a_julia_that_can_be_moved(
    unpacked, monkeypatch, tmp_path
):
    (tmp_path / "link").symlink_to(unpacked)
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tmp_path / "link"))
    project.ensure_julia()
    moved = unpacked.rename(tmp_path / "moved")
    monkeypatch.setenv(BUNDLE_VARIABLE, str(moved))
    assert f"was unpacked as {unpacked}" in problem_of_the_start()
    change_info(moved, julia="1.11.3")
    project.ensure_julia()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"folder": 1}', '{"folder": "/"}'])
def test_a_folder_without_a_record_is_refused(unpacked, content):
    (unpacked / installed.RECORD).unlink()
    if content is not None:
        (unpacked / installed.RECORD).write_text(content)
    assert "is not a folder of `pymobilenet bundle --use`" in problem_of_the_start()


OTHERS = {
    "another architecture": (
        {"machine": "vax"},
        f"the bundle is for linux on vax, and this machine is {sys.platform} on "
        f"{platform.machine()}",
    ),
    "another system": ({"system": "plan9"}, "the bundle is for plan9 on "),
    "a newer glibc": ({"glibc": "2.999"}, "the bundle requires glibc 2.999 or later, and this"),
    "another Julia code": (
        {"code": "0" * 64, "pymobilenet": "0.0.1"},
        "the bundle was made by pymobilenet 0.0.1, and its Julia code differs",
    ),
    "another juliacall": (
        {"juliacall": "0.9.1"},
        "the bundle holds PythonCall 0.9.1, and the installed juliacall is ",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_bundle_for_another_machine_or_version_is_refused_in_a_sentence(
    unpacked, tmp_path, monkeypatch, kind
):
    changes, sentence = OTHERS[kind]
    change_info(unpacked, **changes)
    assert sentence in problem_of_the_start()
    monkeypatch.delenv(BUNDLE_VARIABLE)
    about = info.BundleInfo.from_dict(json.loads((unpacked / installed.RECORD).read_text())["info"])
    (unpacked / installed.RECORD).unlink()
    other = tmp_path / "made" / "other.tar"
    archive.write_archive(other, unpacked, make.list_files(unpacked, about))
    result = unpack(other, tmp_path / "out")
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_glibc_is_required_as_the_libraries_say(tmp_path, monkeypatch):
    library = tmp_path / "lib.so"
    names = (b"GLIBC_2.2.5", b"GLIBC_2.34", b"GLIBC_2.9", b"XGLIBC_2.99", b"GLIBC_2.98x")
    library.write_bytes(b"\x7fELF" + b"\0".join((b"", *names, b"")))
    text = tmp_path / "notes.txt"
    text.write_bytes(b"\0GLIBC_2.97\0")
    assert info.required_glibc([library, text]) == "2.34"
    assert info.required_glibc([text]) == ""
    library.write_bytes(b"\x7fELF\0GLIBC_2.4\0GLIBC_ABI_DT_RELR\0")
    assert info.required_glibc([library]) == "2.36"
    about = info.BundleInfo(**dict.fromkeys(info.BundleInfo.__annotations__, ""))
    about = info.dataclasses.replace(
        about, system=sys.platform, machine=platform.machine(), glibc="2.9"
    )
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.10")
    assert "glibc" not in about.problem()
    monkeypatch.setattr(os, "confstr", lambda _: None)  # musl
    assert "and this machine has another C library" in about.problem()


REFUSED = {
    "no file": (("--use", "{out}/nothing.tar", "{out}/new"), "a bundle must be a file"),
    "a folder that is not empty": (("--use", "{bundle}", "{made}"), "must be new or empty"),
    "a file": (("--use", "{bundle}", "{bundle}"), "must be new or empty"),
    "no folder above": (("--use", "{bundle}", "{out}/a/b"), "must be in an existing folder"),
    "a colon": (("--use", "{bundle}", "{out}/a:b"), "must have no :, which separates"),
    "a line feed": (("--use", "{bundle}", "{out}/a\nb"), "and no control characters"),
    "another digest": (
        ("--use", "{bundle}", "{out}/new", "--sha256", "00"),
        "is another bundle: the SHA-256 of its manifest is ",
    ),
    "no folder": (("--use", "{bundle}"), "with --use, a bundle and a folder are required"),
    "a folder without --use": (("{bundle}", "{out}/new"), "without it, only a bundle"),
    "another ending": (("{out}/bundle.zip",), "name ends with .tar, .tar.gz, .tgz"),
    "no folder to write to": (("{out}/a/bundle.tar",), "must be a file in an existing folder"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_words_that_are_not_understood_change_nothing(bundle, tmp_path, kind):
    words, rule = REFUSED[kind]
    out = tmp_path / "refused"
    out.mkdir()
    places = {"bundle": bundle, "made": bundle.parent, "out": out}
    result = command(*(word.format(**places) for word in words))
    assert result.exit_code == 2
    assert rule in result.stderr
    assert not list(out.iterdir())
    assert entries(bundle.parent) == {"bundle.tar.gz"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["relocate", "write_record", "start_backend"])
def test_nothing_is_left_of_a_folder_that_could_not_be_made(
    bundle, tmp_path, monkeypatch, step, error
):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(use, step, fail)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(type(error)):
        use.use_bundle(bundle, out / "new", lambda *_: lambda: None)
    assert not list(out.iterdir())


def test_an_empty_folder_is_filled_and_a_damaged_bundle_leaves_it_empty(bundle, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(bundle.read_bytes()[:-2000])
    result = unpack(damaged, out)
    assert result.exit_code == 2
    assert "was changed or truncated" in result.stderr
    assert entries(out) == set()
    assert unpack(bundle, out).exit_code == 0
    assert (out / "julia/bin/julia").is_file()


def test_code_for_another_processor_is_refused_and_removed(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("UNCOMPILED", "Flux")
    result = unpack(bundle, tmp_path / "new")
    assert result.exit_code == 2
    assert "is for znver3, and cannot be used on this processor, znver3" in result.stderr
    assert "JULIA_CPU_TARGET" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_failure_while_a_bundle_is_made_leaves_nothing(starts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setenv("UNCOMPILED", "Flux")
    result = command(out / "bundle.tar")
    assert result.exit_code == 2
    assert "Julia does not take what it compiled: Flux" in result.stderr
    assert len(starts) == 1
    other = tmp_path / "other"
    shutil.copytree(info.julia_package(), other)
    (other / "src" / "new.jl").touch()
    monkeypatch.setenv("MOBILENETS", str(other))
    result = command(out / "bundle.tar")
    assert result.exit_code == 2
    assert f"holds another MobileNets.jl ({other})" in result.stderr
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", str(tmp_path / "source/julia/lib/libjulia.so.1"))
    assert "the Julia backend is unavailable" in command(out / "bundle.tar").stderr
    assert not list(out.iterdir())


def test_of_a_shared_folder_only_julia_is_copied_without_tests(tmp_path):
    source = julia_folder(tmp_path / "usr")
    for name in (
        *("bin/other", "lib/other.so", "share/other/a", "lib64/julia/a.so", "etc/julia/startup.jl"),
        *("share/julia/test/a.jl", "share/julia/stdlib/v1.10/Dates/test/a.jl"),
        *("share/julia/stdlib/v1.10/Dates/src/Dates.jl", "libexec/julia/lld"),
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    (source / "lib/julia/other.so").symlink_to("../other.so")
    (source / "share/julia/base/test.jl").symlink_to("../test/a.jl")  # which is not copied
    copy_julia(source, tmp_path / "copy")
    assert entries(tmp_path / "copy") == {
        *("bin/julia", "etc/julia/startup.jl", "lib/julia/libgmp.so", "lib/julia/sys.so"),
        *("lib/julia/libgmp.so.10", "lib/julia/libgmp-again.so"),
        *("lib/julia/other.so", "lib/libjulia.so", "lib/libjulia.so.1", "lib64/julia/a.so"),
        *("libexec/julia/lld", "LICENSE.md", "share/julia/base/a.jl"),
        "share/julia/stdlib/v1.10/Dates/src/Dates.jl",
    }
    assert not (tmp_path / "copy/lib/julia/other.so").is_symlink()
    mode = (tmp_path / "copy/bin/julia").stat().st_mode
    assert stat.S_IMODE(mode) == 0o755


def test_a_package_is_copied_without_tests_docs_and_git(tmp_path):
    for name in ("src/a.jl", "src/test/b.jl", "test/c.jl", "docs/d.md", ".git/e", "Project.toml"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).touch()
    copy_package(tmp_path / "source", tmp_path / "copy")
    assert entries(tmp_path / "copy") == {"src/a.jl", "src/test/b.jl", "Project.toml"}


def test_a_bundle_and_a_system_image_exclude_each_other(unpacked, monkeypatch):
    monkeypatch.setenv("PYTHON_JULIACALL_SYSIMAGE", str(unpacked))
    with pytest.raises(BackendUnavailable, match="must not be set together"):
        environment.check_environment()


def test_an_account_without_a_home_folder_lists_and_starts_backends(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "PYMOBILENET_DATA"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_number):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(DataError, match="set PYMOBILENET_DATA to a folder"):
        cache_dir()
    executable.record_start(sys.executable)
    assert not executable.was_started(sys.executable)
    monkeypatch.setenv(environment.HOME_VARIABLE, "")
    monkeypatch.delenv(environment.HOME_VARIABLE)
    with environment.environment_of_start():
        pass
    assert os.environ[environment.HOME_VARIABLE] == "0"


@pytest.mark.skipif(not CAN_USE_ANOTHER_ACCOUNT, reason="requires root and setpriv")
def test_the_command_runs_in_an_account_that_does_not_exist():
    done = subprocess.run(
        as_another_account([sys.executable, "-m", "pymobilenet.cli", "backends"]),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHON_JULIAPKG_OFFLINE": "yes",
        },
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "numpy  available" in done.stdout
