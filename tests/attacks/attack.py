"""What an attack is, and what of a refusal is the rule."""

import re
import struct
from typing import NamedTuple

from pymobilenet import MobileNetConfig
from pymobilenet.weights import initial_state

CONFIG = MobileNetConfig(width_mult=0.05, resolution=32, num_classes=2)
"""The smallest of nets: one channel in the stem, 51 at the end."""

STATE = initial_state(CONFIG, 0)
TEXTS = {"format_version": "1", "config": CONFIG.to_json(), "versions": "{}"}


class Attack(NamedTuple):
    """A file that breaks one rule.

    Attributes:
        name: What it is.
        content: Its bytes.
        says: A part of the message, where a rule of this package refuses the file; "" where a
            library does, in its own words.
        container: What the file is read as; "" for what it shows itself to be.
        command: Of `pymobilenet`, where reading alone does not meet the rule; None asks for none.
    """

    name: str
    content: bytes
    says: str
    container: str = ""
    command: str | None = ""

    @property
    def file(self):
        """The name of its file."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def attacks(kind, table, **how):
    """The attacks of a table name -> content, or (content, part of the message)."""
    pairs = {name: each if isinstance(each, tuple) else (each, "") for name, each in table.items()}
    return [
        Attack(f"{kind}, {name}", content, says, **how) for name, (content, says) in pairs.items()
    ]


def rule(message):
    """A refusal without what is one file's own: names, numbers, the values received.

    What follows is the same in both languages, but for what they call their types.
    """
    words = re.sub(r"not JSON \(.*", "not JSON", message, flags=re.DOTALL)
    words = re.sub(r"Received: .*", "", words, flags=re.DOTALL)
    words = re.sub(r"\{.*\}", "#", words, flags=re.DOTALL)
    words = re.sub(r"\[[^]]*\]|\([\d, ]*\)", "#", words)
    words = re.sub(r"\"[^\"]*\"|(?<!\w)'[^']*'", "#", words)
    words = re.sub(r"/[\w/:]+", "#", words)
    words = re.sub(r"\b[a-z_]\w*(\.\w+)+\b|\bx\b", "#", words)
    words = re.sub(r"\w+Error\b|is \w+\. Its names.*", "#", words)
    words = re.sub(r"-?\b\d+(\.\d+)*\b", "#", words)
    return words.lower().strip()


def lengthened(header, data=b""):
    """A safetensors file with this text as its header."""
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def replaced(content, old, new, count=1):
    """`content` with `old`, which must be there, replaced."""
    assert old in content, old
    return content.replace(old, new, count)
