"""What Flux, NNlib and Optimisers do where frameworks differ: expressions that are true of them."""

from __future__ import annotations

from pymobilenet.backends.facts import Fact
from pymobilenet.backends.julia.runtime import backend_with

_MAP = "reshape(Float32.(0:15), 4, 4, 1, 1)"
_STEP = (
    "norm = Flux.BatchNorm(1); x = reshape(Float32.(0:7), 2, 2, 1, 2); "
    "Flux.trainmode!(norm); norm(x)"
)
_CONV = f"x = {_MAP}; k = reshape(Float32[0, 1], 2, 1, 1, 1)"
_OPTIMIZED = (
    "Optimisers = Flux.Optimisers; "
    "function steps(rule, x, gradients, rates); state = Optimisers.setup(rule, x); "
    "for (g, rate) in zip(gradients, rates); rate === nothing || Optimisers.adjust!(state, rate); "
    "state, x = Optimisers.update(state, x, g); end; x; end"
)
"""Defines the parameters after some steps."""
_LOSS = (
    "logits = Float32[1 0; 2 0; 0 3]; labels = Flux.onehotbatch([0, 2], 0:2); "
    "expected = -sum(labels .* Flux.logsoftmax(logits)) / 2"
)

EXPRESSIONS = (
    (
        "kernel flip",
        "Flux",
        "Conv flips the kernel",
        f"{_CONV}; Flux.Conv(k, false)(x) == x[1:3, :, :, :]",
    ),
    (
        "kernel flip",
        "Flux",
        "CrossCor does not",
        f"{_CONV}; Flux.CrossCor(k, false)(x) == x[2:4, :, :, :]",
    ),
    (
        "kernel height and width exchanged",
        "Flux",
        "the weight of Conv is (width, height, in, out)",
        "size(Flux.Conv((5, 7), 3 => 4).weight) == (5, 7, 3, 4)",
    ),
    (
        "input and output channels exchanged",
        "Flux",
        "the weight of ConvTranspose is (width, height, out, in)",
        "size(Flux.ConvTranspose((2, 2), 3 => 4).weight) == (2, 2, 4, 3)",
    ),
    (
        "dense weight transposed",
        "Flux",
        "the weight of Dense is (out, in)",
        "size(Flux.Dense(3 => 4).weight) == (4, 3)",
    ),
    (
        "flatten order",
        "Flux",
        "flatten keeps the order (W, H, C), W fastest, which is torch's",
        "vec(Flux.flatten(reshape(1:8, 2, 2, 2, 1))) == 1:8",
    ),
    (
        "padding of a max pool",
        "NNlib",
        "the border of a max pool never is the maximum",
        f"all(<(0), Flux.MaxPool((2, 2); pad=1)(-{_MAP} .- 1))",
    ),
    (
        "padding counted in an average pool",
        "NNlib",
        "a mean pool counts the zeros of the border",
        "Flux.MeanPool((2, 2); pad=1)(ones(Float32, 2, 2, 1, 1))[1] == 0.25f0",
    ),
    (
        "windows of an adaptive pool",
        "Flux",
        "all windows of AdaptiveMeanPool have one size and one stride",
        "vec(Flux.AdaptiveMeanPool((3, 1))(reshape(Float32.(0:7), 8, 1, 1, 1))) ≈ [1.5, 3.5, 5.5]",
    ),
    (
        "corners in resizing (align_corners)",
        "Flux",
        "Upsample(:bilinear) aligns corners",
        "x = reshape(Float32[0, 1, 0, 1], 2, 2, 1, 1); "
        "vec(Flux.Upsample(:bilinear; scale=(2, 1))(x)[:, 1, 1, 1]) ≈ [0, 1 / 3, 2 / 3, 1]",
    ),
    (
        "antialiasing in resizing",
        "NNlib",
        "upsample_bilinear does not smooth",
        "x = zeros(Float32, 8, 2, 1, 1); x[2, :, 1, 1] .= 1; "
        "all(iszero, Flux.NNlib.upsample_bilinear(x; size=(2, 2)))",
    ),
    (
        "groups",
        "Flux",
        "the weight of Conv has in / groups channels",
        "size(Flux.Conv((3, 3), 4 => 8; groups=2).weight) == (3, 3, 2, 8)",
    ),
    (
        "form of layer norm",
        "Flux",
        "LayerNorm adds the square of eps to the biased variance",
        "x = Float32[1, 2, 4]; c = x .- sum(x) / 3; "
        "Flux.LayerNorm(3; eps=0.5f0)(x) ≈ c ./ sqrt(sum(abs2, c) / 3 + 0.25f0)",
    ),
    (
        "eps of a norm",
        "Flux",
        "eps of BatchNorm is the Float32 number 1f-5",
        "Flux.BatchNorm(1).ϵ === 1f-5",
    ),
    (
        "activation function",
        "NNlib",
        "the slope of leakyrelu is 0.01",
        "Flux.leakyrelu(-1.0) == -0.01",
    ),
    (
        "activation function",
        "NNlib",
        "gelu is the approximation by tanh",
        "Flux.gelu(1.0) ≈ 0.8411919906082768",
    ),
    (
        "momentum of a norm",
        "Flux",
        "the momentum is the weight of the batch, 0.1",
        f"{_STEP}; norm.μ ≈ [0.1f0 * 3.5f0]",
    ),
    (
        "biased running variance",
        "Flux",
        "the running variance is unbiased",
        f"{_STEP}; norm.σ² ≈ [0.9f0 + 0.1f0 * sum(abs2, x .- 3.5f0) / 7]",
    ),
    (
        "norm in training mode",
        "Flux",
        "a norm uses running statistics outside of a gradient call",
        f"x = {_MAP}; Flux.BatchNorm(1)(x) ≈ x ./ sqrt(1 + 1f-5)",
    ),
    (
        "gradient of a max pool",
        "NNlib",
        "the gradient goes to the first value that is about as large as the largest",
        "x = reshape([1 - 1.0f-4, 1.0f0], 2, 1, 1, 1); pool(x) = sum(Flux.maxpool(x, (2, 1))); "
        "vec(only(Flux.gradient(pool, x))) == [1, 0]",
    ),
    (
        "dropout active",
        "NNlib",
        "NNlib.dropout drops values in every mode",
        "any(==(0), Flux.NNlib.dropout(ones(Float32, 1000), 0.5))",
    ),
    (
        "reduction of the loss",
        "Flux",
        "logitcrossentropy is the mean over the batch",
        f"{_LOSS}; Flux.logitcrossentropy(logits, labels) ≈ expected",
    ),
    (
        "softmax and loss",
        "Flux",
        "crossentropy takes probabilities",
        f"{_LOSS}; Flux.crossentropy(Flux.softmax(logits), labels) ≈ expected",
    ),
    (
        "label smoothing",
        "Flux",
        "label_smoothing spreads over all classes, the true one too",
        "Flux.label_smoothing(Float32[1, 0, 0], 0.3f0) ≈ Float32[0.8, 0.1, 0.1]",
    ),
    (
        "rate inside the momentum",
        "Optimisers",
        "Momentum puts the rate into the momentum",
        f"{_OPTIMIZED}; steps(Optimisers.Momentum(0.1, 0.9), [0.0], ([1.0], [0.0]), (0.1, 0.01)) ≈ "
        "[-0.1 - 0.9 * 0.1]",
    ),
    (
        "rate inside the momentum",
        "Optimisers",
        "a chain of Momentum(1, rho) and Descent does not",
        f"{_OPTIMIZED}; rule = Optimisers.OptimiserChain(Optimisers.Momentum(1.0, 0.9), "
        "Optimisers.Descent(0.1)); steps(rule, [0.0], ([1.0], [0.0]), (nothing, nothing)) ≈ "
        "[-0.1 - 0.9 * 0.1]",
    ),
    (
        "eps inside the root",
        "Optimisers",
        "RMSProp adds eps to the root",
        f"{_OPTIMIZED}; rule = Optimisers.RMSProp(0.1, 0.0, 1.0); "
        "steps(rule, [0.0], ([1.0],), (0.1,)) ≈ [-0.05]",
    ),
    (
        "bias correction",
        "Optimisers",
        "Adam corrects its averages",
        f"{_OPTIMIZED}; steps(Optimisers.Adam(0.1), [0.0], ([1.0],), (0.1,)) ≈ [-0.1]",
    ),
    (
        "coupled weight decay",
        "Optimisers",
        "AdamW takes the decay times the rate from the parameter",
        f"{_OPTIMIZED}; rule = Optimisers.AdamW(0.1, (0.9, 0.999), 0.5); "
        "steps(rule, [1.0], ([0.0],), (nothing,)) ≈ [0.95]",
    ),
    (
        "coupled weight decay",
        "Optimisers",
        "WeightDecay before Adam is coupled",
        f"{_OPTIMIZED}; rule = Optimisers.OptimiserChain(Optimisers.WeightDecay(0.5), "
        "Optimisers.Adam(0.1)); steps(rule, [1.0], ([0.0],), (nothing,)) ≈ [0.9]",
    ),
    (
        "weight decay on norms and biases",
        "Optimisers",
        "WeightDecay applies to parameters with one axis, too",
        f"{_OPTIMIZED}; rule = Optimisers.OptimiserChain(Optimisers.WeightDecay(0.5), "
        "Optimisers.Descent(0.1)); steps(rule, [1.0], ([0.0],), (nothing,)) ≈ [0.95]",
    ),
    (
        "form of Nesterov's momentum",
        "Optimisers",
        "Nesterov adds the momentum to the gradient once more",
        f"{_OPTIMIZED}; steps(Optimisers.Nesterov(0.1, 0.9), [0.0], ([1.0],), (0.1,)) ≈ [-0.19]",
    ),
    (
        "clipping of each gradient",
        "Optimisers",
        "ClipNorm limits the norm of each array",
        f"{_OPTIMIZED}; rule = Optimisers.OptimiserChain(Optimisers.ClipNorm(1.0), "
        "Optimisers.Descent(1.0)); "
        "steps(rule, ([0.0], [0.0]), (([3.0], [4.0]),), (nothing,)) == ([-1.0], [-1.0])",
    ),
    (
        "constants of an optimizer",
        "Optimisers",
        "rho of RMSProp is 0.9",
        f"{_OPTIMIZED}; Optimisers.RMSProp().rho == 0.9",
    ),
    (
        "constants of an optimizer",
        "Optimisers",
        "the decay of AdamW is 0",
        f"{_OPTIMIZED}; Optimisers.AdamW().lambda == 0",
    ),
)
"""Difference, library, statement, and an expression of Julia that is true if it holds."""


def _holds(expression: str) -> bool:
    return backend_with("Flux").main.seval(f"let; {expression}; end") is True


def _fact(difference: str, library: str, statement: str, expression: str) -> Fact:
    return Fact(difference, library, statement, lambda: _holds(expression))


FACTS = tuple(_fact(*row) for row in EXPRESSIONS)
"""In the order of the known differences."""
