"""Costs of layers, against the figures of Howard et al., arXiv:1704.04861."""

import json

import numpy as np
import pytest
from paper import TABLE
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig, backend
from pymobilenet.architecture import mult_adds, num_params
from pymobilenet.cli import app
from pymobilenet.summary import summary

PAPER = summary(MobileNetConfig())
CONFIGS = [
    MobileNetConfig(),
    MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100, stem_stride=1),
    MobileNetConfig(width_mult=0.35, resolution=47, in_channels=1),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.width_mult}")
def test_the_rows_add_up_to_the_totals_of_the_architecture(config):
    costs = summary(config)
    assert (costs.num_params, costs.mult_adds) == (num_params(config), mult_adds(config))
    for column in (0, 1):
        assert sum(share[column] for share in costs.shares.values()) == pytest.approx(1)


def test_outputs_are_the_inputs_of_the_papers_next_row():
    inputs = [(row[2], row[4], row[4]) for row in TABLE]
    assert [row.output_shape for row in PAPER.rows[:-2]] == inputs[1:]
    assert PAPER.rows[-2].output_shape == (1024, 7, 7)
    assert PAPER.rows[-1].output_shape == (1000,)


def test_output_shapes_of_odd_and_rectangular_images_equal_torchs():
    config = MobileNetConfig(width_mult=0.35, resolution=47, in_channels=1, num_classes=3)
    activations = backend("torch").build(config).activations(np.ones((1, 1, 33, 47), np.float32))
    for row in summary(config, (33, 47)).rows[:-1]:
        assert activations[f"{row.name}.act"].shape[1:] == row.output_shape


def test_full_convolutions_cost_what_table_4_prints():
    """Conv MobileNet: 4866 million multiply-adds, 29.3 million parameters."""
    assert PAPER.full_mult_adds / 1e6 == pytest.approx(4866, abs=2)
    assert PAPER.full_num_params / 1e6 == pytest.approx(29.3, abs=0.05)


def test_a_reduction_is_the_ratio_of_both_costs():
    for depthwise, pointwise in zip(PAPER.rows, PAPER.rows[1:], strict=False):
        if pointwise.kind == "pointwise":
            both = depthwise.mult_adds + pointwise.mult_adds
            assert pointwise.reduction == pytest.approx(pointwise.full_mult_adds / both, rel=1e-12)
        else:
            assert pointwise.reduction is None


def test_the_shares_are_those_of_table_2():
    """Of the multiply-adds 1x1 takes 94.86 %, depthwise 3.06, classifier 0.18; of the parameters
    (the paper leaves the norms out) 74.59, 1.06 and 24.33."""
    percent = {kind: (100 * params, 100 * adds) for kind, (params, adds) in PAPER.shares.items()}
    assert percent["pointwise"][1] == pytest.approx(94.86, abs=0.005)
    assert percent["depthwise"][1] == pytest.approx(3.06, abs=0.005)
    assert percent["classifier"][1] == pytest.approx(0.18, abs=0.005)
    assert percent["pointwise"][0] == pytest.approx(74.59, abs=0.2)
    assert percent["classifier"][0] == pytest.approx(24.33, abs=0.2)


def test_the_receptive_field_is_what_a_pixel_can_change():
    """One changed pixel in the middle of a map changes a stretch as wide as the field, halved at
    each stride."""
    config = MobileNetConfig(width_mult=0.25, resolution=128, num_classes=2, activation="relu")
    model = backend("torch").build(config, dtype="float64")
    first = np.random.default_rng(0).normal(size=(1, 3, 128, 128))
    second = first.copy()
    second[:, :, 64, 64] += 1
    before, after = model.activations(first), model.activations(second)
    spacing = 1
    for row in summary(config).rows[:6]:
        spacing = 128 // row.output_shape[1]
        changed = np.abs(after[f"{row.name}.conv"] - before[f"{row.name}.conv"]).max((0, 1))
        columns = np.flatnonzero(changed.max(0))
        width = columns[-1] - columns[0] + 1
        assert width in (row.receptive_field // spacing, -(-row.receptive_field // spacing))


def test_info_prints_the_table_of_a_toml_file(tmp_path):
    path = tmp_path / "net.toml"
    path.write_text("[model]\nwidth_mult = 0.5\n")
    result = CliRunner().invoke(app, ["info", str(path)])
    assert result.exit_code == 0, result.output
    assert all(row.name in result.output for row in PAPER.rows)
    assert max(map(len, result.output.splitlines())) <= 80
    assert "1,331,592" in result.output
    assert "149,497,088" in result.output


def test_info_reads_weight_files_and_writes_json(tmp_path):
    path = tmp_path / "weights"
    config = MobileNetConfig(width_mult=0.125, resolution=64, num_classes=5)
    backend("torch").build(config).save(path)
    result = CliRunner().invoke(app, ["info", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == json.loads(json.dumps(summary(config).to_dict()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "no table"),
        (bytes(8) + b"{", "weights"),
        (b"\xff", "not TOML"),
    ],
)
def test_info_refuses_files_without_a_config(tmp_path, content, message):
    path = tmp_path / "weights"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["info", str(path)])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
