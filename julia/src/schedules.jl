# The rate of a step: pure functions of its number, the same bits in Python (training/schedules.py).
# Libraries' powers and cosines differ in their last bits, so both are made here of sums, products and
# quotients, which IEEE 754 rounds alike everywhere. docs/training.md has the formulas.

"""
    rate_at(config::TrainConfig, step)

The rate of `step`, from 0: a warm-up of `config.warmup_steps`, then the schedule. The warm-up rises evenly
and has a rate above 0 from its first step; the schedule begins where it ends, and counts its steps from
there.

```jldoctest
julia> [rate_at(TrainConfig(rate=1, warmup_steps=3), step) for step in 0:4]
5-element Vector{Float64}:
 0.25
 0.5
 0.75
 1.0
 1.0
```
"""
function rate_at(config::TrainConfig, step::Integer)
    (; warmup_steps) = config
    step < warmup_steps || return scheduled(config, step - warmup_steps)
    return scheduled(config, 0) * ((step + 1) / (warmup_steps + 1))
end

"The rate of a step that counts from the end of the warm-up, by the schedule of the config."
function scheduled(config, step)
    config.schedule == "constant" && return config.rate
    config.schedule == "step" && return config.rate * power(config.gamma, step ÷ config.step_size)
    config.schedule == "milestones" &&
        return config.rate * power(config.gamma, count(<=(step), config.milestones))
    config.schedule == "cosine" && return cosine(config, step)
    return one_cycle(config, step)
end

"""
From `rate` down to `final_rate`, which the step after the last would have: Loshchilov & Hutter,
arXiv:1608.03983, equation 5, without restarts; torch's `CosineAnnealingLR` with `T_max` the steps after the
warm-up.
"""
cosine(config, step) = anneal(config.rate, config.final_rate, min(step / schedule_length(config), 1.0))

"""
Up to `rate` and down again: torch's `OneCycleLR`, its two phases with cosine annealing. The rate alone:
momentum stays as it is.
"""
function one_cycle(config, step)
    first_rate = config.rate / config.div_factor
    last_rate = first_rate / config.final_div_factor
    peak = config.pct_start * schedule_length(config) - 1.0
    step < peak && return anneal(first_rate, config.rate, step / peak)
    down = schedule_length(config) - 1.0 - peak
    return anneal(config.rate, last_rate, down > 0 ? min((step - peak) / down, 1.0) : 0.0)
end

"The steps after the warm-up; at least one."
schedule_length(config) = max(config.steps - config.warmup_steps, 1)

"From `start` to `stop` on half a cosine, as `part` goes from 0 to 1."
anneal(start, stop, part) = stop + (start - stop) / 2.0 * (cos_pi(part) + 1.0)

"`base` to a whole power at least 0, by squaring."
function power(base::Float64, exponent::Integer)
    result = 1.0
    while exponent > 0
        isodd(exponent) && (result = result * base)
        base = base * base
        exponent ÷= 2
    end
    return result
end

"The cosine of pi times x, for x in [0, 1]: Taylor's series within pi / 4 of 0."
function cos_pi(x::Float64)
    x > 0.5 && return -cos_pi(1.0 - x)
    angle = Float64(π) * (x <= 0.25 ? x : 0.5 - x)
    odd = x <= 0.25 ? 0 : 1
    total, square = 0.0, angle * angle
    for n in (18 + odd):-2:0
        total = 1.0 / factorial(n) - square * total
    end
    return odd == 1 ? angle * total : total
end
