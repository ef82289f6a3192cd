"""The report of an import or export: how tensors were paired, and what was assumed."""

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
        container: The container of the file, a key of `registry.CONTAINERS`, as "npz".
        layout: The name of the layout, and the family: "timm v2".
        matched: Canonical name -> name in the file.
        missing: Names that the layout has and the file lacks.
        left_over: Names that the file has and the layout lacks.
        ignored: Names in the file that are no part of the model (``num_batches_tracked``).
        config: The config of the model, if it is known.
        notes: Sentences that state what was changed or not transferred.
        biases: Name in the file of a convolution's bias -> canonical name of the unit.
        assumed: Fields of the config that neither the file, the user nor a sample determines, with
            the values assumed.
        assumed_as: The project whose defaults these values are; "" if they are this project's.
        scaling: The source of the scaling of images: "" for the file, "layout" for the defaults of
            the layout, "unknown" for none.
        namesakes: Other nets that have the same tensor names.
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
        """Whether no name is missing and none is left over."""
        return not self.missing and not self.left_over

    @property
    def name_map(self) -> dict[str, str]:
        """Name in the file -> canonical name, for `load_any` and ``--map``."""
        names = {peer: canonical for canonical, peer in self.matched.items() if peer}
        return names | {peer: f"{unit}.conv.bias" for peer, unit in self.biases.items()}

    @property
    def assumption(self) -> str:
        """One line that states what was assumed and how to override it; "" if nothing was."""
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
        builder = f", as {self.assumed_as} builds it" if self.assumed_as else ""
        return (
            f"assumed{builder}, since the file does not state them: {fields}"
            f"{strides}"
            f"{scaling}; use --set {name}=... for other values, or check them with "
            f"--sample{namesakes}"
        )

    def map_lines(self) -> list[str]:
        """Return a line for each module: its first name in the file -> its canonical name."""
        peers: dict[str, str] = {}
        for canonical, peer in self.matched.items():
            peers.setdefault(canonical.rpartition(".")[0], peer)
        width = max((len(peer) for peer in peers.values()), default=0)
        return [f"  {peer:{width}} -> {module}" for module, peer in peers.items()]

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
