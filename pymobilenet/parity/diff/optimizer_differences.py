"""The known differences between optimizers, which show over a few steps."""

from __future__ import annotations

from pymobilenet.parity.diff.difference import Difference

KINDS = ("optimizer",)

OPTIMIZER_DIFFERENCES = (
    Difference(
        "rate inside the momentum",
        KINDS,
        "torch's SGD and RMSprop multiply the momentum by the rate of the present step. "
        "Optimisers' Momentum and Nesterov, and Keras' SGD and RMSprop, put the rate into the "
        "momentum: equal only while the rate is constant.",
        "PyTorch issue 1099; JAX pull request 1528; source of Optimisers.Momentum",
        "a velocity of rate * gradient, with torch.optim.Optimizer",
        "OptimiserChain(Momentum(1, rho), Descent(rate))",
    ),
    Difference(
        "eps inside the root",
        KINDS,
        "torch and Optimisers add eps to the root of the squares. TensorFlow's and Keras' RMSprop "
        "add it under the root, TensorFlow's and Keras' Adam add it before the bias correction.",
        "PyTorch issue 23796; TensorFlow issue 35102",
        "timm.optim.RMSpropTF",
        "a rule of one's own: grad / sqrt(square_avg + eps)",
    ),
    Difference(
        "bias correction",
        KINDS,
        "Adam divides its averages by 1 - beta^step. BERT's Adam does not, MLX' only on request.",
        "google-research/bert issue 153; MLX pull request 1640",
        "torch.optim.Adam",
        "Optimisers.Adam",
    ),
    Difference(
        "coupled weight decay",
        KINDS,
        "Decay is added to the gradient (torch's SGD and Adam, Optimisers' WeightDecay before "
        "another rule), or taken from the parameter (AdamW), there times the rate in torch and in "
        "Optimisers since 0.4, and without the rate before.",
        "Loshchilov and Hutter, arXiv:1711.05101; Optimisers issue 182; Flux issue 2433",
        "torch.optim.AdamW, or weight_decay of Adam",
        "AdamW(eta, beta, decay), or OptimiserChain(WeightDecay(decay), Adam(eta))",
    ),
    Difference(
        "weight decay on norms and biases",
        KINDS,
        "torch's and Optimisers' decay applies to every parameter; many recipes leave out "
        "parameters with one axis.",
        "PyTorch issue 2639; timm.optim.param_groups_weight_decay",
        "parameter groups with weight_decay=0 for parameters of one axis",
        "Flux.setup and Flux.adjust! for each layer",
    ),
    Difference(
        "form of Nesterov's momentum",
        KINDS,
        "The gradient is taken at the parameters, and the momentum is added once more (torch, "
        "Keras, Optimisers); or the step is that of plain momentum, or the momentum is added to "
        "itself.",
        "Bengio et al., arXiv:1212.0901, section 3.5; PyTorch pull request 5920; Keras issue 966",
        "torch.optim.SGD(..., nesterov=True)",
        "Optimisers.Nesterov",
    ),
    Difference(
        "clipping of each gradient",
        KINDS,
        "torch's clip_grad_norm_ limits the norm of all gradients together, Optimisers' ClipNorm "
        "and Keras' clipnorm that of each array.",
        "Keras pull request 15819; TensorFlow issue 36001; source of Optimisers.ClipNorm",
        "for p in parameters: clip_grad_norm_([p], max_norm)",
        "scale all gradients before Flux.update!",
    ),
    Difference(
        "schedule off by one",
        KINDS,
        "A schedule that is advanced before the first step, or after it, or whose steps count "
        "from 1, has the rates of the neighbouring step.",
        "PyTorch documentation: how to adjust learning rate; verl issue 3674; Megatron-Bridge "
        "issue 5399",
        "scheduler.step() after optimizer.step()",
        "Flux.adjust!(state, schedule(step)) before Flux.update!",
    ),
    Difference(
        "constants of an optimizer",
        KINDS,
        "Both optimizers follow the same formula with other constants. Defaults differ: RMSprop's "
        "alpha is 0.99 in torch and 0.9 in Optimisers and Keras, AdamW's decay 0.01 in torch and "
        "0 in Optimisers.",
        "PyTorch documentation of torch.optim; Optimisers documentation",
        "the value that the other optimizer has",
        "the value that the other optimizer has",
        is_general=True,
    ),
)
"""`optimizers.compare_optimizers` finds them by computation from parameters and gradients."""
