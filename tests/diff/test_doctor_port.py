"""The known differences hold for the installed libraries, and those that do not are named."""

import importlib.util

import pytest
from typed_commands import refused, run

from pymobilenet.backends.facts import Fact
from pymobilenet.backends.torch.facts import FACTS as TORCH_FACTS
from pymobilenet.backends.torch.minimal_optimizers import OPTIMIZER_PAIRS
from pymobilenet.backends.torch.minimal_pairs import MINIMAL_PAIRS
from pymobilenet.parity.diff import DIFFERENCES, installed
from pymobilenet.parity.diff.library_facts import FACTS as OTHER_FACTS

NAMES = [difference.name for difference in DIFFERENCES]


def test_every_difference_says_where_it_is_documented_and_how_to_mend_it():
    for difference in DIFFERENCES:
        texts = (difference.explanation, difference.source, difference.torch, difference.flux)
        assert all(texts), difference.name


def test_every_difference_has_a_minimal_pair_and_every_fact_a_difference():
    assert [*MINIMAL_PAIRS, *OPTIMIZER_PAIRS] == NAMES
    assert {fact.difference for fact in installed.all_facts()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_minimal_pair_is_diagnosed(name):
    assert installed._pair(name).result == "holds"


@pytest.mark.parametrize("fact", TORCH_FACTS, ids=lambda fact: fact.statement)
def test_torch_does_what_is_stated(fact):
    assert fact.check() is True


@pytest.mark.parametrize(
    "fact",
    [fact for fact in OTHER_FACTS if fact.library == "ONNX Runtime"],
    ids=lambda fact: fact.statement,
)
def test_onnx_runtime_does_what_is_stated(fact):
    pytest.importorskip("onnxruntime")
    assert fact.check() is True


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
@pytest.mark.parametrize(
    "fact",
    [fact for fact in OTHER_FACTS if fact.library == "Keras"],
    ids=lambda fact: fact.statement,
)
def test_keras_does_what_is_stated(fact):
    assert installed._missing("Keras") == ""
    assert fact.check() is True


@pytest.mark.julia
def test_flux_does_what_is_stated():
    from pymobilenet.backends.julia.facts import FACTS

    wrong = [fact.statement for fact in FACTS if installed._try(fact) != "holds"]
    assert not wrong


def raising():
    raise AttributeError("no such function")


def test_the_command_prints_what_holds_and_what_does_not(monkeypatch):
    facts = [
        Fact("kernel flip", "torch", "it holds", lambda: True),
        Fact("kernel flip", "torch", "it has changed", lambda: False),
        Fact("softmax", "Keras", "it has gone", raising),
        Fact("softmax", "Flux", "it is elsewhere", raising),
    ]
    monkeypatch.setattr(installed, "all_facts", lambda: facts)
    reasons = {"Flux": "no\n  Julia"}
    monkeypatch.setattr(installed, "_missing", lambda library: reasons.get(library, ""))
    monkeypatch.setattr(
        installed, "DIFFERENCES", [d for d in DIFFERENCES if d.name in ("kernel flip", "softmax")]
    )
    rows = list(installed.port_report())
    pair = "finds it in its minimal pair of torch modules: holds"
    assert rows == [
        ("not tried", "Flux", "no Julia"),
        ("not tried", "NNlib", "no Julia"),
        ("not tried", "Optimisers", "no Julia"),
        ("kernel flip", "compare", pair),
        ("", "torch", "it holds: holds"),
        ("", "torch", "it has changed: does not hold"),
        ("softmax", "compare", pair),
        ("", "Keras", "it has gone: does not hold: AttributeError: no such function"),
        ("", "Flux", "it is elsewhere: not tried"),
    ]
    output = " ".join(run("doctor", "port").stdout.split())
    assert "AttributeError" in output
    assert "not tried" in output


def test_a_pair_that_is_not_found_is_named(monkeypatch):
    pair = MINIMAL_PAIRS["kernel flip"]
    monkeypatch.setitem(MINIMAL_PAIRS, "kernel flip", MINIMAL_PAIRS["other weights"])
    assert installed._pair("kernel flip").result == "does not hold: found other weights"
    same = pair()
    monkeypatch.setitem(MINIMAL_PAIRS, "kernel flip", lambda: type(same)(same.first, same.first))
    assert installed._pair("kernel flip").result == "does not hold: found nothing"


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert installed._missing("ONNX Runtime") == "onnx and onnxruntime not installed"


def test_another_topic_is_refused():
    assert "the topic must be port. Received: ship" in refused("doctor", "ship")
