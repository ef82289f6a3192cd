"""The known differences between frameworks that show in a training step only."""

from __future__ import annotations

from pymobilenet.parity.diff.difference import Difference

TRAINING_DIFFERENCES = (
    Difference(
        "momentum of a norm",
        ("batch_norm",),
        "The momentum of torch and Flux is the weight of the batch in the running statistics, by "
        "default 0.1; that of Keras is the weight of the old statistics, 0.99: its complement.",
        "documentation of BatchNorm in PyTorch, Flux and Keras",
        "BatchNorm2d(..., momentum=1 - keras_momentum)",
        "BatchNorm(...; momentum=1 - keras_momentum)",
    ),
    Difference(
        "biased running variance",
        ("batch_norm",),
        "torch and Flux put the unbiased variance of the batch (divided by n - 1) into the running "
        "variance, Keras 3 the biased one. All normalise the batch by the biased one.",
        "PyTorch documentation of BatchNorm2d; source of Keras' BatchNormalization",
        "running_var from var(unbiased=False)",
        "var(x; corrected=false)",
    ),
    Difference(
        "gradient of a max pool",
        ("max_pool",),
        "torch gives the gradient to the largest value of a window, NNlib to the first one that is "
        "about as large (≈): within 3.5e-4 of it in Float32, 1.5e-8 in Float64.",
        "source of NNlib, impl/pooling_direct.jl",
        "a torch.autograd.Function of one's own",
        "train in Float64, or write the pool as a maximum of views",
    ),
    Difference(
        "dropout active",
        ("dropout",),
        "Values are dropped in evaluation mode: `F.dropout` has `training=True` by default and "
        "does not see `module.eval()`, and `NNlib.dropout` always drops.",
        "PyTorch documentation of torch.nn.functional.dropout; NNlib documentation of dropout",
        "nn.Dropout, or F.dropout(x, p, training=self.training)",
        "Flux.Dropout, and testmode!(model)",
    ),
    Difference(
        "reduction of the loss",
        ("loss",),
        "The loss is the sum over the batch, or the mean over batch and classes, and not the mean "
        "over the batch: every gradient has another scale.",
        "PyTorch documentation of CrossEntropyLoss, reduction; Flux documentation of "
        "logitcrossentropy, agg",
        "F.cross_entropy(outputs, labels, reduction='mean')",
        "Flux.logitcrossentropy(outputs, labels; agg=mean)",
    ),
    Difference(
        "label smoothing",
        ("loss",),
        "One loss spreads a part of each label over all classes.",
        "PyTorch documentation of CrossEntropyLoss, label_smoothing; Flux documentation of "
        "label_smoothing",
        "F.cross_entropy(outputs, labels, label_smoothing=...)",
        "Flux.logitcrossentropy(outputs, Flux.label_smoothing(labels, ...))",
    ),
    Difference(
        "softmax and loss",
        ("loss",),
        "A loss for logits got probabilities, or the other way round: the softmax is taken twice, "
        "or never.",
        "PyTorch documentation of CrossEntropyLoss, which expects logits; Flux documentation of "
        "crossentropy and logitcrossentropy",
        "F.cross_entropy for logits, F.nll_loss for log-probabilities",
        "Flux.logitcrossentropy for logits, Flux.crossentropy for probabilities",
    ),
    Difference(
        "labels counted from 1",
        ("loss",),
        "torch counts classes from 0, Julia's arrays from 1.",
        "Flux documentation of onehotbatch",
        "labels - 1",
        "Flux.onehotbatch(labels, 0:classes-1)",
    ),
)
"""`training.compare_training` finds them by computation from the outputs and statistics."""
