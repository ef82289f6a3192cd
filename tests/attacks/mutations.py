"""Whole files of every container, and with random changes."""

import io
import json
import struct
from collections import OrderedDict

import attacks_on_keras
import numpy as np
import safetensors.numpy
import torch
from attack import STATE, TEXTS, Attack
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch_files import saved

EACH = 40
"""Files of each container."""

HUGE = (0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def npz(save):
    file = io.BytesIO()
    texts = np.frombuffer(json.dumps(TEXTS).encode(), np.uint8)
    save(file, **{"__metadata__": texts, **STATE})
    return file.getvalue()


def torch_file(new):
    weights = OrderedDict((name, torch.from_numpy(tensor)) for name, tensor in STATE.items())
    weights._metadata = {"pymobilenet": TEXTS}
    return saved(weights, new)


CONTAINERS = {
    "safetensors": safetensors.numpy.save(STATE, TEXTS),
    "npz": npz(np.savez),
    "npz deflated": npz(np.savez_compressed),
    "pt": torch_file(new=True),
    "pt legacy": torch_file(new=False),
    "keras": attacks_on_keras.SMALL,
}


def section_offsets(content):
    """Offsets at which sections of a file begin or end, most of them."""
    offsets = {0, 4, 8, len(content) // 2, len(content)}
    if content[8:9] == b"{":
        offsets.add(8 + struct.unpack("<Q", content[:8])[0])
    for mark in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"TREE", b"SNOD", b"HEAP", b"OHDR"):
        at = content.find(mark)
        while at >= 0:
            offsets.add(at)
            at = content.find(mark, at + 1)
    return sorted(offsets)


def head(content):
    """The bytes that describe the others: for most containers at the start or the end."""
    at = st.integers(0, min(2048, len(content) - 9))
    return at | at.map(lambda offset: len(content) - 9 - offset)


@st.composite
def flipped(draw, content):
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        offset = draw(head(content) | st.integers(0, len(content) - 1))
        changed[offset] ^= draw(st.integers(1, 255))
    return bytes(changed)


@st.composite
def cut(draw, content):
    at = draw(st.sampled_from(section_offsets(content))) + draw(st.integers(-9, 9))
    return content[: max(0, min(at, len(content) - 1))]


@st.composite
def spliced(draw, content):
    """A piece of one file inserted into another, or written over it."""
    other = CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))]
    at = draw(st.sampled_from(section_offsets(content)))
    begin = draw(st.sampled_from(section_offsets(other)))
    piece = other[begin : begin + draw(st.sampled_from([1, 8, 512, 10**6]))]
    overwrite = draw(st.booleans())
    return content[:at] + piece + content[at + len(piece) * overwrite :]


@st.composite
def with_number(draw, content):
    """A number, in binary or in text, replaced by another one."""
    number = draw(st.sampled_from(HUGE))
    if draw(st.booleans()):
        size = draw(st.sampled_from([2, 4, 8]))
        at = draw(head(content))
        return content[:at] + struct.pack("<Q", number)[:size] + content[at + size :]
    digits = [at for at in range(8, 4096) if content[at : at + 1].isdigit()] or [8]
    at = draw(st.sampled_from(digits))
    return content[:at] + str(number).encode() + content[at + 1 :]


def mutations(kind):
    """`EACH` files with random changes of the container of this name, the same ones each time."""
    content, changed_contents = CONTAINERS[kind], {}
    changes = flipped(content) | cut(content) | spliced(content) | with_number(content)

    @settings(
        max_examples=3 * EACH,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(changed=changes)
    def collect(changed):
        changed_contents[changed] = None

    collect()
    different = [changed for changed in changed_contents if changed != content][:EACH]
    return [
        Attack(f"{kind}, change {number}", changed, "", kind.split()[0], None)
        for number, changed in enumerate(different)
    ]


def truncations(kind):
    """The container of this name cut at its section offsets, and a byte before and after them."""
    content = CONTAINERS[kind]
    lengths = sorted(
        {
            at + step
            for at in section_offsets(content)
            for step in (-1, 0, 1)
            if at + step < len(content)
        }
        - {-1}
    )
    most = lengths[:6] + lengths[-6:]
    return [
        Attack(f"{kind}, cut at {length}", content[:length], "", kind.split()[0], None)
        for length in sorted(set(most))
    ]
