"""Fixtures of the parity tests: a small net, generated images and the oracle's results."""

import pytest
import torch

from pymobilenet import MobileNetConfig
from pymobilenet.data import synthetic
from pymobilenet.parity import run
from pymobilenet.parity.handover import HANDOVERS

pytest.register_assert_rewrite("lab")


def pytest_collection_modifyitems(items):
    """The slow ones come first: of several processes none is then left alone with one."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Maps this small are slower on many threads than on one, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def config():
    """A small net with all that levels 1 and 2 can show."""
    return MobileNetConfig(
        width_mult=0.125, resolution=32, num_classes=20, dropout=0.25, softmax=True
    )


@pytest.fixture(scope="module")
def one_handover():
    """Level 6 with one recipe: each has tests of its own (`test_handover`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "HANDOVERS", HANDOVERS[:1])
        yield


@pytest.fixture(scope="session")
def images(config):
    return synthetic(num_images=256, num_classes=config.num_classes)


@pytest.fixture(scope="session")
def lab(config, images):
    """Its last maps are 1x2, where biased and unbiased variance are far apart."""
    from lab import Lab

    return Lab(config, images, image_size=(17, 33))


@pytest.fixture(scope="session")
def references(lab):
    """Dtype -> the oracle's part in the small scenario."""
    return {dtype: lab.reference(dtype) for dtype in ("float64", "float32")}
