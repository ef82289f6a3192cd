"""Philox4x64-10 and the numbers derived from it, against published and recorded values."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from philox_reference import MASK, philox4x64_10

from pymobilenet import philox
from pymobilenet.errors import ConfigError
from pymobilenet.philox import Stream

VECTORS = json.loads((Path(__file__).parents[1] / "julia/test/vectors" / "philox.json").read_text())

# Random123, tests/kat_vectors, lines "philox4x64 10": counter, key, words
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (MASK, MASK, MASK, MASK),
        (MASK, MASK),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


def words_of(case, count):
    return philox.raw_words(
        int(case["seed"]), Stream[case["stream"]], case["epoch"], case["index"], count
    )


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_numpy_and_the_formulas_give_the_published_words(counter, key, words):
    assert philox4x64_10(counter, key) == words
    before = sum(word << 64 * i for i, word in enumerate(counter)) - 1
    before_words = [(before >> 64 * i) & MASK for i in range(4)]  # NumPy increments first
    generator = np.random.Philox(
        key=np.array(key, np.uint64), counter=np.array(before_words, np.uint64)
    )
    assert tuple(int(word) for word in generator.random_raw(4)) == words


@pytest.mark.parametrize("stream", list(Stream))
def test_the_key_is_the_seed_and_the_counter_is_block_index_epoch_stream(stream):
    words = philox.raw_words(99, stream, epoch=7, index=3, count=10)
    expected = [w for block in (1, 2, 3) for w in philox4x64_10((block, 3, 7, stream), (99, 0))]
    assert words.dtype == np.uint64
    assert words.tolist() == expected[:10]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["stream"])
def test_recorded_vectors(case):
    words = words_of(case, 10)
    assert [str(word) for word in words[:6]] == case["words"]
    assert philox.bounded(words[:6], np.array(VECTORS["limits"])).tolist() == case["bounded"]
    assert philox.permutation(words).tolist() == case["permutation"]
    uniform64 = philox.uniform64(words[:6])
    assert uniform64.dtype == np.float64
    assert [f"{bits:016x}" for bits in uniform64.view(np.uint64)] == case["uniform64"]


def test_seed_epoch_index_and_stream_each_change_the_words():
    draws = {
        tuple(philox.raw_words(seed, stream, epoch, index, 2).tolist())
        for seed in (0, 1)
        for stream in Stream
        for epoch in (0, 1)
        for index in (0, 1)
    }
    assert len(draws) == 2 * len(Stream) * 2 * 2


@settings(deadline=None, database=None)
@given(seed=st.integers(0, MASK), n=st.integers(0, 300))
def test_a_permutation_contains_every_position_once(seed, n):
    order = philox.permutation(philox.raw_words(seed, Stream.ORDER, 0, 0, n))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


@settings(deadline=None, database=None)
@given(word=st.integers(0, MASK), n=st.integers(1, 2**32 - 1))
def test_bounded_is_the_multiply_shift_and_in_range(word, n):
    value = philox.bounded(np.array([word], np.uint64), n)
    assert value.dtype == np.int64
    assert value[0] == ((word >> 32) * n) >> 32
    assert 0 <= value[0] < n


@settings(deadline=None, database=None)
@given(word=st.integers(0, MASK))
def test_a_uniform_number_is_the_top_bits_and_below_one(word):
    words = np.array([word], np.uint64)
    assert philox.uniform64(words)[0] == (word >> 11) / 2**53 < 1


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", None, True])
def test_a_seed_outside_64_bits_is_refused(seed):
    with pytest.raises(ConfigError, match=f"seed must be .*Received: {seed!r}"):
        philox.raw_words(seed, Stream.INIT, 0, 0, 1)


@pytest.mark.parametrize("n", [0, -3, 2**32, 2.5, [1, 0]])
def test_a_bound_outside_32_bits_is_refused(n):
    with pytest.raises(ConfigError, match="n must be"):
        philox.bounded(np.zeros(2, np.uint64), n)


def test_an_unknown_stream_is_refused():
    with pytest.raises(ConfigError, match=r"stream must be one of INIT.*Received: 9"):
        philox.raw_words(0, 9, 0, 0, 1)
