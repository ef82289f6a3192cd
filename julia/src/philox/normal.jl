# Normal samples with the same bits in every language and on every machine. Each word of Philox gives one sample
# by the inverse of the normal distribution function: algorithm AS 241, PPND16 (M. Wichura, Applied Statistics
# 37, 477 (1988)), accurate to about 1e-16. The logarithms of libraries differ in their last bits, so this file
# has its own, made of sums, products and quotients, whose rounding IEEE 754 defines; `muladd` and `evalpoly`
# would leave the rounding to the machine.

const LN2 = 0.6931471805599453

# The paper's coefficients a, b (central region), c, d (intermediate) and e, f (tails), highest power first.
const CENTRAL = (
    (
        2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
        13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608,
    ),
    (
        5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
        5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0,
    ),
)
const INTERMEDIATE = (
    (
        7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
        1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055,
        4.6303378461565452959, 1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966,
        0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494,
        2.05319162663775882187, 1.0,
    ),
)
const TAILS = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386,
        0.026532189526576123093, 0.29656057182850489123, 1.7848265399172913358,
        5.4637849111641143699, 6.6579046435011037772,
    ),
    (
        2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5,
        7.868691311456132591e-4, 0.0148753612908506148525, 0.13692988092273580531,
        0.59983220655588793769, 1.0,
    ),
)

"1/23, 1/21, ..., 1/3, 1: the series of artanh(s) / s in powers of s^2, highest power first."
const ARTANH = Tuple(1.0 / odd for odd in 23:-2:1)

"A standard normal `Float64` from the top 52 bits of a word."
normal64(word::UInt64) = quantile((Float64(word >> 12) + 0.5) * 2.0^-52)

"The quantile of the standard normal distribution for `u` in (0, 1)."
function quantile(u::Float64)
    centred = u - 0.5
    if abs(centred) <= 0.425
        r = 0.180625 - centred * centred
        return centred * polynomial(CENTRAL[1], r) / polynomial(CENTRAL[2], r)
    end
    distance = sqrt(-logarithm(min(u, 1.0 - u)))
    (numerator, denominator), offset = distance <= 5.0 ? (INTERMEDIATE, 1.6) : (TAILS, 5.0)
    magnitude = polynomial(numerator, distance - offset) / polynomial(denominator, distance - offset)
    return centred < 0 ? -magnitude : magnitude
end

"The natural logarithm of x > 0: `e ln 2 + 2 artanh((m - 1) / (m + 1))` for x = m 2^e."
function logarithm(x::Float64)
    mantissa, exponent = frexp(x)
    if mantissa < 0.7071067811865476
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    end
    s = (mantissa - 1.0) / (mantissa + 1.0)
    return exponent * LN2 + (2.0 * s) * polynomial(ARTANH, s * s)
end

"A polynomial by Horner's rule; coefficients from the highest power down."
function polynomial(coefficients, x)
    total = first(coefficients)
    for coefficient in Base.tail(coefficients)
        total = total * x + coefficient
    end
    return total
end
