"""What reading or writing a model did: which tensor is which, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pymobilenet.config import MobileNetConfig
from pymobilenet.weights.state import truncate


@dataclass(frozen=True)
class ConversionReport:
    """How a file's tensors were paired with a model's.

    Attributes:
        container, layout: What the file is, and what its names are: "npz", "timm".
        matched: Canonical name -> the file's name.
        missing: Names the layout has and the file does not.
        left_over: Names the file has and the layout does not.
        ignored: The file's names that carry nothing of the model (``num_batches_tracked``).
        config: The config of the model, once it is known.
        notes: What was changed on the way, and what does not travel; each a sentence.
        biases: The file's names of convolutions' biases -> canonical name of the unit.
        assumed: Fields of the config that neither the file, nor the user, nor a sample said.
        assumed_as: The project whose defaults they are.
        scaling: Who says how images are scaled: "" the file, "layout" the project, "unknown".
        namesakes: What other nets have these names.
    """

    container: str
    layout: str
    matched: Mapping[str, str]
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    config: MobileNetConfig | None = None
    notes: tuple[str, ...] = field(default=())
    biases: Mapping[str, str] = field(default_factory=dict)
    assumed: Mapping[str, Any] = field(default_factory=dict)
    assumed_as: str = ""
    scaling: str = ""
    namesakes: str = ""

    @property
    def fits(self) -> bool:
        """Nothing is missing and nothing is left over."""
        return not self.missing and not self.left_over

    @property
    def name_map(self) -> dict[str, str]:
        """The file's names -> canonical names, for `load_any` and ``--map``."""
        names = {peer: ours for ours, peer in self.matched.items() if peer}
        return names | {peer: f"{unit}.conv.bias" for peer, unit in self.biases.items()}

    @property
    def assumption(self) -> str:
        """What was assumed and how to say otherwise, in one line; empty where nothing was."""
        if not self.assumed:
            return ""
        fields = ", ".join(f"{name} {value}" for name, value in self.assumed.items())
        scaling = {
            "layout": "; images are scaled as there (--mean, --std)",
            "unknown": "; their scaling is not known (--preprocessing, or --mean and --std)",
        }.get(self.scaling, "")
        strides = ", and the strides of the blocks" if "stem_stride" in self.assumed else ""
        name = next(iter(self.assumed))
        namesakes = f" ({self.namesakes})" if self.namesakes else ""
        return (
            f"assumed, as {self.assumed_as} builds it, since the file does not say: {fields}"
            f"{strides}"
            f"{scaling}; say otherwise as --set {name}=..., or check it with --sample{namesakes}"
        )

    def map_lines(self) -> list[str]:
        """The map from the file's modules to canonical ones, a line each."""
        peers: dict[str, str] = {}
        for ours, peer in self.matched.items():
            peers.setdefault(ours.rpartition(".")[0], peer)
        width = max((len(peer) for peer in peers.values()), default=0)
        return [f"  {peer:{width}} -> {ours}" for ours, peer in peers.items()]

    def __str__(self) -> str:
        counts = f"{len(self.matched)} tensors matched"
        if self.ignored:
            counts += f", {len(self.ignored)} ignored ({truncate(self.ignored, most=1)})"
        lines = [f"{self.container}, layout {self.layout}: {counts}"]
        if self.layout.startswith("by structure"):
            lines += self.map_lines()
        lines += [f"missing: {truncate(self.missing)}"] if self.missing else []
        lines += [f"left over: {truncate(self.left_over)}"] if self.left_over else []
        lines += [f"config: {self.config.to_json()}"] if self.config else []
        return "\n".join([*lines, *self.notes])
