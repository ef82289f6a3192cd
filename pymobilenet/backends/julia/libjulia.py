"""Calls of libjulia without juliacall, which would compile conversions for each.

Only in the thread that has started Julia: `jl_eval_string` does not tell Julia's garbage collector
that a thread enters Julia.
"""

from __future__ import annotations

import ctypes

from pymobilenet.errors import BackendUnavailable


def evaluate_number(code: str) -> int:
    """Return the value of Julia code.

    Args:
        code: An expression that is a whole number or an address.

    Raises:
        BackendUnavailable: Julia throws an error, since another version of a package is loaded.
    """
    import juliacall

    lib = juliacall.CONFIG["lib"]
    lib.jl_unbox_int64.argtypes, lib.jl_unbox_int64.restype = [ctypes.c_void_p], ctypes.c_int64
    return lib.jl_unbox_int64(_evaluate(f"Int64({code})"))


def evaluate_text(code: str) -> str:
    """Return the text that Julia code returns.

    Args:
        code: An expression that is a ``String``.

    Raises:
        BackendUnavailable: Julia throws an error, since another version of a package is loaded.
    """
    import juliacall

    lib = juliacall.CONFIG["lib"]
    lib.jl_string_ptr.argtypes, lib.jl_string_ptr.restype = [ctypes.c_void_p], ctypes.c_char_p
    return lib.jl_string_ptr(_evaluate(code)).decode()


def _evaluate(code: str) -> int:
    """The address of the value, which Julia may collect at its next allocation."""
    import juliacall

    value = juliacall.CONFIG["lib"].jl_eval_string(code.encode())
    if not value:
        raise BackendUnavailable(f"{code} is not in the project {juliacall.CONFIG['project']}")
    return value
