"""Types beside torch's own that are read in a torch file; none of them runs code of the file.

A checkpoint may hold arguments, NumPy scalars and arrays, dates and default dicts, some of which
`torch.load(weights_only=True)` does not read. Here each is read as a plain Python value, or as
`Unread`.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import reprlib
from typing import Any

import numpy as np

_NUMBER = re.compile("[biuf][1248]|c8|c16")


class Unread:
    """A value that is not read: an array, a date, the state of a random number generator."""

    def __init__(self, *_arguments: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


class PlainDict:
    """A dict of any class, read as a dict: its default factory and its attributes are left out."""

    def __new__(cls, *_arguments: Any) -> Any:
        """Return an empty dict, which the pickle then fills."""
        return {}


class PlainList:
    """A deque, read as a list."""

    def __new__(cls, *_arguments: Any) -> Any:
        """Return an empty list, which the pickle then fills."""
        return []


class NumpyDtype:
    """Replaces `numpy.dtype` in a pickle: the type of a number, or None for any other."""

    def __init__(self, code: Any, *_align_and_copy: Any) -> None:
        if type(code) is not str:
            raise ValueError(f"a NumPy dtype must be a text. Received: {reprlib.repr(code)}")
        self.dtype = np.dtype(code) if _NUMBER.fullmatch(code) else None

    def __setstate__(self, state: Any) -> None:
        """Set the byte order, the second of a dtype's pickled fields."""
        order = {"<": "<", ">": ">"}.get(state[1], "=")
        if self.dtype is not None:
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


def numpy_scalar(kind: Any, content: Any) -> Any:
    """Replace `numpy.core.multiarray.scalar` in a pickle.

    Args:
        kind: A `NumpyDtype`.
        content: The bytes of the scalar.

    Returns:
        A Python number, or `Unread` for a text or a date.

    Raises:
        ValueError: The arguments are not a dtype and bytes.
    """
    if type(kind) is not NumpyDtype or type(content) is not bytes:
        raise ValueError("a NumPy scalar must be a number given by its bytes")
    if kind.dtype is None:
        return Unread()
    (value,) = np.frombuffer(content, kind.dtype)
    return value.item()


_PLAIN_DICTS = (
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_UNREAD = (
    *("builtins.int", "builtins.float", "builtins.bool", "builtins.str", "builtins.bytes"),
    *("builtins.list", "builtins.dict", "builtins.tuple", "builtins.object", "typing.Any"),
    *("builtins.frozenset", "builtins.range", "builtins.slice", "types.SimpleNamespace"),
    *("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta"),
    *("datetime.timezone", "decimal.Decimal", "fractions.Fraction", "uuid.UUID"),
    *("numpy.ndarray", "numpy.core.multiarray._reconstruct"),
    *("numpy._core.multiarray._reconstruct", "numpy._core.numeric._frombuffer"),
    *("numpy.random._pickle.__generator_ctor", "numpy.random._pickle.__bit_generator_ctor"),
    *("numpy.random._pickle.__randomstate_ctor", "numpy.random._mt19937.MT19937"),
    *("numpy.random._pcg64.PCG64", "numpy.random.bit_generator.SeedSequence"),
    *("numpy.random.bit_generator.__pyx_unpickle_SeedSequence",),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean")),
)
_PATHS = ("pathlib.PosixPath", "pathlib._local.PosixPath", "pathlib.PurePosixPath")
_WINDOWS_PATHS = ("pathlib.WindowsPath", "pathlib._local.WindowsPath", "pathlib.PureWindowsPath")

SAFE: list[Any] = [
    argparse.Namespace,
    (NumpyDtype, "numpy.dtype"),
    (numpy_scalar, "numpy.core.multiarray.scalar"),
    (numpy_scalar, "numpy._core.multiarray.scalar"),
    (PlainList, "collections.deque"),
    *((PlainDict, name) for name in _PLAIN_DICTS),
    *((Unread, name) for name in _UNREAD),
    *((pathlib.PurePosixPath, name) for name in _PATHS),
    *((pathlib.PureWindowsPath, name) for name in _WINDOWS_PATHS),
]
"""The argument of `torch.serialization.safe_globals`: classes, or a value and the name that it
replaces."""


def pickled_names() -> set[str]:
    """Return the names in `SAFE` as `pickletools` writes them: module, a space, name.

    >>> "collections defaultdict" in pickled_names(), "__builtin__ list" in pickled_names()
    (True, True)
    """
    names = [each[1] for each in SAFE if isinstance(each, tuple)]
    pairs = [name.rpartition(".")[::2] for name in names] + [("argparse", "Namespace")]
    builtins = [name for module, name in pairs if module == "builtins"]
    python_2 = [("__builtin__", {"range": "xrange"}.get(name, name)) for name in builtins]
    return {f"{module} {name}" for module, name in [*pairs, *python_2]}
