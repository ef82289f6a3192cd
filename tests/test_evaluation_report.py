"""Tables, JSON and plots of an evaluation."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from known_model import Known, data_with
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data import synthetic
from pymobilenet.evaluation import (
    RunLog,
    evaluate,
    print_evaluation,
    print_prediction,
    print_runs,
    to_dict,
    to_json,
    write_bands,
    write_curves,
    write_evaluation_report,
)
from pymobilenet.evaluation.plots import write_confusion
from pymobilenet.evaluation.run_logs import FIELDS

NAN = float("nan")


def random_case(count, classes, seed=0, more=0):
    rng = np.random.default_rng(seed)
    data = data_with(rng.integers(0, classes, count), classes)
    return evaluate(Known(rng.normal(0, 3, (count, classes + more))), data), data


def right_case():
    return evaluate(Known(np.eye(3)), data_with([0, 1, 2], 3)), data_with([0, 1, 2], 3)


def lost_case():
    return evaluate(Known([[NAN, 0]] * 3), data_with([0, 1, 1], 2)), data_with([0, 1, 1], 2)


def dollar_case():
    result, data = random_case(20, 3)
    return replace(result, class_names=("$", "a$b$", "^{"), source="$x_{$"), data


CASES = {
    "ten classes": random_case(200, 10),
    "a hundred classes": random_case(500, 100),
    "a thousand classes": random_case(100, 1000),
    "one class": random_case(5, 1),
    "more than the data have": random_case(20, 3, more=200),
    "dollars": dollar_case(),
    "nothing missed": right_case(),
    "nothing answered": lost_case(),
}


def printed(show, *arguments):
    console = Console(file=io.StringIO(), width=80)
    show(*arguments, console)
    return console.file.getvalue()


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, in order."""
    saved, save = [], Figure.savefig

    def note(figure, file, **options):
        saved.append(figure)
        save(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", note)
    return saved


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_table_and_plots_of_its_values(tmp_path, figures, case):
    result, data = CASES[case]
    text = printed(print_evaluation, result)
    assert f"{result.top1:.2%}" in text
    assert max(map(len, text.splitlines())) <= 80
    paths = write_evaluation_report(result, data, result.to_dict(), tmp_path / "out")
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    assert json.loads(paths[0].read_text()) == result.to_dict()
    for path in paths[1:]:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) >= 250
            assert max(picture.size) <= 2500
    confusion, classes, reliability, mistakes = figures
    plotted = confusion.axes[0].images[0].get_array()
    assert plotted.shape == (data.num_classes, result.num_classes)
    assert (plotted == result.confusion / np.maximum(result.class_counts, 1)[:, None]).all()
    bars = [bar.get_width() for panel in classes.axes for bar in panel.patches]
    accuracy = np.sort(result.class_accuracy[result.class_counts > 0])[::-1]
    assert bars == [*accuracy[:50], *accuracy[50:][-50:]]
    filled = [one.accuracy for one in result.reliability if one.accuracy is not None]
    assert [bar.get_height() for bar in reliability.axes[0].patches] == filled
    counts = [one.count for one in result.reliability]
    assert [bar.get_height() for bar in reliability.axes[1].patches] == counts
    panels = [panel for panel in mistakes.axes if panel.images]
    assert len(panels) == min(24, len(result.mistakes()))
    for panel, index in zip(panels, result.mistakes(), strict=False):
        true = result.name(result.labels[index])
        assert panel.get_title().startswith(f"true {true}".replace("$", r"\$"))
        assert (panel.images[0].get_array() == data.images[index].transpose(1, 2, 0)).all()


def cell_colour(path, confusion):
    """The colour a confusion matrix of one cell is filled with."""
    write_confusion(confusion, path)
    with Image.open(path) as picture:
        width, height = picture.size
        pixels = np.asarray(picture.convert("RGB"))
    colours, counts = np.unique(
        pixels[height // 3 : height // 2, width // 3 : width // 2].reshape(-1, 3),
        axis=0,
        return_counts=True,
    )
    return colours[counts.argmax()].tolist()


def test_the_confusion_matrix_is_bright_where_images_are(tmp_path):
    right = evaluate(Known([[1.0, 0]]), data_with([0], 1))
    wrong = evaluate(Known([[NAN, 0]]), data_with([0], 1))
    bright, dark = (cell_colour(tmp_path / "a.png", one) for one in (right, wrong))
    assert sum(bright) > 2 * sum(dark)


def test_the_table_has_the_figures():
    text = printed(print_evaluation, CASES["ten classes"][0])
    result = CASES["ten classes"][0]
    assert f"{result.loss:.4f}" in text
    assert all(f"{share:.2%}" in text for share in (result.top1, result.top5, result.ece))
    worst = result.confusions(1)[0]
    assert str(worst.images) in text
    assert "logits" not in text
    assert "logits that are not finite" in printed(print_evaluation, CASES["nothing answered"][0])


def test_json_names_the_backend_and_the_dtype():
    data = synthetic(6, num_classes=5)
    model = backend("torch").build(MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5))
    result = evaluate(model, data, "keras")
    values = json.loads(to_json(to_dict(result, model, "m.safetensors")))
    assert (values["file"], values["backend"], values["dtype"]) == (
        "m.safetensors",
        "torch",
        "float32",
    )
    assert values["versions"] == model.backend.versions()
    assert values["threads"] == model.backend.threads()
    assert values["config"] == model.config.to_dict()
    assert (values["preprocessing"], values["source"]) == ("keras", data.source)
    assert values["top1"] == result.top1


def test_predictions_are_shown_side_by_side():
    result = {"torch": np.array([0.1, 0.6, 0.3]), "julia": np.array([0.1, 0.6001, 0.2999])}
    text = printed(print_prediction, "cat.png", result, ["a", "[bold]b[/]", "c"], 2)
    rows = [line for line in text.splitlines() if "%" in line]
    assert len(rows) == 2
    assert rows[0].split()[0] == "[bold]b[/]"
    assert "60.00%" in rows[0]
    assert "60.01%" in rows[0]
    assert "largest difference of a probability: 1.0e-04" in text
    bars = rows[0].count("━"), rows[1].count("━")
    assert bars[0] == pytest.approx(2 * bars[1], abs=2)


def test_classes_that_only_one_backend_holds_likely_are_shown_too():
    result = {"torch": np.array([0.9, 0.1, 0.0]), "julia": np.array([0.1, 0.0, 0.9])}
    text = printed(print_prediction, "x", result, ["first", "second", "third"], 1)
    assert "first" in text
    assert "third" in text
    assert "second" not in text


def test_one_backend_differs_from_none():
    text = printed(print_prediction, "x", {"torch": np.array([1.0])}, ["a"], 5)
    assert "difference" not in text


def a_run(name, **values):
    return RunLog(name, {key: np.array(values.get(key, [1.0, 0.5])) for key in FIELDS})


def test_runs_are_compared_by_their_best():
    runs = [
        a_run("first", epoch=[1, 2], val_accuracy=[0.25, 0.125]),
        a_run("[x]", epoch=[1, 2], val_loss=[NAN, NAN]),
    ]
    text = printed(print_runs, runs)
    first, second = (line.split() for line in text.splitlines() if "(1)" in line)
    assert first == ["first", "2", "0.5000", "(2)", "25.00%", "(1)", "0.5000", "100.00%", "2"]
    assert second == ["[x]", "2", "-", "100.00%", "(1)", "0.5000", "100.00%", "2"]


def test_a_legend_names_every_run(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    write_curves([a_run(name, epoch=[1, 2]) for name in ("_under", "a")], tmp_path / "curves.png")
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == ["_under", "a", "validation, best marked", "training"]


def test_curves_show_the_accuracy_of_chance(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    write_curves([a_run("a", epoch=[1, 2])], tmp_path / "curves.png", chance=0.01)
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == ["a", "validation, best marked", "training", "chance, 1.00%"]
    loss, accuracy = drawn[0].axes
    assert list(accuracy.lines[-1].get_ydata()) == [0.01, 0.01]
    assert len(accuracy.lines) == len(loss.lines) + 1


def test_a_group_of_runs_is_a_mean_in_a_band(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    runs = [a_run(str(n), epoch=[1, 2], val_accuracy=[0.1 * n, 0.2 * n]) for n in (1, 2, 4)]
    write_bands({"torch": runs, "julia": runs[:2]}, tmp_path / "curves.png")
    accuracy = drawn[0].axes[1]
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == ["torch: mean and range of 3 seeds", "julia: mean and range of 2 seeds"]
    assert accuracy.lines[0].get_ydata() == pytest.approx([0.7 / 3, 1.4 / 3])
    assert accuracy.lines[1].get_ydata() == pytest.approx([0.15, 0.3])
    heights = accuracy.collections[0].get_paths()[0].get_extents()
    assert (heights.y0, heights.y1) == pytest.approx((0.1, 0.8))


def test_a_group_whose_runs_end_after_different_epochs_is_drawn_as_far_as_all_have_come(
    tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    long = RunLog("long", {key: np.array([1.0, 2.0, 3.0]) for key in FIELDS})
    write_bands({"torch": [long, a_run("short", epoch=[1, 2])]}, tmp_path / "curves.png")
    (line,) = drawn[0].axes[1].lines
    assert list(line.get_xdata()) == [1, 2]
    assert line.get_ydata() == pytest.approx([1.0, 1.25])


@pytest.mark.parametrize("count", [1, 3, 60])
def test_curves_of_many_runs_are_drawn(tmp_path, count):
    write_curves([a_run(f"_run ${n}", epoch=[1, 2]) for n in range(count)], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert 1200 < picture.width < 1400
        assert 500 < picture.height < 1000
