"""Devices and mixed precision of the torch backend, tested on a machine without a GPU.

Torch's meta device, whose tensors have shapes and no values, reveals a tensor that is left on the
CPU by mistake: operations on both raise an error, and meta tensors cannot be converted to NumPy.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, assert_same_bits, batch
from torch_reference import STATE, torch_model

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends import activation_masks
from pymobilenet.backends.torch import devices
from pymobilenet.data import synthetic
from pymobilenet.errors import BackendUnavailable, ConfigError

FLOAT32 = {"dtype": "float32"}
RECIPE = TrainConfig(weight_decay=0.01, clip_norm=0.5, ema_decay=0.9)


@pytest.fixture
def meta_model(monkeypatch):
    """A model with an optimizer on the meta device."""
    meta = torch.device("meta")
    with monkeypatch.context() as patch:
        patch.setattr("pymobilenet.backends.torch.model.find_device", lambda *_: meta)
        model = torch_model()
    model.set_optimizer(RECIPE)
    return model


def test_the_default_device_is_the_cpu():
    model = torch_model(device="cpu")
    assert model.compute_options["device"] == torch_model().compute_options["device"] == "cpu"
    assert model.compute_options["amp"] == "no"
    assert_same_bits(model.loss_and_grads(*batch())[1], torch_model().loss_and_grads(*batch())[1])


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "CPU", "cpu:0", None, 0])
def test_an_unknown_device_name_is_refused(name):
    rule = r"device must be cpu, cuda, cuda:<number> or mps\. Received: "
    with pytest.raises(ConfigError, match=rule + repr(name)):
        torch_model(device=name)


@pytest.mark.parametrize("name", ["cuda", "cuda:2"])
def test_an_unavailable_device_is_refused_with_the_available_ones(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match=rf"that torch .* sees: cpu\. Received: '{name}'"):
        torch_model(device=name)


def test_available_devices_are_listed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.available_devices() == ["cpu", "cuda", "cuda:0", "cuda:1", "mps"]
    assert devices.find_device("cuda:1", np.dtype("float64")) == torch.device("cuda", 1)
    with pytest.raises(
        BackendUnavailable, match=r"sees: cpu, cuda, cuda:0, cuda:1, mps\. Received: 'cuda:2'"
    ):
        devices.find_device("cuda:2", np.dtype("float64"))
    assert devices.find_device("mps", np.dtype("float32")).type == "mps"


def test_float64_on_mps_is_refused():
    with pytest.raises(ConfigError, match=r"mps does not support float64: .*Received: float64"):
        torch_model(device="mps")


@pytest.mark.parametrize(
    "use",
    [
        lambda model, images, _labels, _masks: model.predict(images),
        lambda model, images, _labels, _masks: model.activations(images),
        lambda model, images, _labels, masks: model.activations(images, True, masks),
        lambda model, images, labels, _masks: model.loss_and_grads(images, labels),
        lambda model, images, labels, masks: model.loss_and_grads(images, labels, masks),
        lambda model, images, _labels, _masks: model.loss_and_grads(images, np.full((3, 7), 1 / 7)),
        lambda model, images, labels, masks: model.step(images, labels, 0.1, masks),
        lambda model, _images, _labels, _masks: model.get_state(),
    ],
)
def test_every_method_moves_its_arguments_to_the_device(meta_model, use):
    images, labels = batch()
    activations = torch_model().activations(images, train=True)
    masks = {"stem.act": activation_masks(activations["stem.norm"], "relu6")}
    masks["dropout"] = np.ones((3, 102))
    with pytest.raises(RuntimeError, match=r"copy out of meta tensor|item\(\) cannot be called on"):
        use(meta_model, images, labels, masks)


def test_a_state_with_moments_is_moved_to_the_device(meta_model):
    cpu_model = torch_model()
    cpu_model.set_optimizer(RECIPE)
    cpu_model.step(*batch(), 0.1)
    meta_model.set_state(cpu_model.get_state())
    moments = [state["momentum_buffer"] for state in meta_model.torch_optimizer.state.values()]
    tensors = [*meta_model.module.state_dict().values(), *meta_model.averages.values(), *moments]
    assert len(moments) == len(list(meta_model.module.parameters()))
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_convolutions_on_cuda_do_not_use_tf32():
    cudnn = torch.backends.cudnn
    before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)
    with devices.without_tf32(torch.device("cpu")):
        assert cudnn.allow_tf32 == before[3]
    with devices.without_tf32(torch.device("cuda")):
        assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == before[:3]
        assert not cudnn.allow_tf32
    assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == before


# Mixed precision


def test_only_steps_use_mixed_precision():
    images, labels = batch(8, size=(16, 16))
    images = images.astype(np.float32)
    plain, mixed = torch_model(**FLOAT32), torch_model(**FLOAT32, amp="bf16")
    logits = []
    mixed.module.classifier.register_forward_hook(lambda *call: logits.append(call[2].detach()))
    assert mixed.predict(images).tobytes() == plain.predict(images).tobytes()
    loss, grads = mixed.loss_and_grads(images, labels)
    expected_loss, expected = plain.loss_and_grads(images, labels)
    assert loss == expected_loss
    assert_same_bits(grads, expected)
    mixed.set_optimizer(RECIPE)
    loss, grads = mixed.step(images, labels, 0.1)
    assert [each.dtype for each in logits] == [torch.float32, torch.float32, torch.bfloat16]
    assert loss != expected_loss
    exact = F.cross_entropy(logits[-1].double(), torch.from_numpy(labels)).item()
    assert loss == pytest.approx(exact, rel=1e-6)  # the loss itself is computed in float32
    assert loss == pytest.approx(expected_loss, rel=0.05)  # from logits of bfloat16
    assert {grad.dtype for grad in grads.values()} == {np.dtype("float32")}
    assert {t.dtype.name for t in mixed.get_state().values()} == {"float32", "int64"}


def test_mixed_precision_lowers_the_loss():
    config = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, stem_stride=1)
    model = backend("torch").build(config, amp="bf16")
    recipe = TrainConfig(optimizer="adam", rate=3e-3, batch_size=40, steps=30, crop_padding=0)
    history = model.fit(synthetic(40, num_classes=5), recipe)
    assert history.losses[-1] < 0.6 * history.losses[0]
    assert history.compute_options["amp"] == "bf16"


@pytest.mark.parametrize(
    ("amp", "dtype", "rule"),
    [
        ("fp16", "float32", "amp must be one of no, bf16. Received: 'fp16'"),
        (True, "float32", "amp must be one of no, bf16. Received: True"),
        ("bf16", "float64", "amp='bf16' requires a float32 model. Received: float64"),
    ],
)
def test_an_invalid_precision_is_refused(amp, dtype, rule):
    with pytest.raises(ConfigError, match=rule):
        torch_model(dtype=dtype, amp=amp)


# The other backends


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("numpy", {"device": "cuda"}, "'device': it computes on the CPU; its options are none"),
        ("numpy", {"amp": "bf16"}, "'amp': it computes in the model's dtype; its options are none"),
        pytest.param(
            "julia",
            {"amp": "bf16"},
            "'amp': it computes in the model's dtype; its options are kernels, device, distributed",
            marks=pytest.mark.julia,
        ),
    ],
)
def test_backends_without_an_option_say_how_they_compute(name, options, rule):
    with pytest.raises(ConfigError, match=f"no option {rule}"):
        backend(name).build(SMALL, dtype="float64", **options)


def test_an_unknown_option_is_refused_with_the_known_ones():
    rule = "the torch backend has no option 'devices': its options are memory_format, compiled, "
    with pytest.raises(ConfigError, match=rule):
        backend("torch").from_state(SMALL, STATE, devices="cpu")
