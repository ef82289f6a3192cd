"""Julia on a GPU and in several processes, as far as a machine without either can tell.

The processes themselves meet in peers/test_mpi_peer.py, the devices in julia/test.
"""

import pytest
from small_models import SMALL

from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable, ConfigError, JuliaError

pytestmark = pytest.mark.julia


def test_the_cpu_and_one_process_are_chosen_unless_others_are_asked_for():
    model = backend("julia").build(SMALL, device="cpu")
    assert model.compute_options == {"kernels": "fast", "device": "cpu", "processes": "1"}
    assert model.is_main_process
    assert [model.any_rank(found) for found in (True, False)] == [True, False]


@pytest.mark.parametrize(
    ("options", "names"),
    [({"device": "cuda"}, ("CUDA", "cuDNN")), ({"distributed": True}, ("MPI",))],
)
def test_packages_that_are_not_there_are_named_with_how_to_get_them(options, names):
    with pytest.raises(BackendUnavailable) as caught:
        backend("julia").build(SMALL, **options)
    for name in names:
        assert f"`python -m juliapkg add {name} --uuid " in str(caught.value)
    assert f"{' and '.join(names)} in the project " in str(caught.value)


def test_devices_that_no_package_brings_are_refused():
    with pytest.raises(JuliaError, match="NNlib has no convolutions for Metal"):
        backend("julia").build(SMALL, device="mps")
    with pytest.raises(JuliaError, match=r'device must be cpu or cuda\. Received: "tpu"'):
        backend("julia").build(SMALL, device="tpu")


def test_activations_elsewhere_are_refused():
    model = backend("julia").build(SMALL)
    model.device = "cuda"
    with pytest.raises(ConfigError, match=r"with device='cpu'\. Received: device 'cuda'"):
        model._activations(None, False, {})
