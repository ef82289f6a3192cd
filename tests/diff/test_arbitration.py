"""With three or more models, the report says which of them agree and who stands alone."""

import re

import pytest
import torch
from diff.nets import Net, images

from pymobilenet.parity import compare
from pymobilenet.parity.diff.arbitration import agreeing_groups
from pymobilenet.parity.diff.result import Comparison


def net(eps=1e-5, layer="depthwise_norm"):
    """A net, in which one norm may have another eps."""
    result = Net()
    getattr(result, layer).eps = eps
    return result


def words(*nets):
    return compare(*nets, inputs=images()).arbitration.lines()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_odd_one_out_of_three_is_named_with_its_first_layer(place):
    nets = [net(), net().to(memory_format=torch.channels_last)]
    nets.insert(place, net(1e-3))
    report = compare(*nets, inputs=images())
    names = [f"Net ({number})" for number in (1, 2, 3)]
    odd = names.pop(place)
    assert report.odd_one_out == odd
    (line,) = report.arbitration.lines()
    (floors,) = re.findall(r"within (\S+) noise", line)
    assert 0 < float(floors) < 10
    assert line == (
        f"{' and '.join(names)} agree within {floors} noise floors; {odd} is the odd one out, from "
        "depthwise_norm (batch norm) on"
    )
    assert str(report).endswith(line)
    assert report.as_dict()["arbitration"] == [line]


def test_models_that_agree_with_each_other_and_not_with_the_first_are_right():
    """One fault in the first model makes it differ from all others."""
    report = compare(net(1e-3), net(), net(), net(), inputs=images())
    assert report.odd_one_out == "Net (1)"
    pairs = [(each.first, each.second) for each in report.comparisons]
    assert pairs[3:] == [("Net (2)", "Net (3)"), ("Net (2)", "Net (4)")]


def test_nobody_is_accused_where_no_two_agree():
    report = compare(net(), net(1e-3), net(1e-4), inputs=images())
    assert report.odd_one_out is None
    assert words(net(), net(1e-3), net(1e-4)) == [
        "no two of the models agree, or as many agree on one result as on another"
    ]
    assert words(net(), net(1e-3), net(), net(1e-3)) == words(net(), net(1e-3), net(1e-4))


def test_several_that_stand_alone_are_listed():
    lines = words(net(1e-3, "stem_norm"), net(), net(), net(1e-3, "layer_norm"))
    assert lines[0].startswith("Net (2) and Net (3) agree within")
    assert lines[1:] == [
        "  Net (1) differs from them, from stem_norm (batch norm) on",
        "  Net (4) differs from them, from layer_norm (layer norm) on",
    ]


def test_where_all_agree_or_there_are_two_nothing_is_said():
    assert compare(net(), net(), net(), inputs=images()).arbitration is None
    assert compare(net(), net(1e-3), inputs=images()).arbitration is None


def test_agreement_is_passed_on():
    def pair(first, second, error):
        return Comparison(first, second, "float64", (), error, 1.0, (), None)

    pairs = [pair("a", "b", 99), pair("a", "c", 1), pair("a", "d", 99), pair("b", "d", 1)]
    assert agreeing_groups("abcd", pairs) == [("a", "c"), ("b", "d")]
    assert agreeing_groups("abcd", [*pairs, pair("c", "d", 1)]) == [("a", "b", "c", "d")]
