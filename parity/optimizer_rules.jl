# Rules of Optimisers.jl that the pairs of optimizers use; see `honest_pairs.py` and `optimizer_pairs.py`.

using Flux: Flux

const O = Flux.Optimisers

const OPTIMIZER_RULES = Dict(
    "Descent" => O.Descent(0.1),
    "Momentum" => O.Momentum(0.1, 0.9),
    "Momentum(1, rho) and Descent" => O.OptimiserChain(O.Momentum(1.0, 0.9), O.Descent(0.1)),
    "Nesterov" => O.Nesterov(0.1, 0.9),
    "Adam" => O.Adam(1e-3),
    "AdamW" => O.AdamW(1e-3, (0.9, 0.999), 0.1),
    "AdamW without rate" => O.AdamW(1e-3, (0.9, 0.999), 0.1; couple=false),
    "coupled decay" => O.OptimiserChain(O.WeightDecay(0.1), O.Adam(1e-3)),
    "RMSProp" => O.RMSProp(1e-3, 0.9),
    "ClipNorm" => O.OptimiserChain(O.ClipNorm(1.0), O.Descent(0.1)),
)

optimizer_rule(name) = OPTIMIZER_RULES[string(name)]
