# Layers of Flux whose arrays another framework shares.

using Flux: Flux, BatchNorm, Chain, Conv, Dense, Dropout
using MobileNets.Interop: Interop, OF_INPUTS, OF_PARAMETERS, SharedLayer, call_layer, restore_arrays!

const BOTH = OF_INPUTS + OF_PARAMETERS
names(shared) = [each.name for each in shared.arrays]
parameters(shared) = [each.name for each in shared.arrays if each.is_parameter]

@testset "arrays have the names of their paths, and are the layer's" begin
    layer = Chain(Conv((3, 3), 2 => 4), BatchNorm(4, tanh), Flux.flatten, (; head=Dense(4 => 3; bias=false)).head)
    shared = SharedLayer(layer)
    @test parameters(shared) == ["layers.1.weight", "layers.1.bias", "layers.2.β", "layers.2.γ", "layers.4.weight"]
    @test setdiff(names(shared), parameters(shared)) == ["layers.2.μ", "layers.2.σ²"]
    @test shared.arrays[1].array === layer[1].weight
end

struct Tied
    first::Dense
    second::Any
end
Flux.@layer Tied
(layer::Tied)(x) = layer.second(layer.first(x))

@testset "a tied array is one parameter, whose gradients are added" begin
    dense = Dense(2 => 2)
    shared = SharedLayer(Tied(dense, dense))
    @test names(shared) == ["first.weight", "first.bias"]
    x = Float32[1 2; 3 4]
    _, pullback = call_layer(shared, (x,); train=true, wanted=BOTH)
    _, gradients = pullback([ones(Float32, 2, 2)])
    other = Dense(dense.weight, dense.bias)
    expected, = Flux.gradient((a, b) -> sum(b(a(x))), dense, other)
    both = Flux.gradient((a, b) -> sum(b(a(x))), dense, other)
    @test first(gradients) ≈ both[1].weight + both[2].weight
end

@testset "outputs and gradients share no memory with anything" begin
    x = randn(Float32, 3, 2)
    for layer in (identity, Flux.flatten, y -> reshape(y, 2, 3), Chain(identity), y -> (y, y, y'))
        shared = SharedLayer(layer)
        outputs, pullback = call_layer(shared, (x,); train=true, wanted=OF_INPUTS)
        seeds = [ones(Float32, size(output)) for output in outputs]
        of_inputs, _ = pullback(seeds)
        arrays = [x, outputs..., seeds..., of_inputs...]
        @test length(unique(pointer.(arrays))) == length(arrays)
        @test all(array -> array isa Array{Float32}, arrays)
        @test only(of_inputs) == fill(length(outputs), 3, 2)
    end
    shared = SharedLayer(Dense(ones(Float32, 2, 2), zeros(Float32, 2)))
    weight_itself = SharedLayer(Chain(Dense(ones(Float32, 2, 2)), _ -> shared.layer.weight))
    outputs, _ = call_layer(shared, (ones(Float32, 2, 2),); train=false)
    @test pointer(only(outputs)) != pointer(shared.layer.weight)
end

@testset "a layer may return a number, a tuple, or what is no Array" begin
    x = Float64[1 2; 3 4]
    number, pullback = call_layer(SharedLayer(sum), (x,); train=false, wanted=OF_INPUTS)
    @test only(number) == fill(10.0)
    @test only(first(pullback([fill(2.0)]))) == fill(2.0, 2, 2)
    lazy, = call_layer(SharedLayer(y -> transpose(view(y, :, 1:1))), (x,); train=false)
    @test only(lazy) == [1 3] && only(lazy) isa Matrix{Float64}
    for (layer, received) in ((y -> "text", "String"), (y -> y .> 1, "Bool"), (y -> nothing, "Nothing"))
        @test occursin(received, message(() -> call_layer(SharedLayer(layer), (x,); train=false), ConfigError))
    end
end

@testset "only what is wanted is differentiated" begin
    shared = SharedLayer(Dense(2 => 3))
    x = randn(Float32, 2, 4)
    @test last(call_layer(shared, (x,); train=true)) === nothing
    seed = [ones(Float32, 3, 4)]
    of_inputs, of_parameters = last(call_layer(shared, (x,); train=true, wanted=OF_INPUTS))(seed)
    @test only(of_inputs) ≈ shared.layer.weight' * ones(3, 4) && of_parameters == [nothing, nothing]
    of_inputs, of_parameters = last(call_layer(shared, (x,); train=true, wanted=OF_PARAMETERS))(seed)
    @test of_inputs == [nothing] && size.(of_parameters) == [(3, 2), (3,)]
end

@testset "a pullback may be called again, also that of a mutable layer" begin
    shared = SharedLayer(Chain(BatchNorm(2), Dense(2 => 2)))
    _, pullback = call_layer(shared, (randn(Float32, 2, 8),); train=true, wanted=BOTH)
    seed = [randn(Float32, 2, 8)]
    first_time, second_time = deepcopy(pullback(seed)), pullback(seed)
    @test first_time == second_time
end

mutable struct Replacing
    mean::Vector{Float32}
end
Flux.@layer Replacing trainable = ()
(layer::Replacing)(x) = (layer.mean = layer.mean .+ 1; x)

@testset "an array that a layer replaces is put back" begin
    layer = Replacing([1, 2])
    shared = SharedLayer(layer)
    array = layer.mean
    call_layer(shared, (zeros(Float32, 2),); train=true)
    @test layer.mean === array == [2, 3]
    layer.mean = [7, 8]
    restore_arrays!(shared)
    @test layer.mean === array == [7, 8]
    layer.mean = [7, 8, 9]
    @test occursin("keep its size", message(() -> restore_arrays!(shared), ConfigError))
end

@testset "the mode is that of the call" begin
    layer = Chain(BatchNorm(2; momentum=0.5f0), Dropout(0.5))
    shared = SharedLayer(layer)
    x = randn(Float32, 2, 64)
    outputs, = call_layer(shared, (x,); train=false)
    @test only(outputs) ≈ x rtol = 1e-4
    outputs, = call_layer(shared, (x,); train=true)
    @test count(==(0), only(outputs)) > 20 && layer[1].μ != [0, 0]
end

@testset "copies and conversions share nothing" begin
    shared = SharedLayer(Chain(Dense(2 => 2), BatchNorm(2)))
    copied, converted = Interop.copied(shared), Interop.converted(Float64, shared)
    @test names(copied) == names(converted) == names(shared)
    @test all(a.array == b.array && a.array !== b.array for (a, b) in zip(shared.arrays, copied.arrays))
    @test all(each -> each.array isa Array{Float64}, converted.arrays)
    @test converted.layer[2].ϵ === 1e-5
end

@testset "arrays that cannot be shared are named" begin
    lazy = Dense(transpose(ones(Float32, 2, 2)), false)
    for (layer, name) in (lazy => "weight", Chain(Dense(ones(Float16, 2, 2), false)) => "layers.1.weight")
        @test occursin(name, message(() -> SharedLayer(layer), ConfigError))
    end
end

@testset "a cycle ends" begin
    layer = Dict{Symbol,Any}(:weight => ones(Float32, 2))
    layer[:self] = layer
    @test names(SharedLayer(layer)) == ["weight"]
end
