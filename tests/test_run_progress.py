"""What `train` prints during and after each epoch, and what the log says of the evaluation."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console
from run_files import lines_of, write_images, write_recipe

from pymobilenet import backend
from pymobilenet.cli import run_progress
from pymobilenet.cli.run_progress import evaluation_share, show_run_progress
from pymobilenet.training import begin, load_recipe, resume
from pymobilenet.training import run as run_module
from pymobilenet.training.checkpoint import LAST, read_checkpoint


class Clock:
    """Seconds that pass with each step and each evaluation."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def recipe(tmp_path, images):
    return load_recipe(write_recipe(tmp_path), [f"data={images}"])


@pytest.fixture
def consoles(monkeypatch):
    """The standard output and the standard error, which are no terminals."""
    outputs = {name: io.StringIO() for name in ("console", "errors")}
    for name, output in outputs.items():
        monkeypatch.setattr(run_progress, name, Console(file=output, width=200))
    return outputs


def train_watched(run, monkeypatch, step=2.0, evaluation=10.0, **options):
    """Train with a clock that only steps and evaluations advance."""
    clock, take_step, evaluate = Clock(), run.model.step, run_module.evaluate

    def slow_step(*batch):
        clock.now += step
        return take_step(*batch)

    def slow_evaluate(*arguments, **keywords):
        clock.now += evaluation / 2  # there are two
        return evaluate(*arguments, **keywords)

    monkeypatch.setattr(run.model, "step", slow_step)
    monkeypatch.setattr(run_module, "evaluate", slow_evaluate)
    monkeypatch.setattr(run_module, "time", SimpleNamespace(perf_counter=clock))
    with show_run_progress(run, clock) as (on_step, on_line):
        return run.train([on_step], [on_line], **options)


def test_each_epoch_ends_with_its_seconds_the_time_left_and_the_memory(
    recipe, tmp_path, consoles, monkeypatch
):
    """3 epochs of 4 steps of 2 s, each with an evaluation of 10 s."""
    train_watched(begin(recipe, backend("torch"), tmp_path / "run"), monkeypatch)
    lines = consoles["console"].getvalue().splitlines()
    assert [re.findall(r"  (\S+ left)  ", line) for line in lines] == [
        ["0:00:36 left"],
        ["0:00:18 left"],
        [],
    ]
    for line, entry in zip(lines, lines_of(tmp_path / "run", ()), strict=True):
        assert "  18.0 s, evaluation 10.0 s  " in line
        assert f"memory {entry['memory_bytes'] / 1e9:.2f} GB" in line
    assert consoles["errors"].getvalue() == ""


def test_a_resumed_run_measures_its_own_epochs_only(recipe, tmp_path, consoles, monkeypatch):
    run = begin(recipe, backend("torch"), tmp_path / "run")
    train_watched(run, monkeypatch, step=500, is_stopping=lambda: run.state.step >= 6)
    monkeypatch.undo()
    for name, output in consoles.items():
        monkeypatch.setattr(run_progress, name, Console(file=output, width=200))
    train_watched(resume(tmp_path / "run", backend("torch")), monkeypatch)
    lines = consoles["console"].getvalue().splitlines()
    assert ["0:00:18 left" in line for line in lines] == [False, True, False]


def test_a_run_with_patience_has_at_most_that_time_left(recipe, tmp_path, consoles, monkeypatch):
    """Without a rate no epoch is better than the first; 9 epochs would be 8 more of 18 s."""
    changes = [f"data={recipe.run.data}", "rate=0", "ema_decay=0", "epochs=9", "patience=2"]
    patient = load_recipe(write_recipe(tmp_path), changes)
    run = begin(patient, backend("torch"), tmp_path / "run")
    assert train_watched(run, monkeypatch) == "no better epoch in a while"
    first, *_, last = consoles["console"].getvalue().splitlines()
    assert "  at most 0:02:24 left  " in first
    assert "left" not in last


def test_without_a_terminal_a_long_epoch_prints_a_line_each_minute(
    recipe, tmp_path, consoles, monkeypatch
):
    """Steps of 25 s: a line is due after the third step of an epoch, at 75 s."""
    train_watched(begin(recipe, backend("torch"), tmp_path / "run"), monkeypatch, step=25.0)
    lines = consoles["errors"].getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"epoch {epoch}/3, step 3/4" for epoch in (1, 2, 3)
    ]
    # 9 steps and 3 evaluations of 16 images, each as long as 16 / 3 images of a step of 8
    assert "0:04:35 left" in lines[0]
    for line in lines:
        assert re.search(r"  loss \d.*  75\.0 s  .* left  memory [\d.]+ GB$", line)


def test_on_a_terminal_the_bar_shows_the_time_left_of_the_run(
    recipe, tmp_path, consoles, monkeypatch
):
    terminal = Console(file=consoles["errors"], width=150, force_terminal=True)
    monkeypatch.setattr(run_progress, "errors", terminal)
    bar = run_progress.Progress.update
    monkeypatch.setattr(
        run_progress.Progress,
        "update",
        lambda self, *task, **fields: (bar(self, *task, **fields), self.refresh()),
    )
    train_watched(begin(recipe, backend("torch"), tmp_path / "run"), monkeypatch)
    shown = consoles["errors"].getvalue()
    assert re.search(r"epoch 2/3.*3/4.*  6\.0 s  0:00:30 left  memory [\d.]+ GB", shown)


def test_the_log_says_how_long_the_evaluation_took(recipe, tmp_path, consoles, monkeypatch):
    train_watched(begin(recipe, backend("torch"), tmp_path / "run"), monkeypatch)
    for line in lines_of(tmp_path / "run", ()):
        assert (line["seconds"], line["evaluation_seconds"]) == (4 * 2, 10)
        assert line["memory_bytes"] > 10**7
    assert consoles["console"].getvalue().count("18.0 s, evaluation 10.0 s") == 3


def wait_in_each_step(monkeypatch, seconds):
    """Let every step wait that long for its batch, by what the run is told."""

    class Waiting(run_module.Prefetch):
        steps = 0

        def at(self, step):
            batch = super().at(step)
            self.steps += 1
            self.wait_seconds = self.steps * seconds
            return batch

    monkeypatch.setattr(run_module, "Prefetch", Waiting)


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "waited for batches 25.0%"), (0.015, None)])
def test_the_log_says_how_long_steps_waited_for_their_batches(
    recipe, tmp_path, consoles, monkeypatch, seconds, text
):
    """Steps take 2 s; a share of more than 1 % is printed, here 25 % or 0.75 %."""
    wait_in_each_step(monkeypatch, seconds)
    train_watched(begin(recipe, backend("torch"), tmp_path / "run"), monkeypatch)
    lines = lines_of(tmp_path / "run", ())
    assert [line["data_wait_seconds"] for line in lines] == [pytest.approx(4 * seconds)] * 3
    assert "data_wait_seconds" in (tmp_path / "run" / "log.csv").read_text().splitlines()[0]
    printed = consoles["console"].getvalue()
    assert printed.count("waited for batches") == (3 if text else 0)
    assert text is None or printed.count(text) == 3


def test_a_resumed_epoch_has_the_waiting_of_both_processes(recipe, tmp_path, monkeypatch):
    wait_in_each_step(monkeypatch, 0.5)
    run = begin(recipe, backend("torch"), tmp_path / "run")
    assert run.train(is_stopping=lambda: run.state.step >= 3) == "interrupted"
    resumed = resume(tmp_path / "run", backend("torch"))
    resumed.train(is_stopping=lambda: resumed.state.step >= 4)
    assert resumed.state.log == []
    again = resume(tmp_path / "run", backend("torch"))
    again.train(is_stopping=lambda: len(again.state.log) == 1)
    assert again.state.log[0]["data_wait_seconds"] == 4 * 0.5


def test_the_share_of_evaluation_is_that_of_all_epochs_that_say_it():
    log = [
        {"seconds": 70.0},  # of an earlier version
        {"seconds": 6.0, "evaluation_seconds": 1.0},
        {"seconds": 2.0, "evaluation_seconds": 1.0},
    ]
    assert evaluation_share(log) == 0.2
    assert evaluation_share(log[:1]) is None
    assert evaluation_share([]) is None


def test_a_run_of_an_earlier_version_is_resumed(recipe, tmp_path):
    """Its epochs have neither seconds of evaluation nor memory; its checkpoint has `watched`."""
    folder = tmp_path / "run"
    run = begin(recipe, backend("torch"), folder)
    run.train(is_stopping=lambda: len(run.state.log) == 1)
    for name in ("evaluation_seconds", "data_wait_seconds", "memory_bytes"):
        del run.state.log[0][name]
    to_json = type(run.run).to_json
    text = to_json(run.run).replace('"train_eval_images"', '"watched"')
    with pytest.MonkeyPatch.context() as context:
        context.setattr(type(run.run), "to_json", lambda _: text)
        run.save()
    assert b"watched" in (folder / LAST).read_bytes()
    resumed = resume(folder, backend("torch"))
    assert resumed.run.train_eval_images == len(resumed.images.train_eval) == 8
    assert resumed.train() == "finished"
    lines = lines_of(folder, ())
    assert ["evaluation_seconds" in line for line in lines] == [False, True, True]
    header, *rows = (folder / "log.csv").read_text().splitlines()
    assert set(header.split(",")) == set(lines[1])
    assert {row.count(",") for row in rows} == {header.count(",")}
    assert read_checkpoint(folder / LAST).state.log == lines
