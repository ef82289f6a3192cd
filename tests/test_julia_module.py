"""A layer of Flux as a module of torch: one memory, gradients, modes, copies, errors."""

import copy
import gc
import io
import pickle
import threading

import numpy as np
import pytest
import torch
from torch import nn

from pymobilenet.errors import ConfigError, DataError, JuliaError

pytestmark = pytest.mark.julia

LAYERS = """
using Flux
using Flux: ChainRulesCore

dense() = Dense(3 => 2, tanh)
conv() = Chain(
    Conv((3, 3), 2 => 4; pad=1), BatchNorm(4, relu), GlobalMeanPool(), Flux.flatten, Dense(4 => 3),
)
norm() = BatchNorm(3; momentum=0.3f0)
dropout() = Dropout(0.5)
both() = Chain(x -> (x, 2 .* x))
total() = x -> sum(abs2, x)
table() = Flux.Embedding(5 => 2)
identity_layer() = Chain(identity)
named() = Chain(; forward=Dense(2 => 2), training=Dense(2 => 2))
text() = x -> "text"
throwing() = x -> error("no such thing")
number() = 7

cubed(x) = x .^ 3
function ChainRulesCore.rrule(::typeof(cubed), x)
    return cubed(x), dy -> (ChainRulesCore.NoTangent(), 100 .* dy) # a rule that nobody would guess
end
ruled() = cubed

struct Scaled{T}
    scale::T
    fixed::T
end
Flux.@layer Scaled trainable = (scale,)
(layer::Scaled)(x) = layer.scale .* x .+ layer.fixed
custom() = Scaled(ones(Float32, 3), zeros(Float32, 3))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("layers") / "layers.jl"
    path.write_text(LAYERS)
    return path


@pytest.fixture
def layer(file):
    """Builds a module from a function of the file."""
    from pymobilenet.interop import JuliaModule

    torch.manual_seed(0)
    return lambda name: JuliaModule(f"{file}:{name}")


def test_parameters_and_buffers_are_julias_memory_under_the_names_of_their_paths(layer):
    module = layer("conv")
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "layers.1.weight": (4, 2, 3, 3),
        "layers.1.bias": (4,),
        "layers.2.β": (4,),
        "layers.2.\N{GREEK SMALL LETTER GAMMA}": (4,),
        "layers.5.weight": (4, 3),
        "layers.5.bias": (3,),
    }
    assert [name for name, _ in module.named_buffers()] == ["layers.2.μ", "layers.2.σ²"]
    weight = module.get_parameter("layers.5.weight")
    with torch.no_grad():
        weight.copy_(torch.arange(12.0).reshape(4, 3))
    julia = module.layer.layers[4].weight
    assert np.array_equal(np.asarray(julia).T, weight.detach().numpy())
    julia[0, 0] = 99
    assert weight[0, 0] == 99


def test_an_optimizer_step_of_either_framework_is_seen_by_the_other(layer):
    from pymobilenet import backend

    module, main = layer("dense"), backend("julia").main
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    x = torch.randn(5, 3)
    before = np.array(module.layer.weight)
    module(x).sum().backward()
    expected = before - 0.1 * module.weight.grad.numpy().T
    optimizer.step()
    np.testing.assert_allclose(np.asarray(module.layer.weight), expected, rtol=1e-6)
    step = main.seval("""
        import MobileNets: Flux
        (layer, x) -> begin
            state = Flux.setup(Flux.Descent(0.1), layer)
            gradient, = Flux.gradient(m -> sum(m(x)), layer)
            Flux.update!(state, layer, gradient)
            gradient.weight
        end""")
    before = module.weight.detach().clone()
    gradient = np.asarray(step(module.layer, backend("julia").wrap(x.numpy()))).T
    expected = before.numpy() - 0.1 * gradient
    np.testing.assert_allclose(module.weight.detach().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["dense", "conv", "custom", "both", "total"])
def test_gradcheck_in_float64(layer, name):
    module = layer(name).double()
    shape = {"conv": (3, 2, 6, 5)}.get(name, (4, 3))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    parameters = tuple(module.parameters())
    inputs = (x, *parameters)
    assert torch.autograd.gradcheck(lambda x, *_: module(x), inputs)


def test_a_rule_that_a_layer_defines_is_used(layer):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = layer("ruled")(x)
    y.sum().backward()
    assert y.tolist() == [1, 8]
    assert x.grad.tolist() == [100, 100]


def test_the_layer_computes_what_torch_does(layer):
    module = layer("conv").train()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    conv, norm, dense = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 3)
    with torch.no_grad():
        conv.weight.copy_(state["layers.1.weight"].flip(2, 3))
        conv.bias.copy_(state["layers.1.bias"])
        dense.weight.copy_(state["layers.5.weight"].T)
        dense.bias.copy_(state["layers.5.bias"])
    x = torch.randn(8, 2, 6, 5)
    torch.testing.assert_close(module(x), dense(norm(conv(x)).relu().mean((2, 3))))
    torch.testing.assert_close(module.state_dict()["layers.2.μ"], norm.running_mean)
    torch.testing.assert_close(module.state_dict()["layers.2.σ²"], norm.running_var)
    conv.eval(), norm.eval(), module.eval()
    torch.testing.assert_close(module(x), dense(norm(conv(x)).relu().mean((2, 3))))


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.cat([x, x], 1)[:, :2],
        lambda x: x.flip(3).flip(3),
        lambda x: x[:1].expand(8, -1, -1, -1),
    ],
)
def test_inputs_of_any_layout(layer, changed):
    module = layer("conv").eval()
    x = changed(torch.randn(8, 2, 6, 5)).requires_grad_()
    contiguous = x.detach().contiguous().requires_grad_()
    weights = torch.randn(8, 3)
    for images in (x, contiguous):
        (module(images) * weights).sum().backward()
    torch.testing.assert_close(module(x), module(contiguous))
    torch.testing.assert_close(x.grad, contiguous.grad)


def test_only_what_requires_gradients_gets_them(layer):
    module, x = layer("dense"), torch.randn(4, 3)
    module(x).sum().backward()
    assert x.grad is None
    assert module.weight.grad is not None
    module.zero_grad()
    module.requires_grad_(False)
    assert not module(x).requires_grad
    images = x.clone().requires_grad_()
    module(images).sum().backward()
    assert images.grad is not None
    assert module.weight.grad is None
    module.bias.requires_grad_()
    module(x).sum().backward()
    assert module.bias.grad is not None
    assert module.weight.grad is None
    with torch.no_grad():
        assert not module(images).requires_grad
    with torch.inference_mode():
        module(x)


def test_gradients_accumulate_and_the_graph_may_be_used_again(layer):
    module, x = layer("dense"), torch.randn(4, 3, requires_grad=True)
    y = module(x).sum()
    y.backward(retain_graph=True)
    once = [p.grad.clone() for p in (x, *module.parameters())]
    y.backward()
    for parameter, first in zip((x, *module.parameters()), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * first)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_a_second_derivative_is_refused(layer):
    module, x = layer("dense"), torch.randn(4, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*without create_graph"):
        torch.autograd.grad(module(x).sum(), x, create_graph=True)


def test_a_change_in_place_before_the_backward_pass_is_an_error(layer):
    module = layer("dense")
    for change in ("input", "output", "parameter"):
        x = torch.randn(4, 3, requires_grad=True)
        images = 1 * x
        y = module(images)
        with torch.no_grad():
            {"input": images, "output": y, "parameter": module.weight}[change].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_outputs_are_no_views_of_inputs(layer):
    module, x = layer("identity_layer"), torch.ones(3, requires_grad=True)
    y = module(x)
    assert y.data_ptr() != x.data_ptr()
    gradient = torch.ones(3)
    (found,) = torch.autograd.grad(y, x, gradient)
    assert found.data_ptr() != gradient.data_ptr()


def test_several_outputs_numbers_and_integers(layer):
    first, second = layer("both")(torch.ones(2, 2))
    assert (second == 2 * first).all()
    assert layer("total")(torch.full((2, 2), 2.0)).item() == 16
    table = layer("table")
    found = table(torch.tensor([1, 5, 1]))  # Julia counts from 1
    assert found.shape == (3, 2)
    found.sum().backward()
    assert table.weight.grad[:, 0].tolist() == [2, 0, 0, 0, 1]


def test_modes(layer):
    norm, x = layer("norm"), 5 + torch.randn(64, 3)
    norm.eval()
    torch.testing.assert_close(norm(x), x / np.sqrt(1 + 1e-5), rtol=1e-5, atol=1e-5)
    assert norm.state_dict()["μ"].tolist() == [0, 0, 0]
    norm.train()
    norm(x)
    torch.testing.assert_close(norm.state_dict()["μ"], 0.3 * x.mean(0), rtol=1e-5, atol=1e-5)
    dropout = layer("dropout")
    assert (dropout(torch.ones(1000)) == 0).sum() > 300
    assert (dropout.eval()(torch.ones(1000)) == 1).all()


def test_autocast_is_honoured_by_a_conversion_to_the_layers_dtype(layer):
    module, x = layer("dense"), torch.randn(4, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(nn.Identity()(x.to(torch.bfloat16)))
    assert y.dtype == torch.float32
    y.sum().backward()
    assert x.grad.dtype == torch.float32
    with pytest.raises(DataError, match=r"must be float32, int64 or uint8.*Received: bfloat16"):
        module(x.to(torch.bfloat16))


def test_dtypes(layer):
    module = layer("conv")
    x = torch.randn(3, 2, 6, 5)
    expected, state = module.eval()(x), copy.deepcopy(module.state_dict())
    (module(x).sum()).backward()
    double = module.double()
    assert double is module
    assert {p.dtype for p in (*module.parameters(), *module.buffers())} == {torch.float64}
    assert {p.grad.dtype for p in module.parameters()} == {torch.float64}
    torch.testing.assert_close(module(x.double()).float(), expected)
    module.layer.layers[0].bias[0] = 3
    assert module.get_parameter("layers.1.bias")[0] == 3
    module.float().load_state_dict(state)
    torch.testing.assert_close(module(x), expected)
    with pytest.raises(RuntimeError, match="Received: float16 on cpu"):
        module.half()
    with pytest.raises(RuntimeError, match="Received: float32 on meta"):
        module.to("meta")
    with pytest.raises(RuntimeError, match="on shared memory"):
        module.share_memory()
    with pytest.raises(DataError, match=r"must be float32.*Received: float64"):
        module(x.double())


def test_a_state_can_be_saved_and_loaded(layer):
    module, other = layer("conv"), layer("conv")
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(2, 2, 6, 5)
    torch.testing.assert_close(module.eval()(x), other.eval()(x), rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="without assign"):
        other.load_state_dict(module.state_dict(), assign=True)


def test_copies_have_a_layer_of_their_own(layer):
    module, x = layer("conv").eval(), torch.randn(2, 2, 6, 5)
    module.get_parameter("layers.1.bias").requires_grad_(False)
    module(x).sum().backward()
    net = nn.Sequential(module, nn.Linear(3, 2))
    for copied in (copy.deepcopy(net)[0], pickle.loads(pickle.dumps(net))[0]):
        torch.testing.assert_close(copied(x), module(x), rtol=0, atol=0)
        assert not copied.training
        assert not copied.get_parameter("layers.1.bias").requires_grad
        weight = copied.get_parameter("layers.5.weight")
        copied.layer.layers[4].weight[0, 0] = 1234
        assert weight[0, 0] == 1234
        assert module.get_parameter("layers.5.weight")[0, 0] != 1234
    gradient = copy.deepcopy(module).get_parameter("layers.5.weight").grad
    torch.testing.assert_close(gradient, module.get_parameter("layers.5.weight").grad)


def test_a_layer_without_a_file_is_no_pickle(layer):
    from pymobilenet.interop import JuliaModule

    module = JuliaModule(layer("dense").layer)
    assert module(torch.ones(1, 3)).shape == (1, 2)
    with pytest.raises(TypeError, match=r"save its state_dict\(\)"):
        pickle.dumps(module)


def test_a_replaced_parameter_is_named(layer):
    module = layer("conv")
    module.get_parameter("layers.5.weight").data = torch.zeros(4, 3)
    with pytest.raises(RuntimeError, match=r"layers\.5\.weight has been replaced.*copy_"):
        module(torch.ones(1, 2, 6, 5))


def test_names_that_modules_have_get_an_underscore(layer):
    module = layer("named")
    assert set(module.state_dict()) == {
        "layers.forward_.weight",
        "layers.forward_.bias",
        "layers.training_.weight",
        "layers.training_.bias",
    }
    assert module(torch.ones(1, 2)).shape == (1, 2)
    assert copy.deepcopy(module)(torch.ones(1, 2)).shape == (1, 2)


def test_it_trains_in_a_net_of_torch(layer):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), layer("dense"), nn.Linear(2, 1))
    x = torch.randn(128, 4)
    y = x[:, :1] * x[:, 1:2]
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    losses = []
    for _ in range(150):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [("text", "Received: String"), ("throwing", "no such thing"), ("number", "not callable|Int64")],
)
def test_errors_of_julia_have_their_text(layer, name, message):
    module = layer(name)
    with pytest.raises(JuliaError, match=message):
        module(torch.ones(1, 3))


def test_what_is_no_layer_or_no_input_is_refused(layer, file):
    from pymobilenet.interop import JuliaModule

    for wrong in ("layers.jl", f"{file}.txt:dense", "missing.jl:dense", 7, nn.Linear(1, 1)):
        with pytest.raises(ConfigError, match="Received"):
            JuliaModule(wrong)
    with pytest.raises(JuliaError, match="defines no function `nothing_here`"):
        JuliaModule(f"{file}:nothing_here")
    module = layer("dense")
    for wrong in (np.ones((1, 3)), torch.ones(1, 3, device="meta"), torch.ones((1,) * 9)):
        with pytest.raises(DataError, match="Received"):
            module(wrong)
    with pytest.raises(DataError, match="Received: bool"):
        module(torch.ones(1, 3) > 0)


def test_threads_wait_for_each_other(layer):
    module = layer("conv")
    images = [torch.randn(2, 2, 6, 5) for _ in range(4)]
    expected = [module.eval()(x) for x in images]
    wrong = []

    def work(number):
        for _ in range(20):
            x = images[number].clone().requires_grad_()
            y = module(x)
            y.sum().backward()
            if not torch.equal(y, expected[number]) or x.grad is None:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_tensors_outlive_the_module(layer):
    from pymobilenet import backend

    module = layer("conv")
    y = module(torch.randn(4, 2, 6, 5))
    expected, weight = y.detach().clone(), module.get_parameter("layers.1.weight")
    values = weight.detach().clone()
    del module
    collect = backend("julia").calls
    for _ in range(3):
        gc.collect()
        collect("collect", flag=True)
        layer("conv")(torch.randn(4, 2, 6, 5))
    assert torch.equal(y, expected)
    assert torch.equal(weight, values)
    y.sum().backward()
    assert weight.grad is not None
