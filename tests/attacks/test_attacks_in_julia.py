"""The same bad files in Julia: what one language refuses, the other does."""

import contextlib

import numpy as np
import pytest
from attack import CONFIG, STATE, Attack
from attacks_on_bson import BSON
from attacks_on_models import MODELS
from attacks_on_npz import NPZ
from attacks_on_safetensors import SAFETENSORS
from mutations import mutations, truncations
from victims import written

from pymobilenet import backend
from pymobilenet.errors import JuliaError, PymobilenetError
from pymobilenet.formats import load_any, save_as
from pymobilenet.formats.exchange import read_weights
from pymobilenet.parity.verify import verify

pytestmark = pytest.mark.julia

BOTH = [attack for attack in (*SAFETENSORS, *NPZ, *MODELS) if not attack.name.startswith("peer")]
SPARE, GROWTH = 16 * 2**20, 64
"""What Julia may allocate, and free again: so many bytes, and so many times the file."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="module")
def paths(folder):
    return written(folder, [*BOTH, *BSON])


def in_julia(path, command=""):
    """The refusal of MobileNets.jl without the name of its error; "" for a model."""
    julia = backend("julia").julia
    import juliacall

    try:
        (julia.verify if command == "verify" else julia.read_weights)(str(path))
    except juliacall.JuliaError as error:
        text = str(error).partition("\nStacktrace:")[0]
        assert text.startswith("WeightsError: "), text
        return text.removeprefix("WeightsError: ")
    return ""


def in_python(path, attack):
    """The same in Python, by what reads such a file without asking what it is."""
    try:
        if attack.container == "npz":
            load_any(path, "npz")
        else:
            file = read_weights(path)
            if attack.command:
                verify(file, ["numpy"], str(path))
    except PymobilenetError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_both_languages_refuse_the_file_by_its_name(paths, attack):
    path = paths[attack.name]
    assert str(path) in in_python(path, attack)
    assert str(path) in in_julia(path, attack.command)


@pytest.mark.parametrize("attack", BSON, ids=lambda attack: attack.name)
def test_bson_files_are_refused_by_their_rule(paths, attack):
    path = paths[attack.name]
    there = in_julia(path)
    assert str(path) in there
    assert attack.says in there
    with pytest.raises(JuliaError, match=path.name):
        load_any(path)


def test_julia_allocates_no_more_than_a_file_warrants(paths):
    counted = backend("julia").main.Base.gc_bytes
    for attack in [*BOTH, *BSON]:
        if not attack.command:
            in_julia(paths[attack.name])  # which compiles
            start = counted()
            in_julia(paths[attack.name])
            assert counted() - start < SPARE + GROWTH * len(attack.content), attack.name


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz deflated"])
def test_changed_files_are_refused_or_mean_the_same_in_both_languages(folder, kind):
    for attack in (*mutations(kind), *truncations(kind)):
        path = written(folder, [attack])[attack.name]
        there = in_julia(path)
        if there:
            assert str(path) in there
            with contextlib.suppress(PymobilenetError):  # bytes that numpy and zipfile do not use
                for name, tensor in load_any(path, attack.container).state.items():
                    np.testing.assert_array_equal(tensor, STATE[name])
        else:
            theirs = backend("julia").julia.read_weights(str(path)).state
            ours = load_any(path, attack.container).state
            for name, tensor in ours.items():
                np.testing.assert_array_equal(np.asarray(theirs[name]).T, tensor)


def test_changed_jld2_files_are_refused_or_are_models(folder):
    whole = folder / "whole.jld2"
    save_as(whole, CONFIG, STATE)
    content = whole.read_bytes()
    assert not in_julia(whole)
    random = np.random.default_rng(0)
    lengths = [*range(0, 600, 60), *(len(content) - 2**power for power in range(12))]
    made = [content[:length] for length in lengths]
    for _ in range(40):
        changed = bytearray(content)
        for place in random.integers(513, len(content), 8):
            changed[place] = random.integers(256)
        made.append(bytes(changed))
    for number, changed in enumerate(made):
        attack = Attack(f"jld2 {number}", changed, "")
        path = written(folder, [attack])[attack.name]
        there = in_julia(path)
        assert not there or str(path) in there
        assert there or number >= len(lengths)
