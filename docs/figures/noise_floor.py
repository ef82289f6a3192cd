"""Draw docs/noise-floor.png: measured errors and noise floors, and a fixed tolerance beside them.

    python docs/figures/noise_floor.py cifar-100-binary.tar.gz docs/noise-floor.png

V1 with width multiplier 0.25 and stem stride 1, 100 classes, 15 images of 33x65, seed 0. Left:
correct float32 PyTorch. Right: float64 PyTorch, correct and with two faults: images that were
rounded to float32, and norms whose eps was (9.9999997e-06 instead of 1e-05). The figures that the
page quotes are printed. It takes some minutes.
"""

import platform
import sys
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data import open_cifar100
from pymobilenet.parity.floors import Program, distance, floors, perturbed, unpermute
from pymobilenet.parity.observe import Key
from pymobilenet.parity.reference import prepared
from pymobilenet.parity.scenario import Scenario

CONFIG = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100, stem_stride=1)
FAULTY = replace(CONFIG, norm_eps=float(np.float32(CONFIG.norm_eps)))
RTOL = 1e-5
ALLOWED = 10  # floors


def observe(model, inputs):
    """Activations in training mode, then gradients with the oracle's masks, in backward order."""
    inputs.load_into(model)
    activations = model.activations(inputs.first.images, train=True)
    _, grads = model.loss_and_grads(*inputs.first)
    forward = {Key(1, "train", name): value for name, value in activations.items()}
    backward = {Key(2, "grad", name): np.array(grads[name]) for name in reversed(list(grads))}
    return forward | backward


def measure(dtype, data):
    """Errors and noise floors, in the order of a step.

    Returns the number of activations, the name of each program -> its errors (tensors,), and the
    floors (tensors,).
    """
    oracle = backend("numpy").build(CONFIG, dtype="float64")
    inputs = prepared(oracle, Scenario(CONFIG, dtype, steps=1).inputs(data))
    truth = observe(oracle, inputs.astype("float64"))
    model = backend("torch").build(CONFIG, dtype=dtype)
    correct = observe(model, inputs)
    programs = {"correct": correct}
    if dtype == "float64":
        rounded = inputs.astype("float32").astype("float64")
        programs["images rounded"] = observe(model, rounded)
        wrong = backend("torch").build(FAULTY, dtype=dtype)
        programs["eps rounded"] = observe(wrong, inputs)

    def draw(number):
        moved, order = perturbed(inputs, number)
        return unpermute(observe(model, moved), order)

    noise = floors(Program(correct, draw), (), dtype, lambda _floors: False)
    errors = {
        name: np.array([distance(observations[key], truth[key]) for key in truth])
        for name, observations in programs.items()
    }
    forward = sum(key.level == 1 for key in truth)
    return forward, errors, np.array([noise[key] for key in truth])


MARKS = {
    "correct": (".", "black", "correct PyTorch"),
    "images rounded": ("^", "tab:red", "fault: images rounded to float32"),
    "eps rounded": ("x", "tab:purple", "fault: eps of norms rounded to float32"),
}


def draw(axes, forward, errors, noise):
    places = np.arange(len(noise))
    axes.step(places, noise, where="mid", color="tab:blue", lw=1, label="noise floor")
    axes.fill_between(
        places, noise, ALLOWED * noise, step="mid", alpha=0.25, lw=0, label="up to ten floors"
    )
    for name, values in errors.items():
        mark, color, label = MARKS[name]
        axes.plot(places, values, mark, color=color, ms=4, label=label)
    axes.axhline(RTOL, color="tab:orange", ls="--", label=f"fixed rtol {RTOL:g}")
    axes.axvline(forward - 0.5, color="grey", lw=0.5)
    axes.set_xticks([forward / 2, forward + (len(noise) - forward) / 2])
    axes.set_xticklabels(["activations", "gradients"])
    axes.tick_params(axis="x", length=0)
    axes.set_yscale("log")


def summary(name, values, noise):
    within = np.mean(values <= ALLOWED * noise)
    print(
        f"{name}: {len(values)} tensors, error {values.min():.1e} to {values.max():.1e}, "
        f"median {np.median(values):.1e}; {np.sum(values > RTOL)} above rtol {RTOL:g}; "
        f"{within:.1%} within {ALLOWED} floors, the worst at {np.max(values / noise):.2f} floors"
    )


def main(where, out):
    data = open_cifar100(where, "train")
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, dtype in ((left, "float32"), (right, "float64")):
        forward, errors, noise = measure(dtype, data)
        draw(axes, forward, errors, noise)
        for name, values in errors.items():
            summary(f"{dtype}, {name}, activations", values[:forward], noise[:forward])
            summary(f"{dtype}, {name}, gradients", values[forward:], noise[forward:])
    left.set_title("float32: the fixed tolerance rejects a correct program", fontsize="medium")
    right.set_title("float64: the fixed tolerance accepts two faults", fontsize="medium")
    left.set_ylabel("relative error against the float64 oracle")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(out, dpi=130)
    versions = backend("torch").versions() | backend("numpy").versions()
    print(data.source, versions, backend("torch").threads(), platform.machine())


if __name__ == "__main__":
    main(*sys.argv[1:3])
