"""The known differences, tried on the libraries that are installed here."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pymobilenet.backends import why_unavailable
from pymobilenet.backends.facts import Fact
from pymobilenet.parity.diff import compare, compare_optimizers
from pymobilenet.parity.diff.differences import DIFFERENCES

HOLDS, CHANGED, NOT_TRIED = "holds", "does not hold", "not tried"

MOST_CHARACTERS = 200
"""Of the reason why a library cannot be tried."""

MODULES = {"Keras": ("keras",), "ONNX Runtime": ("onnx", "onnxruntime")}
"""Library -> modules that have to be installed."""


@dataclass(frozen=True)
class Finding:
    """What was found for one statement.

    Attributes:
        difference: The name of the known difference.
        library: Of which something is stated.
        statement: What is stated.
        result: `HOLDS`, `CHANGED` with the reason, or `NOT_TRIED`.
    """

    difference: str
    library: str
    statement: str
    result: str


def all_facts() -> list[Fact]:
    """Return every statement about the libraries, none tried."""
    from pymobilenet.backends.julia.facts import FACTS as FLUX_FACTS
    from pymobilenet.backends.torch.facts import FACTS as TORCH_FACTS
    from pymobilenet.parity.diff.library_facts import FACTS as OTHER_FACTS

    facts = [*TORCH_FACTS, *FLUX_FACTS, *OTHER_FACTS]
    order = [difference.name for difference in DIFFERENCES]
    return sorted(facts, key=lambda fact: order.index(fact.difference))


def try_registry() -> Iterator[Finding]:
    """Try each known difference on what is installed.

    Yields:
        For each difference, whether `compare` finds it in its minimal pair of torch modules, and
        each statement about a library.
    """
    absent = missing_libraries()
    facts = all_facts()
    for difference in DIFFERENCES:
        if "torch" not in absent:
            yield _pair(difference.name)
        for fact in facts:
            if fact.difference == difference.name:
                result = NOT_TRIED if fact.library in absent else _try(fact)
                yield Finding(fact.difference, fact.library, fact.statement, result)


def missing_libraries() -> dict[str, str]:
    """Return the libraries that cannot be tried: name -> reason, in one line."""
    libraries = ("torch", "Flux", *MODULES)
    reasons = {name: reason for name in libraries if (reason := _missing(name))}
    if "Flux" in reasons:
        reasons |= dict.fromkeys(("NNlib", "Optimisers"), reasons["Flux"])
    return {name: " ".join(reason.split())[:MOST_CHARACTERS] for name, reason in reasons.items()}


def _missing(library: str) -> str:
    """Return why a library cannot be tried, or an empty text."""
    if library in ("torch", "Flux"):
        reason = why_unavailable("torch" if library == "torch" else "julia")
        return reason or ""
    lacking = [name for name in MODULES[library] if importlib.util.find_spec(name) is None]
    if lacking:
        return f"{' and '.join(lacking)} not installed"
    if library == "Keras":
        if "keras" not in sys.modules and importlib.util.find_spec("tensorflow") is None:
            os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras' default is TensorFlow
        try:
            importlib.import_module("keras")
        except ImportError as error:  # its backend is not installed
            return str(error)
    return ""


def _try(fact: Fact) -> str:
    try:
        return HOLDS if fact.check() else CHANGED
    except Exception as error:  # a library that has changed can raise anything
        return f"{CHANGED}: {type(error).__name__}: {error!s:.200}"


def _pair(name: str) -> Finding:
    """Compare the minimal pair of a difference."""
    from pymobilenet.backends.torch.minimal_optimizers import OPTIMIZER_PAIRS
    from pymobilenet.backends.torch.minimal_pairs import MINIMAL_PAIRS

    if name in OPTIMIZER_PAIRS:
        found = [fault.name for fault in compare_optimizers(*OPTIMIZER_PAIRS[name]()).faults]
        return _finding(name, "optimizers", found)
    pair = MINIMAL_PAIRS[name]()
    report = compare(
        pair.first,
        pair.second,
        inputs=pair.inputs(),
        labels=pair.labels(),
        losses=[None, pair.loss],
    )
    comparison = report.comparisons[0]
    faults = comparison.faults + (comparison.training.faults if comparison.training else ())
    return _finding(name, "modules", [fault.name for fault in faults])


def _finding(name: str, kind: str, found: list[str]) -> Finding:
    result = HOLDS if found == [name] else f"{CHANGED}: found {', '.join(found) or 'nothing'}"
    return Finding(name, "compare", f"finds it in its minimal pair of torch {kind}", result)


def port_report() -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the report: a difference, a library, what it does, whether it holds."""
    for library, reason in missing_libraries().items():
        yield NOT_TRIED, library, reason
    last = ""
    for finding in try_registry():
        name = "" if finding.difference == last else finding.difference
        last = finding.difference
        yield name, finding.library, f"{finding.statement}: {finding.result}"
