"""Standard normal random numbers, with the same bits in every language and on every machine.

Each Philox word gives one number through the inverse of the normal distribution function: algorithm
AS 241, PPND16 (M. Wichura, Applied Statistics 37, 477 (1988)), accurate to about 1e-16. Libraries'
logarithms differ in their last bits, so the logarithm is computed here from sums, products and
quotients, which IEEE 754 rounds identically everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LN2 = 0.6931471805599453

# The paper's coefficients a, b (centre), c, d (intermediate) and e, f (tails), from the highest
# power down.
CENTRE = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.387132872796366608,
    ),
    (
        5226.495278852545925,
        28729.085735721942674,
        39307.89580009271061,
        21213.794301586595867,
        5394.1960214247511077,
        687.1870074920579083,
        42.313330701600911252,
        1.0,
    ),
)
INTERMEDIATE = (
    (
        7.7454501427834140764e-4,
        0.0227238449892691845833,
        0.24178072517745061177,
        1.27045825245236838258,
        3.64784832476320460504,
        5.7694972214606914055,
        4.6303378461565452959,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.475938084995344946e-4,
        0.0151986665636164571966,
        0.14810397642748007459,
        0.68976733498510000455,
        1.6763848301838038494,
        2.05319162663775882187,
        1.0,
    ),
)
TAILS = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        0.0012426609473880784386,
        0.026532189526576123093,
        0.29656057182850489123,
        1.7848265399172913358,
        5.4637849111641143699,
        6.6579046435011037772,
    ),
    (
        2.04426310338993978564e-15,
        1.4215117583164458887e-7,
        1.8463183175100546818e-5,
        7.868691311456132591e-4,
        0.0148753612908506148525,
        0.13692988092273580531,
        0.59983220655588793769,
        1.0,
    ),
)


def normal64(words: NDArray[np.uint64]) -> Floats:
    """Return standard normal numbers.

    Args:
        words: uint64, any shape.

    Returns:
        float64, the same shape.
    """
    return quantile(((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def quantile(u: Floats) -> Floats:
    """Return the quantile function of the standard normal distribution.

    Args:
        u: Probabilities in (0, 1), any shape.

    Returns:
        float64, the same shape.
    """
    centred = u - 0.5
    r = 0.180625 - centred * centred
    x = centred * _polynomial(CENTRE[0], r) / _polynomial(CENTRE[1], r)
    outer = np.abs(centred) > 0.425
    distance = np.sqrt(-logarithm(np.minimum(u, 1.0 - u)[outer]))
    near, far = distance - 1.6, distance - 5.0
    magnitude = np.where(
        distance <= 5.0,
        _polynomial(INTERMEDIATE[0], near) / _polynomial(INTERMEDIATE[1], near),
        _polynomial(TAILS[0], far) / _polynomial(TAILS[1], far),
    )
    x[outer] = np.where(centred[outer] < 0, -magnitude, magnitude)
    return x


def logarithm(x: Floats) -> Floats:
    """Return the natural logarithm, ``e ln 2 + 2 artanh((m - 1) / (m + 1))`` for x = m 2**e.

    Args:
        x: Positive, any shape.

    Returns:
        float64, the same shape.
    """
    mantissa, exponent = np.frexp(x)
    is_small = mantissa < 0.7071067811865476
    mantissa = np.where(is_small, 2.0 * mantissa, mantissa)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = _polynomial([1.0 / odd for odd in range(23, 0, -2)], s * s)
    return (exponent - is_small) * LN2 + (2.0 * s) * series


def _polynomial(coefficients: Sequence[float], x: Floats) -> Floats:
    """Evaluate a polynomial by Horner's rule; coefficients from the highest power down."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total
