"""Formats and exit statuses of `pymobilenet diff`."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from diff.nets import SHAPE, Net, images
from torch import nn
from typed_commands import refused, run

from pymobilenet.parity.diff import FailOn, RecordedOutputs, compare
from pymobilenet.parity.diff.junit import as_junit

SHAPE_OPTION = ("--shape", ",".join(map(str, SHAPE)))


def specs(folder, change="", finish=""):
    """A correct net and a changed one, as the command line names them."""
    names = []
    for number, line in enumerate(("", change)):
        path = folder / f"net{number}.py"
        last = f"    return {finish}(net)" if finish and number else "    return net"
        lines = ["from torch import nn", "from diff.nets import Net, Softened", "def build():"]
        lines += ["    net = Net()", line and f"    {line}", last, ""]
        path.write_text("\n".join(lines))
        names.append(f"{path}:build")
    return names


@pytest.mark.parametrize(
    ("change", "finish", "statuses"),
    [
        ("", "", {"never": 0, "output": 0, "differ": 0, "unmatched": 0}),
        ("net.stem_norm.eps = 1e-3", "", {"never": 0, "output": 1, "differ": 1, "unmatched": 1}),
        ("net.stem_act = nn.ReLU()", "", {"never": 0, "output": 1, "differ": 1, "unmatched": 1}),
        ("", "Softened", {"never": 0, "output": 0, "differ": 0, "unmatched": 1}),
    ],
    ids=["same", "other eps", "other activation", "additional layer"],
)
def test_the_status_follows_the_rule(tmp_path, change, finish, statuses):
    models = specs(tmp_path, change, finish)
    for rule, status in statuses.items():
        done = run("diff", *models, *SHAPE_OPTION, "--fail-on", rule)
        assert done.exit_code == status, (rule, done.output)


def test_an_output_that_agrees_passes_by_the_rule_output():
    """The functions differ only for values that these inputs do not reach."""
    net = Net()
    net.stem_act = nn.ReLU()
    report = compare(Net(), net, inputs=images() / 1e3)
    fails = [rule.value for rule in FailOn if report.fails(rule)]
    assert fails == ["differ", "unmatched"]


def test_junit_is_printed_alone(tmp_path):
    models = specs(tmp_path, "net.stem_norm.eps = 1e-3")
    done = run("diff", *models, *SHAPE_OPTION, "--format", "junit", "--report", tmp_path / "r")
    assert done.exit_code == 1
    root = ET.fromstring(done.stdout)
    assert "Written" in done.stderr
    (suite,) = root
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert cases["alone", "stem"].find("failure") is None
    failure = cases["alone", "stem_norm"].find("failure")
    assert "eps is 0.001 instead of 1e-05" in failure.text
    assert "noise floors" in failure.get("message")
    assert cases["output", "output"].find("failure") is not None
    # behind the fault, layers fail in the whole model and not alone
    assert cases["whole model", "depthwise"].find("failure") is not None
    assert cases["alone", "depthwise"].find("failure") is None
    assert int(suite.get("tests")) == len(suite) == 2 * 19 + 1


def test_junit_and_json_are_written_to_a_file(tmp_path):
    models = specs(tmp_path)
    for name in ("junit", "json"):
        path = tmp_path / name
        done = run("diff", *models, *SHAPE_OPTION, "--format", name, "--out", path)
        assert done.exit_code == 0
        assert done.stdout == ""
    assert ET.parse(tmp_path / "junit").getroot()[0].get("failures") == "0"
    assert json.loads((tmp_path / "json").read_text())["passed"] is True


def test_a_layer_without_counterpart_is_skipped_or_fails(tmp_path):
    models = specs(tmp_path, finish="Softened")
    for rule, outcome in (("differ", "skipped"), ("unmatched", "failure")):
        done = run("diff", *models, *SHAPE_OPTION, "--format", "junit", "--fail-on", rule)
        (suite,) = ET.fromstring(done.stdout)
        found = [case.get("name") for case in suite if case.find(outcome) is not None]
        assert len(found) == 1
        assert suite.get("failures") == ("1" if outcome == "failure" else "0")


def test_names_that_xml_cannot_hold_are_replaced():
    net = nn.Sequential()
    net.add_module("a\x00b<", nn.Conv2d(3, 4, 3))
    report = compare(net, net, inputs=np.random.default_rng(0).standard_normal((2, 3, 5, 5)))
    (suite,) = ET.fromstring(as_junit(report))
    assert suite[0].get("name") == "a\ufffdb<"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--format", "xml", "--format must be one of text, json, junit. Received: xml"),
        ("--fail-on", "always", "--fail-on must be one of never, output, differ, unmatched"),
    ],
)
def test_other_formats_and_rules_are_refused(option, value, message):
    assert message in refused("diff", "a.onnx", "b.onnx", *SHAPE_OPTION, option, value)


def test_the_images_of_a_folder_are_the_inputs(tmp_path):
    """Evenly spaced among the sorted names, cropped, resized, scaled."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (6, 12, 18, 3), np.uint8)
    (tmp_path / "images" / "cats").mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / "cats" / f"{number}.png")
    first, second = specs(tmp_path)
    options = ("--images", tmp_path / "images", "--batch", "3", *SHAPE_OPTION)
    out = tmp_path / "recorded.npz"
    for preprocessing, mean, std in (("unit", 0.0, 1.0), ("keras", 0.5, 0.5)):
        scaled = (*options, "--preprocessing", preprocessing)
        done = run("diff", first, *scaled, "--save-outputs", out)
        assert done.exit_code == 0, done.output
        inputs = RecordedOutputs(out).inputs
        expected = pixels[::2, :, 3:15].transpose(0, 3, 1, 2) / 255
        np.testing.assert_allclose(inputs, (expected - mean) / std, atol=1e-15)
    assert run("diff", first, second, *options).exit_code == 0
    too_many = refused("diff", first, second, *options, "--batch", "7")
    assert "--batch 7 images are wanted. Received: 6" in too_many
    for shape in ("12,12", "3,12,10"):
        assert "--shape must be 3,H,H" in refused("diff", first, second, *options, "--shape", shape)
    (tmp_path / "images" / "cats" / "2.png").write_bytes(b"none")
    assert "cats/2.png" in refused("diff", first, second, *options)
    nothing = refused("diff", first, second, "--images", tmp_path / "nothing", *SHAPE_OPTION)
    assert "neither a folder" in nothing


def test_a_map_of_names_decides_the_pairs(tmp_path):
    models = specs(tmp_path)
    pairs = {"stem": "depthwise", "classifier": "classifier"}
    (tmp_path / "map.json").write_text(json.dumps(pairs))
    options = (*SHAPE_OPTION, "--map", tmp_path / "map.json", "--format", "json")
    content = json.loads(run("diff", *models, *options).stdout)
    layers = content["comparisons"][0]["layers"]
    found = {row["first"]["name"]: row["second"]["name"] for row in layers if row["chained"]}
    assert found == pairs


def test_the_page_repeats_the_command(tmp_path):
    first, second = specs(tmp_path)
    report = tmp_path / "my report"
    options = ("--shape", "3,12,12", "--batch", "2", "--seed", "0", "--report", report)
    run("diff", first, second, *options)
    command = f"pymobilenet diff {first} {second} --shape 3,12,12 --batch 2 --report '{report}'"
    assert command.replace("'", "&#39;") in (report / "report.html").read_text()
