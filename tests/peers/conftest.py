"""Preparations for importing the packages that these tests compare with."""

import subprocess
from pathlib import Path

import pytest
import torch

from pymobilenet.backends import backend
from pymobilenet.backends.julia.project import julia_executable_and_project


def declare_operators():
    """Make torchvision import, where it has been installed without its compiled operators.

    Its module `_meta_registrations` then stops at the first operator that torch does not know, and
    timm, which imports torchvision, with it. No MobileNet uses the two in question: declaring them
    is enough. The library that is returned must be kept, for its end withdraws what it declared.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # adds to what may be there
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


OPERATORS = declare_operators()


PEERS = Path(__file__).parents[2] / "julia/test/peers"
"""The Julia project with Metalhead and Lux."""


@pytest.fixture(scope="session")
def julia_peers():
    """The running Julia, in which Julia files can use Metalhead and Lux."""
    main = backend("julia").main
    if not (PEERS / "Manifest.toml").exists():
        code = 'using Pkg; Pkg.develop(path="../.."); Pkg.instantiate()'
        julia, _ = julia_executable_and_project()
        words = [julia, "--startup-file=no", f"--project={PEERS}", "-e", code]
        subprocess.run(words, cwd=PEERS, check=True)
    main.seval(f'push!(LOAD_PATH, "{PEERS.as_posix()}")')
    return main
