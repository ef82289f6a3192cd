using MobileNets: FrozenCall, addresses, array_at, freeze

"Status and scores of a call by address."
function call_by_address(frozen_call, x, classes)
    code, object = addresses(frozen_call)
    width, height, _, count = size(x)
    scores, shape = fill(eltype(x)(-1), classes, count), [count, height, width]
    status = GC.@preserve frozen_call x scores ccall(
        Ptr{Cvoid}(code), Cint, (Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Int}),
        Ptr{Cvoid}(object), pointer(x), pointer(scores), shape,
    )
    return status, scores
end

@testset "the same scores: $(config.family), $dtype" for config in (TINY, TINY_V2), dtype in (Float32, Float64)
    frozen = freeze(MobileNet(config; dtype))
    frozen_call = FrozenCall(frozen)
    for (size, batch) in (((24, 18), 3), ((32, 32), 1))
        x, _ = example(dtype; size, batch)
        @test call_by_address(frozen_call, x, config.num_classes) == (0, frozen(x))
    end
end

@testset "an error is a status and a message" begin
    frozen_call = FrozenCall(freeze(MobileNet(TINY)))
    x, _ = example(Float32; size=(24, 18), batch=2)
    x[7] = NaN
    status, scores = call_by_address(frozen_call, x, TINY.num_classes)
    @test status == 1 && all(==(-1), scores)
    @test occursin("images must be finite", frozen_call.message)
end

@testset "an array over memory of the caller: $T" for T in (Float32, Float64, Int64, UInt8)
    memory = T[1, 2, 3, 4, 5, 6]
    GC.@preserve memory begin
        array = array_at(T, Int(pointer(memory)), (2, 3))
        @test array == T[1 3 5; 2 4 6]
        array[2, 1] = 7
        @test memory[2] == 7
    end
end
