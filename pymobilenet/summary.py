"""Parameters and multiply-adds per layer, compared with full convolutions."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pymobilenet.architecture import Layer, feature_channels, layers
from pymobilenet.config import MobileNetConfig


@dataclass(frozen=True)
class LayerCost:
    """One row of the table.

    Attributes:
        name: Canonical name of the unit, or ``classifier``.
        kind: The role: ``stem``, ``depthwise``, ``pointwise``, ``reduce``, ``expand``,
            ``project``, ``head`` or ``classifier``.
        output_shape: (C, H, W) of one image's feature maps, or (classes,).
        num_params: Trained values, including those of the norm.
        mult_adds: Multiply-adds for one image, without those of the norm.
        receptive_field: Rows (and columns) of the image, in pixels, on which one output value
            depends, without regard to borders.
        full_num_params: For the 1x1 layer after a depthwise layer: the parameters of one full
            convolution and its norm in place of both; None for other layers.
        full_mult_adds: For the same layers: the multiply-adds of that full convolution.
        reduction: For the same layers: the ratio of multiply-adds, ``c' k^2 / (k^2 + c')`` for c'
            output channels and a k x k kernel, the reciprocal of the equation in Howard et al.,
            arXiv:1704.04861, section 3.1.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_params: int
    mult_adds: int
    receptive_field: int
    full_num_params: int | None = None
    full_mult_adds: int | None = None
    reduction: float | None = None


@dataclass(frozen=True)
class Summary:
    """The cost of every layer of a model, with totals.

    Attributes:
        config: The architecture.
        rows: One row per layer.
    """

    config: MobileNetConfig
    rows: tuple[LayerCost, ...]

    @property
    def num_params(self) -> int:
        """All trained values."""
        return sum(row.num_params for row in self.rows)

    @property
    def mult_adds(self) -> int:
        """All multiply-adds for one image."""
        return sum(row.mult_adds for row in self.rows)

    @property
    def full_num_params(self) -> int:
        """Parameters with full convolutions in place of depthwise and pointwise ones."""
        return sum(
            _with_full_convolution(row, row.num_params, row.full_num_params) for row in self.rows
        )

    @property
    def full_mult_adds(self) -> int:
        """Multiply-adds with full convolutions in place of depthwise and pointwise ones."""
        return sum(
            _with_full_convolution(row, row.mult_adds, row.full_mult_adds) for row in self.rows
        )

    @property
    def shares(self) -> dict[str, tuple[float, float]]:
        """Fractions of all parameters and of all multiply-adds, by kind of layer."""
        return {
            kind: (
                sum(row.num_params for row in rows) / self.num_params,
                sum(row.mult_adds for row in rows) / self.mult_adds,
            )
            for kind in dict.fromkeys(row.kind for row in self.rows)
            if (rows := [row for row in self.rows if row.kind == kind])
        }

    def to_dict(self) -> dict[str, Any]:
        """Return config, rows, totals and shares as nested dictionaries."""
        return {
            "config": self.config.to_dict(),
            "layers": [asdict(row) for row in self.rows],
            "num_params": self.num_params,
            "mult_adds": self.mult_adds,
            "full_num_params": self.full_num_params,
            "full_mult_adds": self.full_mult_adds,
            "shares": {
                kind: {"num_params": params, "mult_adds": adds}
                for kind, (params, adds) in self.shares.items()
            },
        }


def _with_full_convolution(row: LayerCost, cost: int, full_cost: int | None) -> int:
    if row.kind == "depthwise":
        return 0
    return cost if full_cost is None else full_cost


def summary(config: MobileNetConfig, size: tuple[int, int] | None = None) -> Summary:
    """Compute the cost of every layer.

    Args:
        config: The architecture.
        size: (height, width) of the images in pixels. Default: the config's resolution.

    Returns:
        The rows and totals.

    Examples:
        >>> table = summary(MobileNetConfig())
        >>> table.rows[2].name, table.rows[2].output_shape, table.rows[2].mult_adds
        ('blocks.0.pointwise', (64, 112, 112), 25690112)
        >>> table.full_mult_adds  # the paper's table 4 prints 4866 million
        4867293184
    """
    rows: list[LayerCost] = []
    field, spacing = 1, 1
    height, width = size or (config.resolution, config.resolution)
    depthwise: Layer | None = None
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
        field += (layer.kernel - 1) * spacing
        spacing *= layer.stride
        row = _cost(layer, height, width, field)
        rows.append(row if depthwise is None else _with_full(row, depthwise, layer))
        depthwise = layer if layer.role == "depthwise" else None
    features, classes = feature_channels(config), config.num_classes
    field += (max(height, width) - 1) * spacing
    shape, params = (classes,), (features + 1) * classes
    rows.append(LayerCost("classifier", "classifier", shape, params, features * classes, field))
    return Summary(config, tuple(rows))


def _cost(layer: Layer, height: int, width: int, field: int) -> LayerCost:
    weights = math.prod(layer.weight_shape)
    shape = (layer.out_channels, height, width)
    params, mult_adds = weights + 2 * layer.out_channels, weights * height * width
    return LayerCost(layer.name, layer.role, shape, params, mult_adds, field)


def _with_full(row: LayerCost, depthwise: Layer, pointwise: Layer) -> LayerCost:
    """Add the cost of a full convolution in place of both layers to the row of `pointwise`."""
    taps, outputs = depthwise.kernel**2, pointwise.out_channels
    weights = taps * depthwise.in_channels * outputs
    return replace(
        row,
        full_num_params=weights + 2 * outputs,
        full_mult_adds=weights * math.prod(row.output_shape[1:]),
        reduction=outputs * taps / (taps + outputs),
    )


def print_summary(costs: Summary, console: Console) -> None:
    """Print the table of layers, the totals, and the share of each kind of layer.

    The column "sees" is the receptive field. The table fits a terminal of 80 columns.

    Args:
        costs: The summary.
        console: Where to print.
    """
    config = costs.config
    title = (
        f"MobileNet {config.family}, width_mult {config.width_mult:g}, {config.resolution} pixels"
    )
    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        title=f"{title}, stem stride {config.stem_stride}, {config.num_classes} classes",
    )
    table.add_column("layer", no_wrap=True)
    for column in ("output", "parameters", "mult-adds", "sees", "full conv"):
        table.add_column(column, justify="right")
    for row in costs.rows:
        table.add_row(
            row.name,
            "x".join(map(str, row.output_shape)),
            f"{row.num_params:,}",
            f"{row.mult_adds:,}",
            str(row.receptive_field),
            "" if row.reduction is None else f"{row.reduction:.2f} x",
        )
    table.add_section()
    table.add_row("all", "", f"{costs.num_params:,}", f"{costs.mult_adds:,}", "")
    times = f"{costs.full_mult_adds / costs.mult_adds:.2f} x"
    full = (f"{costs.full_num_params:,}", f"{costs.full_mult_adds:,}")
    table.add_row("all, full conv", "", *full, "", times)
    console.print(table)
    shares = Table(title="Share of")
    for column in ("kind", "parameters", "mult-adds"):
        shares.add_column(column, justify="left" if column == "kind" else "right")
    for kind, (params, mult_adds) in costs.shares.items():
        shares.add_row(kind, f"{100 * params:.2f} %", f"{100 * mult_adds:.2f} %")
    console.print(shares)
