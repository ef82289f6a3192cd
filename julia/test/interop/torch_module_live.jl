using Flux: Chain, Dense, Flux, Optimisers
using MobileNets: TorchModule
using PythonCall: Py, pybuiltins, pyconvert, pyexec, pyimport

const torch = pyimport("torch")
torch.manual_seed(0)
torch.set_num_threads(1)

module_of(code; dtype="float64") = Py(pyexec(
    @NamedTuple{made::Py}, "import torch\nfrom torch import nn\nmade = ($code).to(torch.$dtype)", Main
).made)

reversed(array) = permutedims(array, ndims(array):-1:1)

"What torch computes: an array with axes in reverse."
function torch_output(object, x)
    tensor = torch.tensor(pyimport("numpy").array(reversed(x)))
    return reversed(pyconvert(Array, object(tensor).detach().numpy()))
end

@testset "outputs, and gradients of inputs and parameters" begin
    object = module_of("nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 3 * 4, 5))")
    layer = TorchModule(object)
    x = randn(9, 8, 3, 2)
    @test layer(x) ≈ torch_output(object, x)
    weights = randn(5, 2)
    objective(m, images) = sum(weights .* m(images))
    of_layer, of_images = Flux.gradient(objective, layer, x)
    @test deviation(of_images, finite_differences(() -> objective(layer, x), x; stride=29)) < 1e-6
    for (name, parameter) in pairs(layer.parameters)
        expected = finite_differences(() -> objective(layer, x), parameter; stride=7)
        @test deviation(of_layer.parameters[name], expected) < 1e-6
    end
end

@testset "one memory" begin
    object = module_of("nn.Linear(2, 3)")
    layer = TorchModule(object)
    layer.parameters.weight .= reshape(1:6, 2, 3)
    @test pyconvert(Matrix, object.weight.detach().numpy()) == [1 2; 3 4; 5 6]
    object.bias.data.fill_(7)
    @test layer.parameters.bias == [7, 7, 7]
end

@testset "in a Chain, trained by Optimisers" begin
    x, y = randn(Float32, 4, 64), randn(Float32, 1, 64)
    object = module_of("nn.Sequential(nn.Linear(4, 8), nn.ReLU())"; dtype="float32")
    chain = Chain(Dense(4 => 4, tanh), TorchModule(object), Dense(8 => 1))
    optimizer = Flux.setup(Optimisers.Adam(0.05), chain)
    losses = map(1:60) do _
        loss, (gradient,) = Flux.withgradient(m -> sum(abs2, m(x) - y), chain)
        Flux.update!(optimizer, chain, gradient)
        loss
    end
    @test last(losses) < 0.7first(losses)
    @test length(Flux.trainables(chain)) == 6
end

@testset "modes, buffers and frozen parameters" begin
    object = module_of("nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))")
    layer = TorchModule(object)
    x = 5 .+ randn(3, 16)
    mean() = pyconvert(Vector, object[0].running_mean.numpy())
    layer(x)
    @test mean() == zeros(3)
    Flux.gradient(m -> sum(m(x)), layer)
    @test mean() != zeros(3)
    before = copy(mean())
    Flux.gradient(m -> sum(m(x)), Flux.testmode!(layer))
    @test mean() == before
    object[1].weight.requires_grad_(false)
    gradient, = Flux.gradient(m -> sum(m(x)), layer)
    @test gradient.parameters[Symbol("1.weight")] === nothing
    @test gradient.parameters[Symbol("1.bias")] == [16, 16]
end

@testset "copies, and what is refused" begin
    layer = TorchModule(module_of("nn.Linear(2, 3)"))
    other = deepcopy(layer)
    other.parameters.weight .= 0
    @test other(ones(2, 1)) != layer(ones(2, 1))
    @test occursin("must stay torch's memory", message(() -> Flux.f32(layer)(ones(Float32, 2, 1)), ConfigError))
    @test occursin("requires a torch.nn.Module", message(() -> TorchModule(pybuiltins.list()), ConfigError))
    twice = TorchModule(module_of("nn.LSTM(2, 3)"))
    @test occursin("must return one tensor", message(() -> twice(ones(2, 3)), ConfigError))
end

@testset "memory lives as long as it is seen, and no longer" begin
    outputs = [TorchModule(module_of("nn.Linear(50, 50)"))(fill(k / 1.0, 50, 50)) for k in 1:40]
    copies = deepcopy(outputs)
    for _ in 1:3
        GC.gc()
        pyimport("gc").collect()
        foreach(k -> TorchModule(module_of("nn.Linear(50, 50)"))(rand(50, 50)), 1:20)
    end
    @test outputs == copies
end
