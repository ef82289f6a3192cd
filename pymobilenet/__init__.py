"""One MobileNet in PyTorch, in Flux.jl and in float64 NumPy, and the proof that they agree.

Importing this package loads neither torch nor Julia; `backend` does, when asked.
"""

from importlib.metadata import version

from pymobilenet.backends import available_backends, backend
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.formats.pretrained import pretrained
from pymobilenet.machine import limit_spinning

__all__ = [
    "MobileNetConfig",
    "TrainConfig",
    "__version__",
    "available_backends",
    "backend",
    "pretrained",
]

limit_spinning()

__version__ = version("pymobilenet")
