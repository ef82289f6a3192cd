"""The plot of the training curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pymobilenet.files import atomic_write
from pymobilenet.parity.curves import Curves
from pymobilenet.parity.tolerances import USUAL_RATIO


def write_loss_curves(
    curves: Sequence[Curves], path: str | Path, julia: str, synthetic: bool
) -> None:
    """Plot one column for each run: both losses, and below them their difference and the envelope.

    Args:
        curves: The runs.
        path: The PNG file to write.
        julia: Whether Julia was live or recorded, for the title.
        synthetic: Whether the images were synthetic, for the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(curves), 7.2), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    for above, below, run in zip(*axes, curves, strict=True):
        first, second = run.names
        above.plot(run.losses[0], color="tab:orange", linewidth=3, alpha=0.6, label=first)
        above.plot(run.losses[1], color="tab:blue", linewidth=1, label=second)
        above.set_title(run.title, fontsize="medium")
        above.set_ylabel("loss")
        above.legend()
        below.semilogy(run.envelope, color="gray", label=f"envelope: {first} against itself")
        allowed, label = USUAL_RATIO * run.envelope, f"{USUAL_RATIO:g} envelopes"
        below.semilogy(allowed, color="gray", linestyle=":", label=label)
        difference = run.difference.clip(min=1e-17)
        below.semilogy(difference, ".", color="tab:blue", markersize=3, label=f"{second} - {first}")
        end = run.compared_steps
        if end < len(run.envelope):
            below.axvspan(end, len(run.envelope), color="gray", alpha=0.12, linewidth=0)
            word = " masks differ" if end == run.flipped else " saturated"
            below.text(end, 0.02, word, transform=below.get_xaxis_transform())
        below.set_xlabel("step")
        below.set_ylabel("relative difference of the loss")
        below.legend(loc="lower right", fontsize="small")
    images = "SYNTHETIC images" if synthetic else "CIFAR-100"
    figure.suptitle(f"{images}; Julia: {julia}", fontsize="medium")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
