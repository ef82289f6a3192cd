"""What Keras and ONNX Runtime do where frameworks differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pymobilenet.backends.facts import Fact

_RAMP = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)


def _keras() -> Any:
    import keras

    return keras


def _numbers(value: Any) -> np.ndarray:
    return np.asarray(_keras().ops.convert_to_numpy(value))


def _stepped() -> tuple[Any, np.ndarray]:
    """Return a new Keras norm after one step, and what it was given."""
    norm = _keras().layers.BatchNormalization()
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
    norm(values, training=True)
    return norm, values


def _weight_shape(layer: Any, channels: int, axes: int) -> tuple[int, ...]:
    layer.build((None, *(8,) * axes, channels))
    return tuple(layer.kernel.shape)


def _keras_momentum() -> bool:
    norm, values = _stepped()
    return np.allclose(_numbers(norm.moving_mean), 0.01 * values.mean())


def _keras_variance() -> bool:
    norm, values = _stepped()
    return np.allclose(_numbers(norm.moving_variance), 0.99 + 0.01 * values.var(), atol=1e-6)


def _keras_same() -> bool:
    """SAME padding of 4 pixels, kernel 3, stride 2 adds one pixel, at the end."""
    pool = _keras().layers.MaxPooling2D(3, strides=2, padding="same")
    return np.array_equal(_numbers(pool(_RAMP.reshape(1, 4, 4, 1))).ravel(), [10, 11, 14, 15])


def _keras_average() -> bool:
    pool = _keras().layers.AveragePooling2D(3, strides=2, padding="same")
    return np.allclose(_numbers(pool(np.ones((1, 4, 4, 1), np.float32))), 1)


def _keras_flatten() -> bool:
    maps = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)  # (N, H, W, C)
    return np.array_equal(_numbers(_keras().layers.Flatten()(maps)).ravel(), np.arange(8))


def _keras_conv() -> bool:
    kernel = np.array([0, 1], np.float32).reshape(1, 2, 1, 1)
    values = _RAMP.reshape(1, 4, 4, 1)
    return np.array_equal(_numbers(_keras().ops.conv(values, kernel)), values[:, :, 1:])


def _keras_step(name: str, *gradients: list[float], **options: Any) -> np.ndarray:
    """Return two variables after steps of a Keras optimizer, each at a tenth of the rate before."""
    keras = _keras()
    variables = [keras.Variable(np.zeros(1, np.float32)) for _ in range(2)]
    optimizer = getattr(keras.optimizers, name)(learning_rate=0.1, **options)
    for both in gradients:
        optimizer.apply([keras.ops.convert_to_tensor([value]) for value in both], variables)
        optimizer.learning_rate = optimizer.learning_rate / 10
    return np.concatenate([_numbers(variable) for variable in variables])


def _keras_resizing() -> bool:
    layer = _keras().layers.UpSampling2D((1, 2), interpolation="bilinear")
    resized = _numbers(layer(np.array([0, 1], np.float32).reshape(1, 1, 2, 1))).ravel()
    return np.allclose(resized, [0, 0.25, 0.75, 1], atol=1e-6)


def _onnx_output(
    operator: str,
    value: np.ndarray,
    weights: dict[str, np.ndarray] | None = None,
    **attributes: Any,
) -> np.ndarray:
    """Run one node with the default attributes."""
    import onnx
    import onnxruntime

    weights = weights or {}
    node = onnx.helper.make_node(operator, ["x", *weights], ["y"], **attributes)
    value_info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, value.shape)
    graph = onnx.helper.make_graph(
        [node],
        "node",
        [value_info],
        [onnx.helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": value})[0]


def _onnx_conv() -> bool:
    kernel = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    return np.array_equal(_onnx_output("Conv", _RAMP, {"w": kernel}), _RAMP[..., 1:])


def _onnx_average() -> bool:
    ones = np.ones((1, 1, 4, 4), np.float32)
    output = _onnx_output("AveragePool", ones, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return np.allclose(output, 1)


def _onnx_max() -> bool:
    output = _onnx_output("MaxPool", -_RAMP - 1, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return bool((output < 0).all())


def _onnx_norm() -> bool:
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    weights = {"scale": one, "shift": zero, "mean": zero, "variance": zero}
    output = _onnx_output("BatchNormalization", np.ones((1, 1, 1, 1), np.float32), weights)
    return np.allclose(output, 1 / np.sqrt(1e-5), rtol=1e-4)


def _onnx_slope() -> bool:
    return np.allclose(_onnx_output("LeakyRelu", np.array([-1], np.float32)), -0.01)


def _onnx_resizing() -> bool:
    row = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    weights = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 1, 2], np.float32)}
    output = _onnx_output("Resize", row, weights, mode="linear").ravel()
    return np.allclose(output, [0, 0.25, 0.75, 1])


_ROWS: tuple[tuple[str, str, str, Callable[[], bool]], ...] = (
    ("kernel flip", "Keras", "ops.conv does not flip the kernel", _keras_conv),
    ("kernel flip", "ONNX Runtime", "Conv does not flip the kernel", _onnx_conv),
    (
        "kernel height and width exchanged",
        "Keras",
        "the kernel of Conv2D is (height, width, in, out)",
        lambda: _weight_shape(_keras().layers.Conv2D(4, (5, 7)), 3, 2) == (5, 7, 3, 4),
    ),
    (
        "input and output channels exchanged",
        "Keras",
        "the kernel of Conv2DTranspose is (height, width, out, in)",
        lambda: _weight_shape(_keras().layers.Conv2DTranspose(4, 2), 3, 2) == (2, 2, 4, 3),
    ),
    (
        "dense weight transposed",
        "Keras",
        "the kernel of Dense is (in, out)",
        lambda: _weight_shape(_keras().layers.Dense(4), 3, 0) == (3, 4),
    ),
    ("flatten order", "Keras", "Flatten keeps the order (H, W, C)", _keras_flatten),
    ("padding on one side", "Keras", "padding 'same' puts the odd pixel last", _keras_same),
    (
        "padding counted in an average pool",
        "Keras",
        "AveragePooling2D does not count the border",
        _keras_average,
    ),
    (
        "padding counted in an average pool",
        "ONNX Runtime",
        "AveragePool does not count the border",
        _onnx_average,
    ),
    (
        "padding of a max pool",
        "ONNX Runtime",
        "the border of MaxPool never is the maximum",
        _onnx_max,
    ),
    (
        "corners in resizing (align_corners)",
        "Keras",
        "UpSampling2D does not align corners",
        _keras_resizing,
    ),
    (
        "corners in resizing (align_corners)",
        "ONNX Runtime",
        "Resize does not align corners",
        _onnx_resizing,
    ),
    (
        "eps of a norm",
        "Keras",
        "epsilon of BatchNormalization is 1e-3",
        lambda: _keras().layers.BatchNormalization().epsilon == 1e-3,
    ),
    ("eps of a norm", "ONNX Runtime", "epsilon of BatchNormalization is 1e-5", _onnx_norm),
    (
        "activation function",
        "Keras",
        "the slope of LeakyReLU is 0.3",
        lambda: _keras().layers.LeakyReLU().negative_slope == 0.3,
    ),
    ("activation function", "ONNX Runtime", "the slope of LeakyRelu is 0.01", _onnx_slope),
    (
        "momentum of a norm",
        "Keras",
        "the momentum is the weight of the old statistics, 0.99",
        _keras_momentum,
    ),
    (
        "biased running variance",
        "Keras",
        "the running variance is biased",
        _keras_variance,
    ),
    (
        "softmax and loss",
        "Keras",
        "CategoricalCrossentropy takes probabilities",
        lambda: _keras().losses.CategoricalCrossentropy().get_config()["from_logits"] is False,
    ),
    (
        "rate inside the momentum",
        "Keras",
        "SGD puts the rate into the momentum",
        lambda: np.allclose(_keras_step("SGD", [1, 1], [0, 0], momentum=0.9), -0.1 - 0.9 * 0.1),
    ),
    (
        "eps inside the root",
        "Keras",
        "RMSprop adds epsilon under the root",
        lambda: np.allclose(
            _keras_step("RMSprop", [1, 1], rho=0.0, epsilon=1.0), -0.1 / np.sqrt(2)
        ),
    ),
    (
        "clipping of each gradient",
        "Keras",
        "clipnorm limits the norm of each gradient",
        lambda: np.allclose(_keras_step("SGD", [3, 4], clipnorm=1.0), -0.1),
    ),
    (
        "constants of an optimizer",
        "Keras",
        "rho of RMSprop is 0.9",
        lambda: _keras().optimizers.RMSprop().rho == 0.9,
    ),
)

FACTS = tuple(Fact(*row) for row in _ROWS)
"""In the order of the known differences."""
