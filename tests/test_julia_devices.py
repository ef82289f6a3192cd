"""The Julia backend's options `device` and `distributed`, on a machine without GPU and MPI.

Processes are tested in peers/test_mpi_peer.py, devices in julia/test.
"""

import pytest
from small_models import SMALL

from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable, ConfigError, JuliaError

pytestmark = pytest.mark.julia


def test_defaults_are_the_cpu_and_one_process():
    model = backend("julia").build(SMALL, device="cpu")
    assert model.compute_options == {"kernels": "fast", "device": "cpu", "processes": "1"}
    assert model.is_main_process
    assert [model.any_rank(flag) for flag in (True, False)] == [True, False]


@pytest.mark.parametrize(
    ("options", "names"),
    [({"device": "cuda"}, ("CUDA", "cuDNN")), ({"distributed": True}, ("MPI",))],
)
def test_missing_packages_are_named_with_the_command_that_adds_them(options, names):
    with pytest.raises(BackendUnavailable) as info:
        backend("julia").build(SMALL, **options)
    for name in names:
        assert f"`python -m juliapkg add {name} --uuid " in str(info.value)
    assert f"{' and '.join(names)} in the project " in str(info.value)


def test_unsupported_devices_are_refused():
    with pytest.raises(JuliaError, match="NNlib has no convolutions for Metal"):
        backend("julia").build(SMALL, device="mps")
    with pytest.raises(JuliaError, match=r'device must be cpu or cuda\. Received: "tpu"'):
        backend("julia").build(SMALL, device="tpu")


def test_activations_on_a_gpu_are_refused():
    model = backend("julia").build(SMALL)
    model.device = "cuda"
    message = r"with device='cpu' only\. Received: a model with device='cuda'"
    with pytest.raises(ConfigError, match=message):
        model._activations(None, False, {})
