"""Hybrids at every cut agree; with a fault, the first block that differs is found."""

import functools

import pytest

from pymobilenet import MobileNetConfig, backend
from pymobilenet.backends.torch import TorchBackend
from pymobilenet.data import synthetic
from pymobilenet.parity import cuts, run
from pymobilenet.parity.cuts import compare_cuts, first_block_that_matters, first_blocks
from pymobilenet.parity.run import run_parity
from pymobilenet.parity.scenario import Scenario

NET = {"width_mult": 0.1, "resolution": 32, "num_classes": 10, "rounding": "nearest"}
V1, V2 = (MobileNetConfig(family, **NET) for family in ("v1", "v2"))
DATA = synthetic(64, num_classes=10)


@pytest.fixture(scope="module", autouse=True)
def _one_leader_of_each_net():
    """The leader of all tests is torch: its draws, and the oracle's results, are computed once."""
    reference = functools.cache(lambda scenario: cuts_reference(scenario, DATA))
    leader = functools.cache(lambda scenario: cuts_leader(backend("torch"), reference(scenario)))
    cuts_reference, cuts_leader = cuts.compute_reference, cuts._Leader
    with pytest.MonkeyPatch.context() as patch:
        for module in (cuts, run):
            patch.setattr(module, "compute_reference", lambda scenario, _data: reference(scenario))
        patch.setattr(cuts, "_Leader", lambda _backend, reference: leader(reference.scenario))
        yield


class Faulty(TorchBackend):
    """torch, with a fault in one module."""

    name = "faulty"

    def __init__(self, place):
        self.place = place

    def _new(self, config, dtype, **options):
        model = super()._new(config, dtype, **options)
        module = model.module.get_submodule(self.place)
        if self.place == "classifier":
            module.register_forward_hook(lambda _module, _inputs, output: 1.001 * output)
        else:
            module.eps = 1e-3
        return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "place", "block"),
    [
        (V1, "stem.norm", "stem"),
        (V1, "blocks.7.pointwise.norm", "blocks.7"),
        (V1, "classifier", "classifier"),
        (V2, "blocks.16.project.norm", "blocks.16"),
    ],
)
def test_the_first_block_that_matters_is_the_one_with_the_fault(config, place, block):
    pair = (backend("torch"), Faulty(place))
    assert first_block_that_matters(pair, config, "float64", DATA) == block


def test_no_block_matters_where_there_is_no_fault():
    pair = (backend("torch"), TorchBackend())
    assert first_block_that_matters(pair, V1, "float64", DATA) is None


@pytest.mark.slow
def test_a_report_names_the_block_of_each_scenario_that_differs():
    pair = (backend("torch"), Faulty("blocks.3.pointwise.norm"))
    report = run_parity(pair, DATA, steps=0, dtypes=["float64"], configs=[V1])
    assert not report.passed
    (name,) = [result.scenario.name for result in report.scenarios]
    assert first_blocks(pair, report, DATA) == {name: "blocks.3"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])
@pytest.mark.julia
def test_hybrids_of_torch_and_julia_agree(config, dtype):
    pair = (backend("torch"), backend("julia"))
    results = compare_cuts(pair, Scenario(config, dtype), DATA, [0, 4], steps=2)
    assert [(each.first, each.second, each.cut) for each in results] == [
        ("torch", "julia", 0),
        ("torch", "julia", 4),
        ("julia", "torch", 0),
        ("julia", "torch", 4),
    ]
    assert all(each.passed for each in results), [each.ratios for each in results]
    assert set(results[0].ratios) == {"outputs", "gradients", "optimizer", "lockstep"}


@pytest.mark.slow
def test_hybrids_with_the_fault_differ_and_the_others_agree():
    pair = (backend("torch"), Faulty("blocks.3.pointwise.norm"))
    results = compare_cuts(pair, Scenario(V1, "float64"), DATA, [3, 4], steps=1)
    passed = {(each.first, each.cut): each.passed for each in results}
    assert passed == {
        ("torch", 3): False,
        ("torch", 4): True,
        ("faulty", 3): True,
        ("faulty", 4): False,
    }
