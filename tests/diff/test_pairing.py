"""Layers are paired by kind, shapes and order; one that only one side has stays alone."""

import numpy as np
from diff.nets import Net, images
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pymobilenet.backends.trace import Layer, Trace
from pymobilenet.parity.diff import compare, participant
from pymobilenet.parity.diff.ops import compute
from pymobilenet.parity.diff.pairing import align, fold_norms
from pymobilenet.weights.perturb import distance


def layer(name, kind, channels=4):
    value = np.zeros((2, channels, 5, 5))
    return Layer(name, kind, (value,), value)


@given(
    st.lists(st.sampled_from(["conv", "batch_norm", "activation", "max_pool"]), max_size=12),
    st.data(),
)
def test_a_sequence_without_some_layers_is_paired_with_itself(kinds, data):
    first = [layer(f"{i}", kind, i + 1) for i, kind in enumerate(kinds)]
    dropped = data.draw(st.sets(st.sampled_from(range(len(kinds)))) if kinds else st.just(set()))
    second = [each for i, each in enumerate(first) if i not in dropped]
    pairs = align(first, second)
    assert [pair.first for pair in pairs if pair.first] == first
    assert all(pair.second is pair.first or pair.second is None for pair in pairs)
    assert sum(pair.second is None for pair in pairs) == len(dropped)


def test_layers_that_change_no_value_are_not_missed():
    first = [layer("a", "conv"), layer("b", "dropout"), layer("c", "activation")]
    assert all(pair.is_complete for pair in align(first, [first[0], first[2]]))


def test_a_folded_norm_computes_the_same():
    trace = participant(Net()).trace(images(), "float64")
    folded = fold_norms(trace, Trace((), trace.output))
    assert len(folded.layers) == len(trace.layers) - 2
    conv = folded.layers[0]
    assert distance(compute(conv), trace.layers[1].output) < 1e-14


def test_the_only_norm_of_a_net_is_missing_where_the_convolution_has_the_same_weights():
    conv, relu = nn.Conv2d(3, 4, 3), nn.ReLU()
    norm = nn.BatchNorm2d(4)
    nn.init.uniform_(norm.weight, 2, 3)
    first, second = nn.Sequential(conv, norm, relu), nn.Sequential(conv, relu)
    (fault,) = compare(first, second, inputs=images()).comparisons[0].faults
    assert (fault.name, fault.first.name) == ("missing norm", "1")


def test_names_decide_where_they_are_given():
    names = {"stem": "depthwise", "classifier": "classifier"}
    comparison = compare(Net(), Net(), inputs=images(), names=names).comparisons[0]
    pairs = {row.first.name: row.second.name for row in comparison.rows if row.first and row.second}
    assert pairs == names
