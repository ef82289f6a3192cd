"""A rule of Optimisers.jl that a comparison runs on given gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.julia.interop import translate_julia_errors, view
from pymobilenet.backends.julia.runtime import running_backend
from pymobilenet.backends.optimizer_run import Arrays, OptimizerRun, OptimizerSteps
from pymobilenet.errors import ConfigError


class FluxOptimizer(OptimizerRun):
    """A rule of Optimisers.jl, or a chain of rules.

    Args:
        rule: The Julia object.
        rate: Its rate. Every step sets the rate of the rule by ``Optimisers.adjust!``, which in a
            chain sets that of every rule; None leaves the rule as it is.
        name: How reports call it.
    """

    def __init__(self, rule: Any, rate: float | None, name: str) -> None:
        self.name, self._rule, self._rate = name, rule, rate
        self.has_schedule = rate is None
        self._backend = running_backend()

    @classmethod
    def from_file(cls, spec: str, rate: float | None, name: str) -> FluxOptimizer:
        """Return the rule that a function of a Julia file builds.

        Args:
            spec: ``file.jl:function``; the function has no arguments.
            rate: The rate of the rule, or None; see `FluxOptimizer`.
            name: How reports call it.

        Raises:
            ConfigError: The file is not there, or no function is named.
            JuliaError: The file or the function throws.
        """
        path, _, function = spec.rpartition(":")
        if not path.endswith(".jl") or not Path(path).is_file():
            raise ConfigError(
                f"a Julia optimizer must be file.jl:function. Received: {spec}, no such file"
            )
        tracing = running_backend().julia.Tracing
        with translate_julia_errors():
            return cls(tracing.from_file(str(Path(path).resolve()), function), rate, name)

    def run(
        self, parameters: Arrays, gradients: Sequence[Arrays], factors: Sequence[float]
    ) -> OptimizerSteps:
        """Take a step for each of the gradients; see `OptimizerRun.run`."""
        names = list(parameters)
        rates = [] if self._rate is None else [self._rate * factor for factor in factors]
        arrays = [
            [np.array(each[name], order="C") for name in names] for each in (parameters, *gradients)
        ]
        with translate_julia_errors():
            start, *steps = [[self._backend.wrap(array) for array in each] for each in arrays]
            results = self._backend.julia.Tracing.optimizer_steps(
                self._rule, start, steps, np.array(rates)
            )
            return OptimizerSteps(
                [
                    {
                        name: np.array(view(value), order="C")
                        for name, value in zip(names, result, strict=True)
                    }
                    for result in results
                ],
                rates,
            )
