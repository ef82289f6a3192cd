"""Every constant that decides a verdict: its value, the reason for it, and where it was measured.

Floors and envelopes are measured at run time. These constants say how often they are measured and
how many of them an error may reach. `docs/agreement.md` explains the method; the values that
MobileNets.jl shares are in ``julia/test/vectors/tolerances.json``, which both test suites read.
"""

from __future__ import annotations

# Errors, in floors

USUAL_RATIO = 10.0
"""Floors that all but a few of a level's tensors are within (`OUTSIDE_RATE`).

Reason: A floor is a maximum over a few random draws, which further draws exceed a few times.
Measured: torch against its own channels_last layout, 28 lockstep steps in float64: gradients reach
9.3 floors, running statistics 10.3, the loss 14.3.
"""

OUTSIDE_RATE = 1e-4
"""Probability that an independent error of a correct pair is outside `USUAL_RATIO` floors.

The errors of a gradient, of its optimizer slots and of its parameter in one step count as one.

Reason: Among thousands of tensors, rounding alone takes single ones further than ten floors or
makes them lost (`MAX_FLOOR`). The value is above the 95 % interval of the measured rate.
Measured: In lockstep in float64, SGD at 0.1 and Adam at 1e-3, V1 alpha 0.125, stem stride 2, torch
2.13.0, NumPy 2.4.6, one thread of an AMD EPYC without AVX-512, torch and channels_last, NumPy and
torch, torch and NumPy: none of 58,380 errors of two steps (`parity/false_alarm_rate.py`: seeds 100
to 129 with batch 8 and one seed, 200, with batch 32, incomplete runs left out) and one of 34,611 of
three steps (seeds 0 to 15, batches of 8 to 128), which is lost. One of 92,991 is at most 5.1e-5
with 95 % confidence. torch and Julia: none of 27,800 in 200 steps of SGD (9.98 floors at most) or
of 8,896 in 64 steps of Adam. With the present recipes of the scenarios, seeds 0 to 29, batch 9, on
an AMD EPYC with AVX-512: none of 50,040, the largest at 9.99 floors, which is at most 6.0e-5.
"""

FALSE_ALARM_RATE = 1e-3
"""Largest probability that a verdict on a correct pair fails by errors outside `USUAL_RATIO`.

Reason: The command has 44 such verdicts, so that fewer than one run in twenty gives a false alarm
even if every verdict had this probability. The number of errors that may be outside is a whole one,
so that most verdicts have a lower one: 3.8e-4 for the 278 errors of two lockstep steps.
Measured: None of 210 verdicts on two lockstep steps fails (`OUTSIDE_RATE`, the first measurement),
which bounds the rate by 1.4 % with 95 % confidence; the rest follows from the binomial law.
Planted faults that few tensors show, such as a Float32 eps, are still found (`parity/faults.py`).
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

# Activations

MAX_ACTIVATION_RATIO = 1.5
"""Largest distance of float32 activations from the oracle, in multiples of torch's own.

It bounds the median of the multiples of torch's contiguous layout, and every activation's multiple
of the larger distance of torch's two layouts.

Reason: The distance of a single activation varies with the order of sums, the median of all hardly
does; a mean that loses two bits triples it. 1.5 is chosen between the two.
Measured: torch 2.13.0 against itself with permuted batches and inputs moved by one ulp, seeds 0 to
9, V1 alpha 0.125, stem stride 2, batch 16; 0 to 5, V1 0.25, 2, batch 32; 0 to 2, V1 0.25, 1, batch
16; 0 to 4, V2 0.35, 2, batch 16; two draws each, one thread of an AMD EPYC: medians of 0.90 to
1.17, and no activation beyond 1.18 times that of channels_last. Recordings of Julia 1.10.8 and
Flux 0.16.10: medians of 1.03, 1.06 and 0.91, at most 1.02 times channels_last. torch without
oneDNN, which sums in another order: medians of 4.9 to 9.2.
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
