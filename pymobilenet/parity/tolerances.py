"""Every constant that decides a verdict: its value, the reason for it, and where it was measured.

Floors and envelopes are measured at run time. These constants say how often they are measured and
how many of them an error may reach. `docs/agreement.md` explains the method; the values that
MobileNets.jl shares are in ``julia/test/vectors/tolerances.json``, which both test suites read.
"""

from __future__ import annotations

# Errors, in floors

USUAL_RATIO = 10.0
"""Floors that `REQUIRED_FRACTION` of a level's tensors may be off by.

Reason: A floor is a maximum over a few random draws, which further draws exceed a few times.
Measured: torch against its own channels_last layout, 28 lockstep steps in float64: gradients reach
9.3 floors, running statistics 10.3, the loss 14.3.
"""

REQUIRED_FRACTION = 0.999
"""Fraction of a level's tensors that must be within `USUAL_RATIO` floors.

Reason: Among thousands of tensors, rounding alone takes single ones further than ten floors (the
loss and a running statistic, `USUAL_RATIO`) or makes them lost (`MAX_FLOOR`).
Measured: torch and Julia in lockstep: none of 61,000 tensors in 200 steps of SGD at 0.1 is outside
(9.98 floors at most), and none of 24,832 in 64 steps of Adam at 1e-3 (9.5 at most).
"""

MAX_RATIO = 30.0
"""Floors that no tensor may exceed.

Reason: Twice the largest ratio that a correct pair of programs was seen to reach.
Measured: 14.3 (`USUAL_RATIO`).
"""

REMEASURE_RATIO = USUAL_RATIO * 10.0
"""Largest ratio for which floors are measured again over `MORE_DRAWS` before a tensor fails.

Reason: More draws must raise the floor tenfold to bring such an error within `USUAL_RATIO`.
Measured: Twenty draws raise a floor of five at most 2.2 times (`MORE_DRAWS`), and draws of a less
exact program may raise it further (`MAX_WIDENING`).
"""

# Floors

MIN_FLOOR_ULPS = 16
"""No floor is below this many units in the last place (ulp) of the tensor's norm.

Reason: Draws may all leave a single value, such as the loss, exactly as it was.
Measured: With weights moved by one ulp, the floor of the loss is 0 at some lockstep steps, and
gradients of float64 have floors of 3e-14 where torch is 9.8e-13 from its channels_last layout. The
number 16 is chosen, not measured.
"""

MAX_FLOOR = {"float32": 1 / 30, "float64": 2.0**-26}
"""Dtype -> largest floor, as a fraction of the tensor's norm. Above it the tensor is lost.

Reason: In float32, `MAX_RATIO` floors must not reach the norm, or a tensor of zeros would pass. In
float64 half of the 52 bits must be left. A program whose results depend on the order of the images
has such floors, and must not pass because of them.
Measured: In a correct program one of 388 tensors at one of 50 steps of SGD at 0.05, alpha 0.125: a
gradient of norm 2e-6, where all gradients together have norm 13, that draws move by 2e-8.
"""

# Draws

FIRST_DRAWS = 1
"""Draws of the first attempt in lockstep, after a hand-over, and for the envelope of a curve.

Reason: Further draws only raise a floor, so what passes with one draw passes with `DRAWS`.
Measured: `DRAWS`.
"""

DRAWS = 5
"""Draws of a floor or an envelope.

Reason: A compromise between the cost of a draw, which is that of a run, and the size of the floor.
Measured: torch 2.13 on a CPU, V1 alpha 0.25, stem stride 2, batch 32, 1,492 tensors of levels 0 to
3: five draws raise the floors of one draw at most 2.5 times in float64 and 3.9 times in float32.
"""

MORE_DRAWS = 20
"""Draws of every program where a verdict depends on the floors (`REMEASURE_RATIO`).

Reason: An error may be outside ten floors only because five draws were too small.
Measured: As for `DRAWS`: twenty draws raise the floors of five at most 1.9 times in float64 and 2.2
times in float32.
"""

MAX_WIDENING = 10.0
"""Largest factor by which draws of the second program raise a floor or an envelope.

Reason: The program that does not lead may be the less exact one. A fault that is not repeatable,
such as a race, looks like noise of its program and would hide every other fault.
Measured: As for `DRAWS`, in float64: torch's floors are at most 130 times the oracle's, and the
oracle's at most 21 times torch's. Ten is chosen: a fault may not hide behind more.
"""

LAYER_DRAWS = 3
"""Draws of a single layer in a comparison of two models (`parity.diff`).

Reason: A layer alone runs once for each draw, and every layer is compared alone.
Measured: Ten random nets, torch and Flux, float64: no layer of a correct pair is outside
`MAX_RATIO` (`parity/test_diff_live.py`).
"""

LAYER_MIN_ULPS = 2
"""The same as `MIN_FLOOR_ULPS`, for a single layer that computes without sums.

Reason: Such a layer rounds each value a few times, and the usual minimum would hide a Float32 eps.
Measured: A norm with eps float32(1e-5) in place of 1e-5 is found with this minimum, and was not
found with the usual one (`tests/diff/nets.py`).
"""

# Training curves

MAX_ENVELOPE = 1e-3
"""Relative difference of the loss above which an envelope is saturated and steps are not compared.

Reason: Two runs of one program then differ as much as two experiments do.
Measured: torch against itself from weights moved by one ulp, V1 alpha 0.25, stem stride 1,
CIFAR-100, float64, SGD 0.01 with momentum 0.9, batch 128: 7e-5 after 10 steps, 6e-3 after 20, 3e-3
after 40, 2e-3 after 59. With Adam at 1e-4 it is 9e-15 after 59.
"""

MAX_FLIPPED_FRACTION = 1e-5
"""Largest fraction of activation values that lie on other sides of a kink at the first step with
any such value, if the rest of a curve is not to be compared.

Reason: Rounding flips single values first; a wrong rate or a wrong batch flips thousands at once.
Measured: In a correct run 1 of 13.6 million values, then 6,686, then 2.4 million.
"""
