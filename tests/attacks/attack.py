"""An attack, a bad file, and the rule in its error message."""

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
        name: A description of the file.
        content: The bytes of the file.
        message: A part of the error message, if the rule is one of this package; "" if a library
            raises the error.
        container: The container that the file is read as; "" to detect it.
        command: The command of `pymobilenet` that reads the file, if reading alone does not check
            the rule; "" for "info"; None for no command.
    """

    name: str
    content: bytes
    message: str
    container: str = ""
    command: str | None = ""

    @property
    def file_name(self):
        """The name of the file."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def attacks(kind, table, **options):
    """The attacks of a table name -> content, or (content, part of the message)."""
    pairs = {name: each if isinstance(each, tuple) else (each, "") for name, each in table.items()}
    return [
        Attack(f"{kind}, {name}", content, message, **options)
        for name, (content, message) in pairs.items()
    ]


def rule(message):
    """An error message without names, numbers and the values received: the rule alone.

    It is the same in both languages, except for the names of types.
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


def as_file(header, data=b""):
    """A safetensors file with this header, after the length of the header."""
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def replaced(content, old, new, count=1):
    """`content` with `old`, which must be there, replaced."""
    assert old in content, old
    return content.replace(old, new, count)
