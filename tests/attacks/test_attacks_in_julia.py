"""The same bad files in Julia: both languages raise errors for the same files."""

import contextlib

import numpy as np
import pytest
from attack import CONFIG, STATE, Attack
from attacks_on_bson import BSON
from attacks_on_models import MODELS
from attacks_on_npz import NPZ
from attacks_on_safetensors import SAFETENSORS
from isolated_process import write_files
from mutations import mutations, truncations

from pymobilenet import backend
from pymobilenet.errors import PymobilenetError, WeightsError
from pymobilenet.formats import load_any, save_as
from pymobilenet.formats.exchange import read_weights
from pymobilenet.parity.verify import verify

pytestmark = pytest.mark.julia

BOTH = [attack for attack in (*SAFETENSORS, *NPZ, *MODELS) if not attack.name.startswith("peer")]
MEMORY_BASE, MEMORY_PER_BYTE = 16 * 2**20, 64
"""Bytes that Julia may allocate: so many, and so many for each byte of the file."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="module")
def paths(folder):
    return write_files(folder, [*BOTH, *BSON])


def in_julia(path, command=""):
    """The error message of MobileNets.jl; "" if it reads a model."""
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
    """The error message of Python, from the reader of this container; "" if it reads a model."""
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
def test_both_languages_raise_an_error_that_names_the_file(paths, attack):
    path = paths[attack.name]
    assert str(path) in in_python(path, attack)
    assert str(path) in in_julia(path, attack.command)


@pytest.mark.parametrize("attack", BSON, ids=lambda attack: attack.name)
def test_bson_errors_state_the_rule(paths, attack):
    path = paths[attack.name]
    julia_message = in_julia(path)
    assert str(path) in julia_message
    assert attack.message in julia_message
    with pytest.raises(WeightsError, match=path.name):
        load_any(path)


def test_julia_allocates_no_more_than_a_file_warrants(paths):
    counted = backend("julia").main.Base.gc_bytes
    for attack in [*BOTH, *BSON]:
        if not attack.command:
            in_julia(paths[attack.name])  # which compiles
            start = counted()
            in_julia(paths[attack.name])
            assert counted() - start < MEMORY_BASE + MEMORY_PER_BYTE * len(attack.content), (
                attack.name
            )


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz deflated"])
def test_changed_files_are_errors_or_equal_models_in_both_languages(folder, kind):
    for attack in (*mutations(kind), *truncations(kind)):
        path = write_files(folder, [attack])[attack.name]
        julia_message = in_julia(path)
        if julia_message:
            assert str(path) in julia_message
            with contextlib.suppress(PymobilenetError):  # bytes that numpy and zipfile do not use
                for name, tensor in load_any(path, attack.container).state.items():
                    np.testing.assert_array_equal(tensor, STATE[name])
        else:
            julia_state = backend("julia").julia.read_weights(str(path)).state
            state = load_any(path, attack.container).state
            for name, tensor in state.items():
                np.testing.assert_array_equal(np.asarray(julia_state[name]).T, tensor)


def test_changed_jld2_files_are_errors_or_models(folder):
    unchanged = folder / "unchanged.jld2"
    save_as(unchanged, CONFIG, STATE)
    content = unchanged.read_bytes()
    assert not in_julia(unchanged)
    random = np.random.default_rng(0)
    lengths = [*range(0, 600, 60), *(len(content) - 2**power for power in range(12))]
    contents = [content[:length] for length in lengths]
    for _ in range(40):
        changed = bytearray(content)
        for offset in random.integers(513, len(content), 8):
            changed[offset] = random.integers(256)
        contents.append(bytes(changed))
    for number, changed in enumerate(contents):
        attack = Attack(f"jld2 {number}", changed, "")
        path = write_files(folder, [attack])[attack.name]
        julia_message = in_julia(path)
        assert not julia_message or str(path) in julia_message
        assert julia_message or number >= len(lengths)
