"""What the parity tests share: small nets, generated images, one thread for torch."""

import pytest
import torch

from pymobilenet import MobileNetConfig
from pymobilenet.data import standin

SMALL = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=20, stem_stride=2)
"""Its last maps are 1x1: a batch of 16 is the smallest that keeps float32 from chaos."""

FAULTY = ["torch", pytest.param("julia", marks=pytest.mark.julia)]
"""The backends whose models the faults are planted in."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Maps this small are slower on many threads than on one, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images():
    return standin(num_images=256, num_classes=SMALL.num_classes)
