"""Faults in the kernels of MobileNets.jl are found by the default scenarios of the command.

Only what is left over after vectors, tiles and shares of two threads is wrong.
"""

import kernel_faults as faults
import pytest
from lab import Lab, Place, assert_divergence

from pymobilenet import backend
from pymobilenet.parity import STANDARD_CONFIGS
from pymobilenet.parity.recording import recording_images

pytestmark = pytest.mark.julia

SMALL, STEM1, _ = STANDARD_CONFIGS
FROZEN = Place(1, "forward", "frozen", "logits")

PLANTED = {
    "the last pixels of shares left out": (
        faults.SHARES_CUT,
        SMALL,
        Place(1, "forward", "eval", "stem.conv"),
    ),
    "the last pixel of a run left out": (
        faults.RUNS_CUT,
        SMALL,
        Place(1, "forward", "eval", "blocks.6.pointwise.act"),
    ),
    "shares of different sizes averaged": (
        faults.SHARES_UNWEIGHTED,
        SMALL,
        Place(1, "forward", "train", "stem.norm"),
    ),
    "the last of few pixels left out": (
        faults.FEW_PIXELS_CUT,
        STEM1,
        Place(1, "forward", "predict", "logits"),
    ),
    "the last lane left out": (
        faults.LANES_CUT,
        SMALL,
        Place(1, "forward", "eval", "blocks.0.depthwise.conv"),
    ),
    "a frozen model's second micro-batch": (faults.SECOND_MICRO_BATCH, STEM1, FROZEN),
    "the last block of pixels left out": (
        faults.SMALL_BLOCKS_CUT,
        SMALL,
        Place(1, "forward", "eval", "blocks.1.pointwise.conv"),
    ),
    "the second sum of a product left out": (
        faults.SECOND_SUM,
        STEM1,
        Place(1, "forward", "eval", "blocks.12.pointwise.conv"),
    ),
    "square maps in the running variance": (
        faults.SQUARE_MAPS,
        SMALL,
        Place(2, "update", "statistic", "stem.norm.running_var"),
    ),
}


@pytest.fixture(scope="module")
def labs():
    return {config: Lab(config, recording_images()) for config in (SMALL, STEM1)}


@pytest.mark.parametrize(("fault", "config", "place"), PLANTED.values(), ids=PLANTED)
def test_a_fault_in_what_is_left_over_is_found(labs, fault, config, place):
    lab, julia = labs[config], backend("julia")
    assert julia.threads()["julia"] == 2, "shares are those of two threads"
    lab.torch("float64")
    with fault.planted(julia):
        report = lab.levels("float64", faulty=julia.build(config, dtype="float64"))
    assert_divergence(report, place, "faulty")
