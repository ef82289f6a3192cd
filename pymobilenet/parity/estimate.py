"""An estimate of how long a comparison takes, from a measurement of a few training steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

import numpy as np

from pymobilenet.architecture import mult_adds
from pymobilenet.backends import backend
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.parity.handover import AFTER, BEFORE, HANDOVERS
from pymobilenet.parity.recording import CURVE_RECIPES, CURVE_STEPS, Recording
from pymobilenet.parity.scenario import BATCH_SIZE, IMAGE_SIZE, WORKING_RECIPES
from pymobilenet.parity.tolerances import DRAWS, FIRST_DRAWS

FORWARD = 1 / 3
"""Cost of a forward pass, in training steps: a backward pass computes two gradients."""

UPDATES = 2 * len(WORKING_RECIPES)
"""Steps of level 3 in one run of a scenario."""

OBSERVE = UPDATES + 2 + 4 * FORWARD
"""Training steps in one run of a scenario: level 3, two gradients, four forward passes."""

ORACLE = OBSERVE + 1 + UPDATES * (1 + FORWARD)
"""Training steps of the oracle in a scenario: one run, and the steps that give the running
statistics and the masks."""

COMPARISON, LOCKSTEP, HANDOVER = 3.0, 2.2, 2.8
"""Time of a part over the time of its training steps: states are copied and permuted, distances
computed, and some floors measured again. Measured with torch and the oracle, V1 alpha 0.25, stem
stride 2, float64, for levels 0 to 3, lockstep and hand-over; for free curves it is 1.15."""

PROBE_IMAGES = 16
"""Images of the step that is timed."""


def describe_duration(
    names: Sequence[str],
    configs: Sequence[MobileNetConfig],
    dtypes: Iterable[str],
    steps: int,
) -> str:
    """Return a sentence that says how long `run.run_parity` takes on this machine.

    Args:
        names: The two backends. Julia, which is not started, is taken to be as fast as torch.
        configs: The nets of levels 0 to 3; levels 4 and 6 use the first.
        dtypes: The dtypes of levels 0 to 3.
        steps: Steps of each run of level 4.
    """
    speeds = {name: seconds_per_mult_add(name) for name in _measurable(names)}
    leader, follower = (speeds.get(name, speeds.get("torch", 0.0)) for name in names)
    runs = len(list(dtypes)) * sum(image_mult_adds(config) for config in configs)
    per_image = ORACLE * speeds["numpy"] + (1 + DRAWS) * OBSERVE * leader + OBSERVE * follower
    seconds = COMPARISON * runs * BATCH_SIZE * per_image
    if steps:
        seconds += _level4_and_6(configs[0], leader, follower, steps)
    has_julia = any(name.startswith("julia") for name in names)
    return _sentence(seconds) + (_julia_setup() if has_julia else "")


def describe_replay_duration(recordings: Sequence[Recording], name: str) -> str:
    """Return a sentence that says how long `run.replay` takes on this machine.

    Args:
        recordings: The recordings that are replayed.
        name: The backend that is compared with them.
    """
    oracle, live = (seconds_per_mult_add(one) for one in ("numpy", name))
    seconds = 0.0
    for recording in recordings:
        scenario = recording.scenario
        work = COMPARISON * (ORACLE * oracle + (1 + DRAWS) * OBSERVE * live)
        seconds += image_mult_adds(scenario.config) * scenario.batch_size * work
        for title in recording.curves:
            images = CURVE_RECIPES[title].batch_size * CURVE_STEPS * (1 + FIRST_DRAWS)
            seconds += image_mult_adds(scenario.config) * images * live
    return _sentence(seconds)


def image_mult_adds(config: MobileNetConfig) -> float:
    """Return about how many multiply-adds a forward pass of an image of `IMAGE_SIZE` takes.

    Args:
        config: The net.
    """
    return mult_adds(config) * math.prod(IMAGE_SIZE) / config.resolution**2


def seconds_per_mult_add(name: str) -> float:
    """Time a training step of a small net, and return its seconds by image and multiply-add."""
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100, stem_stride=1)
    measured = backend(name)
    model = measured.build(config, dtype="float64")
    model.set_optimizer(WORKING_RECIPES[0])
    rng = np.random.default_rng(0)
    images = rng.standard_normal((PROBE_IMAGES, 3, 32, 32))
    labels = rng.integers(0, config.num_classes, PROBE_IMAGES)
    seconds = []
    with measured.few_threads():
        for _ in range(2):
            start = time.perf_counter()
            model.step(images, labels, 1e-4)
            seconds.append(time.perf_counter() - start)
    return min(seconds) / PROBE_IMAGES / mult_adds(config)


def _measurable(names: Sequence[str]) -> list[str]:
    """Return the backends whose step is timed: the oracle, and torch in place of Julia."""
    return list(dict.fromkeys(["numpy", *("torch" if n.startswith("julia") else n for n in names)]))


def _level4_and_6(config: MobileNetConfig, leader: float, follower: float, steps: int) -> float:
    """Return the seconds of lockstep, free curves and hand-over."""
    lockstep = (2 + FIRST_DRAWS) * leader + follower
    curves = (1 + FIRST_DRAWS + FORWARD) * leader + (1 + FORWARD) * follower
    handover = BEFORE + AFTER * (3 + FIRST_DRAWS)
    seconds = LOCKSTEP * _images(WORKING_RECIPES) * steps * lockstep
    seconds += _images(CURVE_RECIPES.values()) * steps * curves
    seconds += HANDOVER * _images(HANDOVERS) * handover * (leader + follower)
    return seconds * image_mult_adds(config)


def _images(recipes: Iterable[TrainConfig]) -> int:
    """Return the images of one step of each recipe."""
    return sum(train.batch_size for train in recipes)


def _sentence(seconds: float) -> str:
    text = f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
    return (
        f"Expected time on this machine: about {text}, estimated from the time of a training step. "
        "It is longer where floors have to be measured again."
    )


def _julia_setup() -> str:
    from pymobilenet.backends.julia.project import is_set_up

    if is_set_up():
        return " Starting Julia and, after an update, compiling MobileNets.jl come on top."
    return (
        " Julia's packages are not installed yet: installing and compiling them comes on top, once "
        "(a whole demo with it took three to seven minutes on two cores)."
    )
