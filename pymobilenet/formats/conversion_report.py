"""What a format found: which tensor is which, what is missing and what is left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """

    container: str
    layout: str
    matched: Mapping[str, str]
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    config: MobileNetConfig | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Nothing is missing and nothing is left over."""
        return not self.missing and not self.left_over

    def __str__(self) -> str:
        counts = f"{len(self.matched)} tensors matched"
        if self.ignored:
            counts += f", {len(self.ignored)} ignored ({truncate(self.ignored, most=1)})"
        lines = [f"{self.container}, layout {self.layout}: {counts}"]
        lines += [f"missing: {truncate(self.missing)}"] if self.missing else []
        lines += [f"left over: {truncate(self.left_over)}"] if self.left_over else []
        lines += [f"config: {self.config.to_json()}"] if self.config else []
        return "\n".join([*lines, *self.notes])
