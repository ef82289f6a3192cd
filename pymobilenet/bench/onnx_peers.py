"""Runtimes of ONNX files beside the backends: ONNX Runtime and OpenVINO, in float32 and in int8.

Each predicts with the file that `pymobilenet.formats.onnx_export` writes of the torch model or, in
int8, with what `pymobilenet.quantization` makes of it. The int8 file is calibrated on random
images: its speed does not depend on them, but its logits mean nothing.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import BackendUnavailable
from pymobilenet.formats.onnx_export import export_onnx
from pymobilenet.quantization.quantize import BATCH_SIZE, predictor, quantize

if TYPE_CHECKING:
    from pymobilenet.bench.contenders import Job

FLOAT32, INT8 = "float32", "int8"


@contextmanager
def onnx_file(config: MobileNetConfig, precision: str) -> Iterator[Path]:
    """Write the ONNX file of a net with random weights, which is removed afterwards.

    Args:
        config: The net.
        precision: `FLOAT32` or `INT8`.

    Yields:
        The path of the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.onnx"
        export_onnx(path, backend("torch").build(config))
        if precision == INT8:
            shape = (BATCH_SIZE, config.in_channels, config.resolution, config.resolution)
            images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            quantize(path, Path(folder) / "int8.onnx", images)
            path = Path(folder) / "int8.onnx"
        yield path


def chosen_threads() -> int:
    """Return ``OMP_NUM_THREADS``, or 0 where it is not set and the runtime chooses."""
    return int(os.environ.get("OMP_NUM_THREADS", "0"))


def onnxruntime_job(config: MobileNetConfig, images: np.ndarray, precision: str) -> Job:
    """Return a prediction by ONNX Runtime.

    Args:
        config: The net.
        images: (N, C, H, W), float32.
        precision: `FLOAT32` or `INT8`.
    """
    with onnx_file(config, precision) as path:
        run = predictor(path, chosen_threads())
    return lambda: run(images)


def openvino_job(config: MobileNetConfig, images: np.ndarray, precision: str) -> Job:
    """Return a prediction by OpenVINO.

    Args:
        config: The net.
        images: (N, C, H, W), float32.
        precision: `FLOAT32` or `INT8`.
    """
    with onnx_file(config, precision) as path:
        request = openvino_request(path)
    # As ONNX Runtime, it reads the images where they are and returns an array of its own.
    return lambda: request.infer([images], share_inputs=True)[0]


def openvino_request(path: Path, **properties: Any) -> Any:
    """Compile an ONNX file for latency on the CPU, with everything that is float32 in float32.

    Without the hint, OpenVINO computes in bfloat16 where the processor can.

    Args:
        path: The file.
        **properties: Further properties of OpenVINO by name, such as ``PERF_COUNT=True``.

    Returns:
        An ``openvino.InferRequest``.

    Raises:
        BackendUnavailable: OpenVINO is not installed or does not load.
    """
    try:
        import openvino
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        raise BackendUnavailable(
            f"openvino does not import ({error}): pip install pymobilenet[openvino]"
        ) from None
    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads := chosen_threads():
        hints["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(path, "CPU", hints | properties)
    return compiled.create_infer_request()


def installed_versions() -> dict[str, str]:
    """Return the versions of those packages of this module's contenders that are installed."""
    packages = ("onnx", "onnxruntime", "openvino")
    return {name: version(name) for name in packages if _missing(name) is None}


def onnxruntime_missing() -> str | None:
    """Return which packages ONNX Runtime's contenders lack, or None."""
    return _missing("onnx", "onnxruntime")


def openvino_missing(precision: str) -> str | None:
    """Return which packages OpenVINO's contenders lack, or None.

    Args:
        precision: `FLOAT32`, or `INT8`, for which ONNX Runtime quantizes the file.
    """
    quantizer = ("onnxruntime",) if precision == INT8 else ()
    return _missing("onnx", *quantizer, "openvino")


def _missing(*packages: str) -> str | None:
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else None
