"""The code blocks of README and docs run, and their links have targets."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typed_commands
from code_blocks import blocks_of, commands
from typer.main import get_command

from pymobilenet import MobileNetConfig, backend
from pymobilenet.cli import app
from pymobilenet.data import synthetic, write_binary
from pymobilenet.training import begin, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STORY = ROOT / "docs/port-a-model.md"
"""The page whose blocks, in three languages, are one program."""

PROGRAMS = (STORY, ROOT / "docs/stories.md", ROOT / "docs/interop.md")
"""Pages whose blocks are no programs of their own; `test_stories.py` runs the others."""

COMMANDS = get_command(app).commands
NOX_SESSIONS = {
    node.name
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body
    if isinstance(node, ast.FunctionDef) and node.decorator_list
}


def blocks(page, languages):
    return blocks_of(page.read_text(), languages)


def on_pages(languages, pages):
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page in pages
        for number, (_, block) in enumerate(blocks(page, languages))
    ]


@pytest.mark.parametrize("block", on_pages("python", [p for p in PAGES if p not in PROGRAMS]))
def test_a_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {})


def test_the_story_runs_as_far_as_julia(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_story(None)


@pytest.mark.julia
@pytest.mark.slow
def test_all_examples_of_the_page_run(tmp_path, monkeypatch, julia_project):
    monkeypatch.chdir(tmp_path)
    run_story(julia_project)


def run_story(project):
    namespace = {}
    for language, block in blocks(STORY, "python|sh|julia"):
        if language == "python":
            exec(compile(block, STORY.name, "exec"), namespace)
        elif language == "sh":
            for _, *arguments in commands(block):
                done = typed_commands.run(*arguments)
                assert done.exit_code == 0, done.output
        elif project is None:
            return
        else:
            earlier = [code for _, code in blocks(STORY, "julia")]
            run_julia("\n".join(earlier[: earlier.index(block) + 1]), project)


@pytest.mark.julia
@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if p not in PROGRAMS and blocks(p, "julia")], ids=str
)
def test_the_julia_blocks_of_a_page_run(page, tmp_path, monkeypatch, julia_project):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "julia").symlink_to(ROOT / "julia")
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100)
    backend("torch").build(config).save("model.safetensors")
    write_binary(synthetic(256), "cifar-100-binary")
    write_binary(synthetic(100, "test"), "cifar-100-binary", "test")
    changes = ["limit=256", "epochs=1", "train_eval_images=10", "width_mult=0.05"]
    steps = []
    run = begin(load_recipe("smoke", changes), backend("torch"), "run")
    run.train([steps.append], is_stopping=lambda: len(steps) == 3)
    run_julia("\n".join(block for _, block in blocks(page, "julia")), julia_project)


@pytest.fixture(scope="session")
def julia_project(tmp_path_factory):
    """A project as a user of MobileNets.jl has it, with Flux and JLD2 beside it."""
    project = tmp_path_factory.mktemp("project")
    code = f'using Pkg; Pkg.develop(path={str(ROOT / "julia")!r}); Pkg.add(["Flux", "JLD2"])'
    run_julia(code.replace("'", '"'), project)
    return project


def run_julia(code, project):
    from pymobilenet.backends.julia.project import ensure_julia, julia_executable_and_project

    ensure_julia()
    script = project / "blocks.jl"
    script.write_text(code)
    julia, _ = julia_executable_and_project()
    words = [julia, "--startup-file=no", f"--project={project}", str(script)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", on_pages("sh", PAGES))
def test_the_commands_of_a_shell_block_exist(block):
    for command in commands(block):
        check_command(command)


def check_command(words):
    """What a command starts exists, and takes the arguments that it is given."""
    if words[0] in ("export", "[", "scontrol"):
        return
    if words[0] == "torchrun" or words[0] == "mpiexec":
        words = words[words.index("-m") :] if "-m" in words else ["python", words[-1]]
        words = ["python", *words] if words[0] == "-m" else words
    if words[:3] == ["python", "-m", "pymobilenet.cli"]:
        words = ["pymobilenet", *words[3:]]
    if words[0] == "pymobilenet":
        COMMANDS[words[1]].make_context(words[1], words[2:])
    elif words[:3] == ["python", "-m", "nox"]:
        assert words[3] == "-s"
        assert set(words[4:]) <= NOX_SESSIONS
    elif words[:2] == ["python", "-m"]:
        assert words[2] in ("pip", "juliapkg")
    elif words[0] in ("python", "julia"):
        scripts = [word for word in words if word.endswith((".jl", ".py"))]
        assert all((ROOT / script).exists() or script == "train.py" for script in scripts)
    else:
        pytest.fail(f"no check for {shlex.join(words)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_a_text_exist(page):
    for text in re.findall(r"`(pymobilenet [a-z][^`]*)`", page.read_text()):
        command, *words = text.split()[1:]
        known = {option for one in COMMANDS[command].params for option in one.opts}
        assert {word for word in words if word.startswith("-")} <= known | {"--help"}
    for session in re.findall(r"nox\s+-s\s+([a-z]+)", page.read_text()):
        assert session in NOX_SESSIONS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_to_a_heading(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text())
    for path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in headings(target), f"{path}#{anchor}"


def headings(page):
    """The anchors that GitHub and MkDocs give the headings of a page."""
    texts = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_there_are_blocks_of_every_language():
    for language in ("python", "sh", "julia"):
        assert len(on_pages(language, PAGES)) >= 5
