"""Whole files of every container, and what a broken disk or a clever hand makes of them."""

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


def borders(content):
    """Where one part of a file ends and another begins, most of them."""
    found = {0, 4, 8, len(content) // 2, len(content)}
    if content[8:9] == b"{":
        found.add(8 + struct.unpack("<Q", content[:8])[0])
    for mark in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"TREE", b"SNOD", b"HEAP", b"OHDR"):
        at = content.find(mark)
        while at >= 0:
            found.add(at)
            at = content.find(mark, at + 1)
    return sorted(found)


def head(content):
    """The bytes that describe the others: for most containers at the start or the end."""
    at = st.integers(0, min(2048, len(content) - 9))
    return at | at.map(lambda offset: len(content) - 9 - offset)


@st.composite
def flipped(draw, content):
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(head(content) | st.integers(0, len(content) - 1))
        changed[place] ^= draw(st.integers(1, 255))
    return bytes(changed)


@st.composite
def cut(draw, content):
    at = draw(st.sampled_from(borders(content))) + draw(st.integers(-9, 9))
    return content[: max(0, min(at, len(content) - 1))]


@st.composite
def spliced(draw, content):
    """A part of one file in another."""
    other = CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))]
    at = draw(st.sampled_from(borders(content)))
    begin = draw(st.sampled_from(borders(other)))
    part = other[begin : begin + draw(st.sampled_from([1, 8, 512, 10**6]))]
    overwrite = draw(st.booleans())
    return content[:at] + part + content[at + len(part) * overwrite :]


@st.composite
def grown(draw, content):
    """A number, in binary or in text, that is another one."""
    number = draw(st.sampled_from(HUGE))
    if draw(st.booleans()):
        size = draw(st.sampled_from([2, 4, 8]))
        at = draw(head(content))
        return content[:at] + struct.pack("<Q", number)[:size] + content[at + size :]
    digits = [at for at in range(8, 4096) if content[at : at + 1].isdigit()] or [8]
    at = draw(st.sampled_from(digits))
    return content[:at] + str(number).encode() + content[at + 1 :]


def mutations(kind):
    """So many files made from the container of this name, the same ones each time."""
    content, found = CONTAINERS[kind], {}
    changes = flipped(content) | cut(content) | spliced(content) | grown(content)

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
        found[changed] = None

    collect()
    different = [changed for changed in found if changed != content][:EACH]
    return [
        Attack(f"{kind}, change {number}", changed, "", kind.split()[0], None)
        for number, changed in enumerate(different)
    ]


def truncations(kind):
    """The container of this name cut at each of its borders, and a byte before and after."""
    content = CONTAINERS[kind]
    lengths = sorted(
        {at + step for at in borders(content) for step in (-1, 0, 1) if at + step < len(content)}
        - {-1}
    )
    most = lengths[:6] + lengths[-6:]
    return [
        Attack(f"{kind}, cut at {length}", content[:length], "", kind.split()[0], None)
        for length in sorted(set(most))
    ]
