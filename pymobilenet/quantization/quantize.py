"""Quantization of a float32 ONNX file to int8, and measurement of its loss.

Static quantization by ONNX Runtime
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), in the QDQ format:
weights are int8 with one scale for each output channel, activations uint8 with one scale for each
tensor, from the smallest to the largest value with the calibration images. Before that, each norm
is folded into the convolution before it; after that, the biases are corrected for the change of the
means by the rounding of the weights. The logits are float32: with 8 bits many classes would have
equal scores.

Weights use 7 of their 8 bits. x86 processors without VNNI add pairs of products in 16 bits, which
overflow at 2 * 255 * 127: with 8 bits the same file would give other results there.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.backends import checks
from pymobilenet.config import MobileNetConfig
from pymobilenet.data import Dataset, normalise, scaling
from pymobilenet.errors import DataError, WeightsError
from pymobilenet.files import atomic_write, check_regular
from pymobilenet.formats.onnx_export import load_package, versions
from pymobilenet.formats.registry import check_destination
from pymobilenet.quantization.graph import InputMeans, correct_biases, fold_norms

if TYPE_CHECKING:
    import onnx

BATCH_SIZE = 64

_OPERATORS = ["Conv", "Relu", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"]
"""The operators that compute in 8 bits: all but the softmax."""


@dataclass(frozen=True)
class QuantizationLoss:
    """The accuracy of an int8 file beside that of the float32 file, on labelled images.

    Attributes:
        images: The number of images.
        top1: Top-1 accuracy of the float32 file, in [0, 1].
        top1_int8: Top-1 accuracy of the int8 file, in [0, 1].
        agreement: The fraction of images for which both predict the same class.
        size: Bytes of the float32 file.
        size_int8: Bytes of the int8 file.
    """

    images: int
    top1: float
    top1_int8: float
    agreement: float
    size: int
    size_int8: int

    def __str__(self) -> str:
        return (
            f"{self.images} images: top-1 {self.top1:.2%} -> {self.top1_int8:.2%} in int8, the "
            f"same class for {self.agreement:.2%}; {self.size} -> {self.size_int8} bytes"
        )


def quantize(
    path: str | Path, int8_path: str | Path, images: np.ndarray | Iterable[np.ndarray]
) -> None:
    """Write the int8 version of an ONNX file that `export_onnx` wrote.

    Args:
        path: The float32 file.
        int8_path: The int8 file, written atomically after ONNX's checker has accepted it.
        images: Calibration images, normalised as in training: float32 (N, C, H, W), or an iterable
            of such batches. A few hundred images like those of the task.

    Raises:
        WeightsError: `path` is no float32 ONNX file of this package.
        ConfigError: `int8_path` is in a folder that does not exist.
        DataError: There are no images, or the model does not take them.
        BackendUnavailable: onnx or onnxruntime is not installed.
    """
    onnx, quantization = load_package("onnx"), load_package("onnxruntime.quantization")
    check_destination(Path(int8_path))
    config, graph, metadata = _read(path)
    batches = _batches(config, images)
    fold_norms(graph)
    means, folded = InputMeans(graph), copy.deepcopy(graph)
    quantization.quant_utils.add_pre_process_metadata(graph)  # avoids a warning in the log
    with tempfile.TemporaryDirectory() as folder:
        temporary_path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            graph,
            temporary_path,
            _calibration_reader(batches, means),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        quantized = onnx.load(temporary_path)
    correct_biases(quantized, folded, means)
    metadata[keys.VERSIONS] = versions("onnx", "onnxruntime", "pymobilenet")
    onnx.helper.set_model_props(quantized, dict(sorted(metadata.items())))
    onnx.checker.check_model(quantized, full_check=True)
    with atomic_write(int8_path) as file:
        file.write(quantized.SerializeToString(deterministic=True))


def quantization_loss(
    path: str | Path, int8_path: str | Path, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> QuantizationLoss:
    """Compare the predictions of a float32 file and an int8 file on labelled images.

    Args:
        path: The float32 ONNX file.
        int8_path: The int8 ONNX file.
        batches: Images (N, C, H, W), float32, normalised, and labels (N,).

    Returns:
        Accuracies, agreement and file sizes.

    Raises:
        DataError: There are no images.
    """
    predict, predict_int8 = predictor(path), predictor(int8_path)
    correct = correct_int8 = equal = count = 0
    for images, labels in batches:
        best, best_int8 = (run(images).argmax(axis=1) for run in (predict, predict_int8))
        correct += int((best == labels).sum())
        correct_int8 += int((best_int8 == labels).sum())
        equal += int((best == best_int8).sum())
        count += len(images)
    if not count:
        raise DataError(
            "the loss of quantization requires at least one labelled image. Received: 0"
        )
    sizes = (Path(file).stat().st_size for file in (path, int8_path))
    return QuantizationLoss(count, correct / count, correct_int8 / count, equal / count, *sizes)


def predictor(path: str | Path, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that predicts with an ONNX file, in ONNX Runtime on the CPU.

    Args:
        path: The file.
        threads: Number of threads; 0 for one per core.

    Returns:
        A function from images (N, C, H, W), float32, to the model's output (N, classes).
    """
    runtime = load_package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def labelled_batches(
    data: Dataset, preprocessing: str = "standard"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of normalised images and labels.

    Args:
        data: The data set.
        preprocessing: A name of `pymobilenet.data.PREPROCESSING`.

    Yields:
        Images (N, C, H, W), float32, and labels (N,), int64.
    """
    mean, std = scaling(preprocessing, data)
    for start in range(0, len(data), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        yield normalise(data.images[batch], mean, std), data.labels[batch]


def about(path: str | Path) -> tuple[MobileNetConfig, dict[str, str]]:
    """Return the config and the metadata of a float32 ONNX file.

    Args:
        path: A file that `export_onnx` or `convert` wrote.

    Raises:
        WeightsError: The file is not one of these.
    """
    config, _, metadata = _read(path)
    return config, metadata


def _read(path: str | Path) -> tuple[MobileNetConfig, onnx.ModelProto, dict[str, str]]:
    """Return config, graph and metadata of a float32 file of this package."""
    onnx = load_package("onnx")
    protobuf = load_package("google.protobuf.message")
    try:
        check_regular(path)
        graph = onnx.load(path, load_external_data=False)
    except (protobuf.DecodeError, OSError) as error:
        raise WeightsError(f"{path}: a damaged or missing ONNX file: {error}") from None
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    is_quantized = any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    if keys.CONFIG not in metadata or is_quantized:
        raise WeightsError(
            f"{path} must be a float32 ONNX file that pymobilenet wrote. Received: one "
            + ("that is quantized already" if is_quantized else "without a config in its metadata")
        )
    return MobileNetConfig.from_json(metadata[keys.CONFIG]), graph, metadata


def _batches(
    config: MobileNetConfig, images: np.ndarray | Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the calibration images in batches, each checked."""
    if isinstance(images, np.ndarray):
        starts = range(0, len(images), BATCH_SIZE)
        images = [images[start : start + BATCH_SIZE] for start in starts]
    batches = (checks.images(config, np.dtype(np.float32), batch) for batch in images)
    first = next(batches, None)
    if first is None:
        raise DataError("calibration requires at least one image. Received: none")
    return itertools.chain([first], batches)


def _calibration_reader(batches: Iterator[np.ndarray], means: InputMeans) -> Any:
    """Return ONNX Runtime's interface to the batches, each of which is also added to `means`."""
    quantization = load_package("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(batches, None)
            if batch is None:
                return None
            means.add(batch)
            return {"images": batch}

    return Reader()
