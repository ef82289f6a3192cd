"""The files that a comparison writes, and the command."""

import copy
import hashlib
import html
import json
import platform
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from diff.nets import SHAPE, Net, images
from diff.training_nets import LABELS, TrainedNet
from diff.training_nets import images as training_images
from torch import nn
from typer.testing import CliRunner

from pymobilenet.backends.trace import Layer
from pymobilenet.cli import app
from pymobilenet.parity.diff import Comparison, DiffReport, PairRow, compare
from pymobilenet.parity.diff import page as page_module
from pymobilenet.parity.diff.page import as_html
from pymobilenet.parity.diff.result import Inputs

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture
def report():
    wrong = Net()
    wrong.stem_norm.eps = 1e-3
    return compare(Net(), wrong, inputs=images())


def test_json_and_junit_say_what_differs(report, tmp_path):
    report.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert not content["passed"]
    (comparison,) = content["comparisons"]
    assert [fault["name"] for fault in comparison["faults"]] == ["eps of a norm"]
    assert len(comparison["layers"]) == 19
    suite = ET.parse(tmp_path / "report.xml").getroot()[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed[0] == "stem_norm"
    assert int(suite.get("tests")) == 2 * 19 + 1
    assert int(suite.get("failures")) == len(failed)


def test_the_page_is_one_file_with_every_layer(report, tmp_path):
    report.save(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert page.count('class="bars"') == 19
    assert "eps is 0.001 instead of 1e-05" in page


def test_the_page_says_how_to_repeat_it_and_on_which_machine(report):
    digest = hashlib.sha256(images().tobytes()).hexdigest()
    page = as_html(report)
    for words in (digest, "float64, 3x3x12x12", platform.python_version(), torch.__version__):
        assert words in page
    assert "compare(*models, inputs=inputs)" in page
    command = 'pymobilenet diff "<a>" b'
    page = as_html(report, command)
    assert html.escape(command, quote=True).replace("&quot;", "&#34;") in page
    assert "compare(*models" not in page
    content = report.as_dict()
    assert content["inputs"] == {"shape": [3, *SHAPE], "dtype": "float64", "sha256": digest}
    assert platform.machine() in content["machine"]


def test_the_heat_map_and_the_curves_show_every_layer_in_floors(report):
    section = page_module._section(report.comparisons[0])
    assert [quantity for quantity, _ in section["heat"]] == [
        "output, whole model",
        "output, layer alone",
    ]
    rows = report.comparisons[0].rows
    (_, whole), (_, alone) = section["heat"]
    assert [name for name, _ in whole] == [row.name for row in rows]
    norm = [row.name for row in rows].index("stem_norm")
    assert {cell["class"] for _, cell in whole[:norm]} == {"within"}
    assert {cell["class"] for _, cell in whole[norm:]} == {"far"}
    assert [name for name, cell in alone if cell["class"] != "within"] == ["stem_norm"]
    points = [point.split(",") for point in section["plot"]["curves"][0][1].split()]
    assert len(points) == len(rows)
    heights = [float(y) for _, y in points]
    limit = section["plot"]["limit"]
    assert min(heights[:norm]) > limit > max(heights[norm:])


def test_a_group_shows_the_worst_of_its_layers():
    nets = [nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU())] * 2
    nets[1] = copy.deepcopy(nets[0])
    nets[1][0][1].eps = 1e-3
    section = page_module._section(compare(*nets, inputs=images()).comparisons[0])
    group, conv, norm, relu = section["lines"]
    assert group["branch"].names == ("0", "0")
    assert group["fault"] == norm["fault"] == "eps of a norm"
    assert group["cells"] == norm["cells"] != conv["cells"]
    assert relu["branch"].ancestors == ()


def test_a_training_step_adds_quantities_to_the_heat_map():
    other = TrainedNet()
    other.norm.momentum = 0.9
    report = compare(TrainedNet(), other, inputs=training_images(), labels=LABELS)
    section = page_module._section(report.comparisons[0])
    heat = dict(section["heat"])
    assert list(heat)[2:] == ["output in training mode", "gradient", "running statistics"]
    assert [name for name, cell in heat["running statistics"] if cell] == ["norm", "block.1"]
    far = [name for name, cell in heat["running statistics"] if cell and cell["class"] == "far"]
    assert far == ["norm"]
    assert len([cell for _, cell in heat["gradient"] if cell]) == 5
    page = as_html(report)
    assert "gradient, block.0: weight" in page


@pytest.mark.parametrize("error", [0.0, 1e-300, float("inf")])
def test_any_error_can_be_drawn(error):
    layer = Layer("a", "other", (), np.full((2, 2), error))
    rows = (PairRow(layer, layer, error, 1e-15), PairRow(layer, None))
    comparison = Comparison("a", "b", "float64", rows, error, 1e-15, (), None)
    report = DiffReport(("a", "b"), (comparison,), {}, Inputs((2, 2), "float64", ""))
    page = as_html(report)
    assert "nan" not in page.replace("diagnosis", "")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a report from the disk in a narrow window; a message in the console is an error."""
    messages = []

    def open_page(report, folder):
        report.save(folder)
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("console", lambda message: messages.append(message.text))
        page.goto((folder / "report.html").as_uri())
        return page

    yield open_page
    assert not messages


@pytest.mark.browser
@pytest.mark.docs
def test_the_page_is_used_by_keyboard(opened, tmp_path):
    wrong = copy.deepcopy(deep_net(2))
    wrong[1][1].eps = 1e-3
    page = opened(compare(deep_net(2), wrong, inputs=images()), tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    layer = page.get_by_role("button", name="1.1", exact=True)
    layer.focus()
    page.keyboard.press("Enter")
    assert layer.get_attribute("aria-expanded") == "true"
    assert page.locator(".bars:visible").count() == 1
    group = page.get_by_role("button", name="1", exact=True)
    group.focus()
    page.keyboard.press("Space")
    assert group.get_attribute("aria-expanded") == "false"
    assert not layer.is_visible()
    assert page.locator(".bars:visible").count() == 0
    page.keyboard.press("Enter")
    assert page.locator(".bars:visible").count() == 1


@pytest.mark.browser
@pytest.mark.docs
def test_text_is_readable_in_the_dark_and_in_the_light(opened, report, tmp_path):
    page = opened(report, tmp_path)
    backgrounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page_colour = rgb(page, "body", "backgroundColor")
        backgrounds.append(page_colour)
        for place in ("body", "td.within", "td.far", "pre", ".verdict"):
            behind = blended(rgb(page, place, "backgroundColor"), page_colour)
            assert contrast(rgb(page, place, "color"), behind) >= 4.5, (scheme, place)
    assert not np.array_equal(*backgrounds)


def rgb(page, selector, name):
    """Red, green, blue from 0 to 1, and opacity."""
    script = """([selector, name]) => {
        const context = document.createElement("canvas").getContext("2d");
        context.fillStyle = getComputedStyle(document.querySelector(selector))[name];
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    }"""
    return np.array(page.evaluate(script, [selector, name])) / 255


def blended(colour, behind):
    return np.append(colour[:3] * colour[3] + behind[:3] * (1 - colour[3]), 1.0)


def contrast(first, second):
    """The contrast ratio of WCAG 2."""
    lights = sorted(
        float(
            np.dot(
                [0.2126, 0.7152, 0.0722],
                np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4),
            )
        )
        for c in (first[:3], second[:3])
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def deep_net(units):
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)) for _ in range(units))
    ).eval()


@pytest.mark.browser
@pytest.mark.docs
def test_a_net_of_200_layers_is_shown_in_less_than_a_second(opened, tmp_path):
    """By the processor's time of the page's thread, which other programs do not lengthen."""
    page = opened(compare(deep_net(100), deep_net(100), inputs=images()), tmp_path)
    assert page.locator(".strip").first.locator("i").count() == 200
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.reload()
    metrics = session.send("Performance.getMetrics")["metrics"]
    (seconds,) = (each["value"] for each in metrics if each["name"] == "TaskDuration")
    assert 0.01 < seconds < 1


def test_the_page_of_known_differences_is_that_of_the_table():
    from importlib.util import module_from_spec, spec_from_file_location

    script = spec_from_file_location("differences", ROOT / "docs/figures/differences.py")
    module = module_from_spec(script)
    script.loader.exec_module(module)
    assert (ROOT / "docs/differences.md").read_text(encoding="utf-8") == module.page()


def module_file(folder, change=""):
    path = folder / f"net{len(list(folder.iterdir()))}.py"
    lines = ["from diff.nets import Net", "", "def build():", "    net = Net()"]
    path.write_text("\n".join([*lines, *filter(None, [change]), "    return net", ""]))
    return f"{path}:build"


def test_the_command_compares_functions_of_files(tmp_path):
    first = module_file(tmp_path)
    second = module_file(tmp_path, "    net.stem_norm.eps = 1e-3")
    np.savez(tmp_path / "inputs.npz", images=images())
    inputs = ["--inputs", str(tmp_path / "inputs.npz")]
    done = CliRunner().invoke(app, ["diff", first, first, *inputs])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        app, ["diff", first, second, *inputs, "--report", str(tmp_path / "r")]
    )
    assert done.exit_code == 1
    assert "eps is 0.001 instead of 1e-05" in done.output
    assert (tmp_path / "r" / "report.html").is_file()


def test_the_command_compares_weight_files(tmp_path):
    from pymobilenet import MobileNetConfig, backend

    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10)
    backend("torch").build(config, seed=0).save(tmp_path / "a.safetensors")
    backend("torch").build(config, seed=1).save(tmp_path / "b.safetensors")
    paths = [str(tmp_path / name) for name in ("a.safetensors", "b.safetensors")]
    shape = ["--shape", "3,32,32", "--batch", "2"]
    assert CliRunner().invoke(app, ["diff", paths[0], paths[0], *shape]).exit_code == 0
    done = CliRunner().invoke(app, ["diff", *paths, *shape])
    assert done.exit_code == 1
    assert "other weights" in done.output


def test_weights_are_carried_over_and_written(tmp_path):
    first = module_file(tmp_path)
    second = module_file(tmp_path, "    net.stem.weight.data.zero_()")
    shape = ["--shape", ",".join(map(str, SHAPE))]
    port = ["--port", str(tmp_path / "ported.pt")]
    done = CliRunner().invoke(app, ["diff", first, second, *shape, *port])
    assert done.exit_code == 0, done.output
    assert "load_state_dict" in done.output
    assert (tmp_path / "ported.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.onnx"], "models must be two or more"),
        (["a.onnx", "b.onnx"], "--shape must state the shape"),
        (["a.onnx", "b.onnx", "--shape", "3,x"], "--shape must state the shape"),
        (["no.such.module:f", "b.onnx", "--shape", "3,8,8"], "cannot be imported"),
        (["nothing.onnx", "b.onnx", "--shape", "3,8,8"], "there is no such file"),
    ],
)
def test_the_command_refuses_what_it_cannot_compare(arguments, message):
    done = CliRunner().invoke(app, ["diff", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
