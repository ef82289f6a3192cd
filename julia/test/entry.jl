# What a caller with addresses gets: the same memory as an array, and what a frozen model gives as a function.
using MobileNets: Entry, addresses, array_at, freeze

function call(entry, x, classes)
    code, object = addresses(entry)
    width, height, _, count = size(x)
    scores, shape = fill(eltype(x)(-1), classes, count), [count, height, width]
    status = GC.@preserve entry x scores ccall(
        Ptr{Cvoid}(code), Cint, (Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Int}),
        Ptr{Cvoid}(object), pointer(x), pointer(scores), shape,
    )
    return status, scores
end

@testset "the same scores: $(config.family), $dtype" for config in (TINY, TINY_V2), dtype in (Float32, Float64)
    frozen = freeze(build(config; dtype))
    entry = Entry(frozen)
    for (size, batch) in (((24, 18), 3), ((32, 32), 1))
        x, _ = example(dtype; size, batch)
        @test call(entry, x, config.num_classes) == (0, frozen(x))
    end
end

@testset "an error is a number and a message" begin
    entry = Entry(freeze(build(TINY)))
    x, _ = example(Float32; size=(24, 18), batch=2)
    x[7] = NaN
    status, scores = call(entry, x, TINY.num_classes)
    @test status == 1 && all(==(-1), scores)
    @test occursin("images must be finite", entry.message)
end

@testset "an array over a caller's memory: $T" for T in (Float32, Float64, Int64, UInt8)
    memory = T[1, 2, 3, 4, 5, 6]
    GC.@preserve memory begin
        array = array_at(T, Int(pointer(memory)), (2, 3))
        @test array == T[1 3 5; 2 4 6]
        array[2, 1] = 7
        @test memory[2] == 7
    end
end
