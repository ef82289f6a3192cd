"""The nodes of an ONNX graph that make up its layers, and the axes of the values between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
"""Permutations of a Transpose to (N, C, H, W), and to (N, H, W, C)."""

IDENTITIES = ("Identity", "Cast", "Dropout", "Unsqueeze", "Transpose")
"""Operators that leave all values as they are, in evaluation mode."""

NORM = ("Sub", "Mul", "Add")
"""A batch norm that is written out: minus the mean, times scale by deviation, plus shift."""

CHAINS = (NORM, ("Conv", "Add"), ("MatMul", "Add"))
"""Operators with constants that make up one layer: a norm, and layers with a bias."""


@dataclass(frozen=True)
class Part:
    """The nodes that compute one layer.

    Attributes:
        nodes: In order; most layers are one node.
        inputs: Names of the values that depend on the model's input.
        constants: Name -> array: weights, shapes.
        output: The name of the result.
    """

    nodes: tuple[Any, ...]
    inputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray]
    output: str

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators of the nodes, without those between that change no value."""
        first, *others = (node.op_type for node in self.nodes)
        return (first, *(each for each in others if each not in IDENTITIES))

    def weights(self) -> list[np.ndarray]:
        """Return the constants in the order in which the nodes take them."""
        names = [name for node in self.nodes for name in node.input]
        return [self.constants[name] for name in names if name in self.constants]


class RecordedGraph:
    """The nodes of a graph and all values of one run.

    Args:
        nodes: In the order of execution.
        values: Name -> array, of every value and every initializer.
        input_name: The model's input.
        output_name: The model's output.
        channels_last: Whether the input is (N, H, W, C).
    """

    def __init__(
        self,
        nodes: Sequence[Any],
        values: Mapping[str, np.ndarray],
        input_name: str,
        output_name: str,
        channels_last: bool,
    ) -> None:
        self._nodes = nodes
        self._values = values
        self._output = output_name
        self._consumers: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
        self._variable = {input_name}
        self._last = {input_name} if channels_last else set()
        for node in nodes:
            inputs = [name for name in node.input if name in self._variable]
            if inputs and any(values[name].dtype.kind == "f" for name in node.output if name):
                self._variable |= set(node.output)
                if self._is_last_after(node, inputs):
                    self._last |= set(node.output)

    def _is_last_after(self, node: Any, inputs: Sequence[str]) -> bool:
        if node.op_type == "Transpose":
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            if order in (TO_FIRST, TO_LAST):
                return order == TO_LAST
        return inputs[0] in self._last

    def is_channels_last(self, name: str) -> bool:
        """Return whether a value is (N, H, W, C).

        Args:
            name: Of the value.
        """
        return name in self._last and self._values[name].ndim == 4

    def array(self, name: str) -> np.ndarray:
        """Return a value as (N, C, H, W), or as it is if it has other axes.

        Args:
            name: Of the value.
        """
        value = self._values[name]
        return np.moveaxis(value, -1, 1) if self.is_channels_last(name) else value

    def parts(self) -> Iterator[Part]:
        """Yield the layers in order: nodes whose result depends on the input and is floating."""
        used: set[str] = set()
        for node in self._nodes:
            if node.output[0] not in self._variable or node.output[0] in used:
                continue
            nodes = self._with_followers(node)
            used |= {name for each in nodes for name in each.output}
            inner = {name for each in nodes for name in each.output}
            names = [name for each in nodes for name in each.input if name and name not in inner]
            yield Part(
                nodes,
                tuple(name for name in names if name in self._variable),
                {name: self._values[name] for name in names if name not in self._variable},
                nodes[-1].output[0],
            )

    def _with_followers(self, node: Any) -> tuple[Any, ...]:
        """Return a node and those that belong to its layer, by `CHAINS`."""
        chains = (self._chain(node, operators) for operators in CHAINS)
        return next(filter(None, chains), (node,))

    def _chain(self, node: Any, operators: Sequence[str]) -> tuple[Any, ...]:
        """Return nodes of these operators that follow each other, or none.

        Each takes a constant; nodes that change no value may be between them.
        """
        nodes: list[Any] = []
        following = node
        for operator in operators:
            while nodes and following is not None and following.op_type in IDENTITIES:
                nodes.append(following)
                following = self._only_follower(following)
            is_next = following is not None and following.op_type == operator
            if not is_next or not self._takes_constant(following, is_first=not nodes):
                return ()
            nodes.append(following)
            following = self._only_follower(following)
        return tuple(nodes)

    def _only_follower(self, node: Any) -> Any:
        followers = self._consumers.get(node.output[0], [])
        is_only = len(followers) == 1 and node.output[0] != self._output
        return followers[0] if is_only else None

    def _takes_constant(self, node: Any, is_first: bool) -> bool:
        """Return whether a node takes one value of the model and one constant.

        Behind the first node of a chain, it has an entry for each channel.
        """
        constants = [self._values[name] for name in node.input if name not in self._variable]
        if len(node.input) != 2 or len(constants) != 1:
            return False
        if is_first:
            return node.input[0] in self._variable
        output = self._values[node.output[0]]
        axis = -1 if self.is_channels_last(node.output[0]) or output.ndim < 3 else 1
        shape = [1] * output.ndim
        shape[axis] = output.shape[axis]
        own = (1,) * (output.ndim - constants[0].ndim) + constants[0].shape
        return list(own) == shape
