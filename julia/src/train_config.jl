const OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "rmsprop_tf")
const SCHEDULES = ("constant", "step", "milestones", "cosine", "one_cycle")
const PREPROCESSINGS = ("unit", "standard", "keras")

"""
    TrainConfig(; optimizer="sgd", rate=0.1, momentum=0.9, nesterov=false, beta1=0.9, beta2=0.999, alpha=0.99,
                eps=1e-8, initial_square_avg=0.0, weight_decay=0.0, decay_all=true, clip_norm=0.0,
                ema_decay=0.0, label_smoothing=0.0, schedule="constant", warmup_steps=0, step_size=0,
                milestones=(), gamma=0.1, final_rate=0.0, pct_start=0.3, div_factor=25.0,
                final_div_factor=1e4, batch_size=128, accumulate=1, steps=200, seed=0, crop_padding=4,
                flip=true, rotation=0, cutout=0, mixup=0.0, preprocessing="standard")

How a model is trained: optimizer, rates, batches, and how images are moved about. An optimizer reads the
fields its formula in docs/training.md has; the others are without effect. `rate` is the highest rate: the
schedule leads to it, or away from it.

- `optimizer`: "sgd", "adam", "adamw" and "rmsprop" as torch has them, or "rmsprop_tf": TensorFlow's, with
  `eps` inside the root.
- `momentum`: of "sgd" and both RMSprops; at 0 they keep no momentum. `nesterov`: the look-ahead of "sgd".
- `alpha`: the weight of the old mean square in RMSprop; Keras calls it rho.
- `initial_square_avg`: where the mean square of "rmsprop_tf" starts: 0 in Keras, 1 in TensorFlow 1.
- `weight_decay`: added to the gradient times the parameter; in "adamw" taken off it instead. `decay_all`:
  norms' weights and biases and the classifier's bias are decayed too, as in torch.
- `clip_norm`: the largest norm of all gradients together; 0 for any.
- `ema_decay`: the weight of the old average in a running average of the parameters, the slot `ema`; 0 for
  none. See [`averaged`](@ref).
- `label_smoothing`: the part of each label that is spread evenly over all classes.
- `schedule`: how the rate goes on after `warmup_steps`, see [`rate_at`](@ref). Of "step": the rate is
  multiplied by `gamma` every `step_size` steps; of "milestones": at these steps; of "cosine": it ends at
  `final_rate`; of "one_cycle": `pct_start`, the part of the steps in which it rises, `div_factor`, `rate`
  over the first rate, and `final_div_factor`, the first rate over the last.
- `accumulate`: into how many equal parts the images of a step are cut, each with its own pass and norm
  statistics; the parameters move once, by the mean of their gradients.
- `steps`: of the whole run, warm-up included.
- `seed` fixes the order of the images, the crops and the flips (see [`BatchPlan`](@ref)). `crop_padding` is
  in pixels. Images are rotated by up to `rotation` degrees either way, lose a square of `cutout` pixels, and
  are mixed in pairs where `mixup` is 1.
- `preprocessing` makes numbers of their bytes: "unit" 0 to 1, "keras" -1 to 1, "standard" by a mean and
  deviation of training images (see [`fit!`](@ref)).

Throws a `ConfigError` as `MobileNetConfig` does.
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
        return checked_belonging(new(
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

"Milestones as a tuple, which compares by its values."
function checked_milestones(given)
    isstep(value) = value isa Integer && !(value isa Bool) && 1 <= value <= 10^9
    if !(given isa Union{Tuple,AbstractVector}) || !all(isstep, given) || !allunique(given) || !issorted(given)
        throw(ConfigError(
            "milestones must be whole numbers from 1 on, each larger than the one before. " *
            "Received: $(repr(given))",
        ))
    end
    return Tuple(Int(value) for value in given)
end

"`mixup` as a `Float64`: 0 or 1."
function checked_mixup(mixup)
    rule = "0 (off) or 1 (uniform weights)"
    alpha = checked_number(Float64, "mixup", mixup, 0, 1, rule)
    isinteger(alpha) || throw(ConfigError("mixup must be $rule. Received: $alpha"))
    return alpha
end

"The config, unless it lacks what its optimizer or schedule needs, or has what does not fit the rest."
function checked_belonging(config)
    (; optimizer, momentum, initial_square_avg, batch_size, accumulate) = config
    batch_size % accumulate == 0 || throw(ConfigError(
        "accumulate must divide batch_size. Received: $accumulate with batch_size $batch_size"
    ))
    config.nesterov && (optimizer != "sgd" || momentum == 0) && throw(ConfigError(
        "nesterov belongs to sgd with momentum alone. Received: $optimizer with momentum $momentum"
    ))
    initial_square_avg != 0 && optimizer != "rmsprop_tf" && throw(ConfigError(
        "initial_square_avg belongs to rmsprop_tf alone. Received: $initial_square_avg with $optimizer"
    ))
    config.schedule == "step" && config.step_size == 0 &&
        throw(ConfigError("step_size must be at least 1 for the schedule step. Received: 0"))
    config.schedule == "milestones" && isempty(config.milestones) && throw(ConfigError(
        "milestones must not be empty for the schedule milestones. Received: ()"
    ))
    return config
end
