const OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "rmsprop_tf")
const SCHEDULES = ("constant", "step", "milestones", "cosine", "one_cycle")
const PREPROCESSINGS = ("unit", "standard", "keras")

"""
    TrainConfig(; optimizer=:sgd, rate=0.1, momentum=0.9, nesterov=false, beta1=0.9, beta2=0.999, alpha=0.99,
                eps=1e-8, initial_square_avg=0.0, weight_decay=0.0, decay_all=true, clip_norm=0.0,
                ema_decay=0.0, label_smoothing=0.0, schedule=:constant, warmup_steps=0, step_size=0,
                milestones=(), gamma=0.1, final_rate=0.0, pct_start=0.3, div_factor=25.0,
                final_div_factor=1e4, batch_size=128, accumulate=1, steps=200, seed=0, crop_padding=4,
                flip=true, rotation=0, cutout=0, mixup=0.0, preprocessing=:standard)

How a model is trained: optimizer, schedule, batches and augmentation. Each optimizer reads the fields in its
formula (docs/training.md) and ignores the others. Options are symbols or strings; the fields hold strings,
the form of the files.

# Optimizer

- `optimizer`: `:sgd`, `:adam`, `:adamw` and `:rmsprop` as defined by torch, or `:rmsprop_tf`, TensorFlow's,
  with `eps` inside the root.
- `rate`: the highest learning rate; the schedule starts from it or leads to it.
- `momentum`: of `:sgd` and both RMSprops; with 0 no momentum slot is kept. `nesterov`: of `:sgd`.
- `beta1`, `beta2`: of `:adam` and `:adamw`. `alpha`: smoothing constant of RMSprop, rho in Keras. `eps`: of
  all but `:sgd`.
- `initial_square_avg`: initial mean square of `:rmsprop_tf`: 0 in Keras, 1 in TensorFlow 1.
- `weight_decay`: L2 penalty added to the gradient; decoupled in `:adamw`. `decay_all`: whether weights and
  biases of norms and the bias of the classifier are decayed too, as in torch.
- `clip_norm`: largest norm of all gradients together; 0 disables clipping.
- `ema_decay`: decay of an exponential moving average of the parameters, kept in the slot `ema`; 0 disables
  it. See [`averaged`](@ref).
- `label_smoothing`: the fraction of each label that is distributed evenly over all classes.

# Schedule

- `schedule`: the rate after `warmup_steps`, see [`rate_at`](@ref). `:step` multiplies it by `gamma` every
  `step_size` steps, `:milestones` at the steps `milestones`. `:cosine` ends at `final_rate`. `:one_cycle` rises
  during the fraction `pct_start` of the steps, from `rate / div_factor`, and then falls to that rate divided
  by `final_div_factor`.
- `steps`: of the whole run, warm-up included.

# Batches and images

- `batch_size`; `accumulate`: the number of micro-batches of a step. Each has its own forward and backward
  pass and its own norm statistics; the parameters are updated once, by the mean gradient.
- `seed`: of the order of images, the crops and the flips, see [`BatchPlan`](@ref).
- `crop_padding`, in pixels, `flip`, `rotation`, in degrees, `cutout`, in pixels, `mixup`, 0 or 1: the
  augmentation, see [`BatchPlan`](@ref).
- `preprocessing`: scaling of the bytes: `:unit` to [0, 1], `:keras` to [-1, 1], `:standard` by a mean and a
  standard deviation of training images, see [`fit!`](@ref).

Throws a `ConfigError` that names field, rule and value for a value outside its range, and for fields that
contradict each other.

```jldoctest
julia> TrainConfig(optimizer=:adam, rate=1e-3).optimizer
"adam"
```
"""
Base.@kwdef struct TrainConfig
    optimizer::String = "sgd"
    rate::Float64 = 0.1
    momentum::Float64 = 0.9
    nesterov::Bool = false
    beta1::Float64 = 0.9
    beta2::Float64 = 0.999
    alpha::Float64 = 0.99
    eps::Float64 = 1e-8
    initial_square_avg::Float64 = 0.0
    weight_decay::Float64 = 0.0
    decay_all::Bool = true
    clip_norm::Float64 = 0.0
    ema_decay::Float64 = 0.0
    label_smoothing::Float64 = 0.0
    schedule::String = "constant"
    warmup_steps::Int = 0
    step_size::Int = 0
    milestones::Tuple{Vararg{Int}} = ()
    gamma::Float64 = 0.1
    final_rate::Float64 = 0.0
    pct_start::Float64 = 0.3
    div_factor::Float64 = 25.0
    final_div_factor::Float64 = 1e4
    batch_size::Int = 128
    accumulate::Int = 1
    steps::Int = 200
    seed::Int = 0
    crop_padding::Int = 4
    flip::Bool = true
    rotation::Int = 0
    cutout::Int = 0
    mixup::Float64 = 0.0
    preprocessing::String = "standard"

    function TrainConfig(
        optimizer, rate, momentum, nesterov, beta1, beta2, alpha, eps, initial_square_avg, weight_decay,
        decay_all, clip_norm, ema_decay, label_smoothing, schedule, warmup_steps, step_size, milestones, gamma,
        final_rate, pct_start, div_factor, final_div_factor, batch_size, accumulate, steps, seed,
        crop_padding, flip, rotation, cutout, mixup, preprocessing,
    )
        number(name, value, low, high, rule) = checked_number(Float64, name, value, low, high, rule)
        integer(name, value, low, high, rule) = checked_number(Int, name, value, low, high, rule)
        return check_combinations(new(
            checked_choice("optimizer", optimizer, OPTIMIZERS),
            number("rate", rate, 0, 1e6, "in [0, 1e6]"),
            number("momentum", momentum, 0, 1, "in [0, 1]"),
            checked_flag("nesterov", nesterov),
            number("beta1", beta1, 0, 1 - 1e-12, "in [0, 1)"),
            number("beta2", beta2, 0, 1 - 1e-12, "in [0, 1)"),
            number("alpha", alpha, 0, 1, "in [0, 1]"),
            number("eps", eps, 0, 1, "in [0, 1]"),
            number("initial_square_avg", initial_square_avg, 0, 1e6, "in [0, 1e6]"),
            number("weight_decay", weight_decay, 0, 1, "in [0, 1]"),
            checked_flag("decay_all", decay_all),
            number("clip_norm", clip_norm, 0, 1e12, "in [0, 1e12]"),
            number("ema_decay", ema_decay, 0, 1 - 1e-12, "in [0, 1)"),
            number("label_smoothing", label_smoothing, 0, 1, "in [0, 1]"),
            checked_choice("schedule", schedule, SCHEDULES),
            integer("warmup_steps", warmup_steps, 0, 10^9, "at least 0"),
            integer("step_size", step_size, 0, 10^9, "at least 0"),
            checked_milestones(milestones),
            number("gamma", gamma, 0, 1, "in [0, 1]"),
            number("final_rate", final_rate, 0, 1e6, "in [0, 1e6]"),
            number("pct_start", pct_start, 0, 1, "in [0, 1]"),
            number("div_factor", div_factor, 1, 1e12, "in [1, 1e12]"),
            number("final_div_factor", final_div_factor, 1, 1e12, "in [1, 1e12]"),
            integer("batch_size", batch_size, 1, 10^7, "at least 1"),
            integer("accumulate", accumulate, 1, 10^7, "at least 1"),
            integer("steps", steps, 0, 10^9, "at least 0"),
            integer("seed", seed, 0, typemax(Int), "in [0, 2^63)"),
            integer("crop_padding", crop_padding, 0, 1024, "in [0, 1024] pixels"),
            checked_flag("flip", flip),
            integer("rotation", rotation, 0, 180, "in [0, 180] degrees"),
            integer("cutout", cutout, 0, 4096, "in [0, 4096] pixels"),
            checked_mixup(mixup),
            checked_choice("preprocessing", preprocessing, PREPROCESSINGS),
        ))
    end
end

"Milestones as a tuple, which compares by value."
function checked_milestones(milestones)
    is_step(value) = value isa Integer && !(value isa Bool) && 1 <= value <= 10^9
    is_list = milestones isa Union{Tuple,AbstractVector} && all(is_step, milestones)
    if !is_list || !allunique(milestones) || !issorted(milestones)
        throw(ConfigError(
            "milestones must be increasing whole numbers, at least 1. Received: $(repr(milestones))"
        ))
    end
    return Tuple(Int(value) for value in milestones)
end

"`mixup` as a `Float64`: 0 or 1."
function checked_mixup(mixup)
    rule = "0 (off) or 1 (uniform weights)"
    alpha = checked_number(Float64, "mixup", mixup, 0, 1, rule)
    isinteger(alpha) || throw(ConfigError("mixup must be $rule. Received: $alpha"))
    return alpha
end

"The config; throws a `ConfigError` if fields are missing that others require, or contradict each other."
function check_combinations(config)
    (; optimizer, momentum, initial_square_avg, batch_size, accumulate) = config
    batch_size % accumulate == 0 || throw(ConfigError(
        "accumulate must divide batch_size. Received: $accumulate with batch_size $batch_size"
    ))
    config.nesterov && (optimizer != "sgd" || momentum == 0) && throw(ConfigError(
        "nesterov requires the optimizer sgd with momentum. Received: $optimizer with momentum $momentum"
    ))
    initial_square_avg != 0 && optimizer != "rmsprop_tf" && throw(ConfigError(
        "initial_square_avg requires the optimizer rmsprop_tf. Received: $initial_square_avg with $optimizer"
    ))
    config.schedule == "step" && config.step_size == 0 &&
        throw(ConfigError("step_size must be at least 1 for the schedule step. Received: 0"))
    config.schedule == "milestones" && isempty(config.milestones) && throw(ConfigError(
        "milestones must not be empty for the schedule milestones. Received: ()"
    ))
    return config
end
