"""Layers of Julia inside torch, and models that run in both frameworks.

`JuliaModule` is a Flux layer as an `nn.Module`, `hybrid` joins the front of one model with the back
of another. In Julia, ``TorchModule`` is a module of torch as a Flux layer; see docs/interop.md.
"""

from pymobilenet.backends.torch.hybrid import Hybrid, hybrid
from pymobilenet.backends.torch.julia_module import JuliaModule

__all__ = ["Hybrid", "JuliaModule", "hybrid"]
