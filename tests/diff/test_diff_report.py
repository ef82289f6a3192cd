"""The files that a comparison writes, and the command."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from diff.nets import SHAPE, Net, images
from typer.testing import CliRunner

from pymobilenet.cli import app
from pymobilenet.parity.diff import compare, save_report

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture
def report():
    wrong = Net()
    wrong.stem_norm.eps = 1e-3
    return compare(Net(), wrong, inputs=images())


def test_json_and_junit_say_what_differs(report, tmp_path):
    save_report(report, tmp_path)
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
    save_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert page.count('class="bars"') == 19
    assert "eps is 0.001 instead of 1e-05" in page


@pytest.mark.browser
@pytest.mark.docs
def test_the_page_works_in_a_browser(report, tmp_path):
    from playwright.sync_api import sync_playwright

    save_report(report, tmp_path)
    executable = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        messages = []
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("console", lambda message: messages.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        button = page.locator("button").first
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        assert page.locator(".bars").first.is_visible()
        browser.close()
    assert not messages


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
