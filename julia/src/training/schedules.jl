# Learning rate schedules: functions of the number of the step, the same bits as Python's training/schedules.py. The
# powers and cosines of libraries differ in their last bits, so this file has its own, made of sums, products and
# quotients, whose rounding IEEE 754 defines. docs/training.md has the formulas.

"""
    rate_at(config::TrainConfig, step)

The learning rate of `step`, counted from 0: a linear warm-up of `config.warmup_steps` steps, whose first rate is
above 0, followed by the schedule, which counts its steps from the end of the warm-up.

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

"The rate by the schedule of the config, for a step counted from the end of the warm-up."
function scheduled(config, step)
    config.schedule == "constant" && return config.rate
    config.schedule == "step" && return config.rate * power(config.gamma, step ÷ config.step_size)
    config.schedule == "milestones" &&
        return config.rate * power(config.gamma, count(<=(step), config.milestones))
    config.schedule == "cosine" && return cosine(config, step)
    return one_cycle(config, step)
end

"""
From `rate` to `final_rate`, the rate of the step after the last one: Loshchilov & Hutter, arXiv:1608.03983, equation
5, without restarts; torch's `CosineAnnealingLR` with the steps after the warm-up as `T_max`.
"""
cosine(config, step) = anneal(config.rate, config.final_rate, min(step / schedule_length(config), 1.0))

"""
Rising to `rate`, then falling: torch's `OneCycleLR` with two phases and cosine annealing. Only the rate changes, not
the momentum.
"""
function one_cycle(config, step)
    first_rate = config.rate / config.div_factor
    last_rate = first_rate / config.final_div_factor
    peak = config.pct_start * schedule_length(config) - 1.0
    step < peak && return anneal(first_rate, config.rate, step / peak)
    down = schedule_length(config) - 1.0 - peak
    return anneal(config.rate, last_rate, down > 0 ? min((step - peak) / down, 1.0) : 0.0)
end

"The number of steps after the warm-up, at least one."
schedule_length(config) = max(config.steps - config.warmup_steps, 1)

"From `start` to `stop` along half a cosine, as `fraction` goes from 0 to 1."
anneal(start, stop, fraction) = stop + (start - stop) / 2.0 * (cos_pi(fraction) + 1.0)

"`base` to the power `exponent`, at least 0, by squaring."
function power(base::Float64, exponent::Integer)
    result = 1.0
    while exponent > 0
        isodd(exponent) && (result = result * base)
        base = base * base
        exponent ÷= 2
    end
    return result
end

"The cosine of pi * x, for x in [0, 1], by Taylor series in [0, pi / 4]."
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
