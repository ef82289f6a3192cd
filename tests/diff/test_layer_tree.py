"""The layers of two models as a tree."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pymobilenet.backends.trace import Layer
from pymobilenet.parity.diff.layer_tree import branches
from pymobilenet.parity.diff.result import PairRow


def rows(*names):
    """A row for each (name in the first model, name in the second); "" is none."""

    def layer(name):
        return Layer(name, "other", (), np.zeros((1, 1))) if name else None

    return [PairRow(layer(first), layer(second)) for first, second in names]


def shown(*names):
    return [
        (len(each.ancestors), *each.names, "group" if each.is_group else "")
        for each in branches(rows(*names))
    ]


def test_layers_are_grouped_by_the_first_models_paths():
    assert shown(
        ("stem.conv", "layers[1]"),
        ("stem.norm", "layers[2]"),
        ("blocks.0.conv", "layers[3].layers[1]"),
        ("blocks.0.act", "layers[3].layers[1].f"),
        ("blocks.1.conv", "layers[4].layers[1]"),
        ("head", "layers[5]"),
    ) == [
        (0, "stem", "layers", "group"),
        (1, "stem.conv", "layers[1]", ""),
        (1, "stem.norm", "layers[2]", ""),
        (0, "blocks", "layers", "group"),
        (1, "blocks.0", "layers[3].layers[1]", "group"),
        (2, "blocks.0.conv", "layers[3].layers[1]", ""),
        (2, "blocks.0.act", "layers[3].layers[1].f", ""),
        (1, "blocks.1.conv", "layers[4].layers[1]", ""),
        (0, "head", "layers[5]", ""),
    ]


def test_a_prefix_of_all_is_no_group_and_a_layer_may_be_named_as_its_group():
    assert shown(("net[1]", "a"), ("net[1].f", "b"), ("net[2]", "c")) == [
        (0, "net[1]", "", "group"),
        (1, "net[1]", "a", ""),
        (1, "net[1].f", "b", ""),
        (0, "net[2]", "c", ""),
    ]


def test_a_layer_that_only_the_second_has_is_put_behind_the_last():
    assert shown(("a.x", "p"), ("", "q"), ("a.y", "r"), ("b", "")) == [
        (0, "a", "", "group"),
        (1, "a.x", "p", ""),
        (1, "", "q", ""),
        (1, "a.y", "r", ""),
        (0, "b", "", ""),
    ]


NAMES = st.lists(st.text("ab.[]/:#1", min_size=1, max_size=6), max_size=12)


@given(NAMES)
def test_every_row_is_a_line_once_and_in_order(names):
    lines = branches(rows(*[(name, name) for name in names]))
    assert [each.members for each in lines if not each.is_group] == [
        (i,) for i in range(len(names))
    ]
    for line in lines:
        assert [each.number for each in lines if each.number in line.ancestors] == sorted(
            line.ancestors
        )
        assert all(set(line.members) <= set(lines[one].members) for one in line.ancestors)
    assert [each.names[0] for each in lines if not each.is_group] == names
