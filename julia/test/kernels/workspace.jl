using MobileNets: Fresh, Pool, array, channels_first, channels_last, gradient_like, release!, reset!

@testset "an array is lent to one at a time, and lent again when it is given back" begin
    room = Workspace()
    a, b = array(room, Float32, 3, 4), array(room, Float32, 3, 4)
    @test a !== b && a isa Matrix{Float32} && size(a) == (3, 4)
    release!(room, b)
    @test array(room, Float64, 3, 4) isa Matrix{Float64}
    @test array(room, Float32, 3, 4) === b
    release!(room, zeros(Float32, 3, 4)) # not the room's own
    c = array(room, Float32, 3, 4)
    @test c !== a && c !== b
    reset!(room, ())
    @test Set(objectid(array(room, Float32, 3, 4)) for _ in 1:3) == Set(objectid.((a, b, c)))
    @test occursin("Workspace(", sprint(show, room))
end

@testset "a pool's memory serves any shape that it is large enough for, and one array at a time" begin
    pool = Pool()
    large, small = array(pool, Float32, 8, 8), array(pool, Float64, 2)
    @test large isa Matrix{Float32} && size(large) == (8, 8)
    @test pointer(large) != pointer(small)
    foreach(unused -> release!(pool, unused), (large, small, zeros(Float32, 4)))
    @test pointer(array(pool, UInt8, 16)) == Ptr{UInt8}(pointer(small)) # the smallest that is large enough
    other = array(pool, Float64, 4, 4, 2)
    @test pointer(other) == Ptr{Float64}(pointer(large)) && size(other) == (4, 4, 2)
    @test !(pointer(array(pool, Float32, 1)) in (pointer(large), Ptr{Float32}(pointer(small))))
    reset!(pool)
    @test isempty(pool.lent) && issorted(pool.free; by=length) && length(pool.free) == 3
end

@testset "a pool keeps no more arrays than there were at once, whatever their sizes" begin
    pool = Pool()
    for side in (10:10:200..., 5:10:195...)
        reset!(pool)
        large, small = array(pool, Float32, side, side), array(pool, Float32, side)
    end
    @test length(pool.free) + length(pool.lent) == 2
    @test sum(length, values(pool.lent)) <= 2 * 4 * 200^2
end

@testset "gradients are the parameter's own" begin
    room, p, q = Workspace(), ones(3), ones(3)
    @test gradient_like(room, p) === gradient_like(room, p) !== gradient_like(room, q)
    @test gradient_like(Fresh(), p) !== gradient_like(Fresh(), p)
end

@testset "a step with a workspace is the step without, and takes no new arrays" begin
    x, labels = example(Float32; size=(16, 16), batch=8)
    config = TrainConfig(; optimizer="adam")
    runs = map((nothing, Workspace())) do workspace
        model = build(TINY)
        optimizer = setup(config, model)
        results = map(1:3) do _
            loss, gradients = train_step!(model, optimizer, x, labels, 1e-3; workspace)
            loss, [name => copy(gradient) for (name, gradient) in gradients]
        end
        step() = train_step!(model, optimizer, x, labels, 1e-3; workspace)
        step()
        results, get_state(model), @allocated step()
    end
    @test runs[1][1] == runs[2][1] && runs[1][2] == runs[2][2]
    @test runs[2][3] < runs[1][3] / 2 && runs[2][3] < 2^20
end

@testset "a workspace serves batches of any size" begin
    model, workspace = build(TINY; dtype=Float64), Workspace()
    optimizer = setup(TrainConfig(; momentum=0), model)
    for batch in (4, 2, 4)
        x, labels = example(Float64; batch)
        wanted = loss_and_grads(model, x, labels)
        @test train_step!(model, optimizer, x, labels, 0.01; workspace) == wanted
    end
end

@testset "a workspace keeps the arrays of one size of images" begin
    model, workspace, last = build(TINY), Workspace(), Workspace()
    for side in 32:2:60
        predict(model, first(example(Float32; size=(side, side))); workspace)
    end
    predict(model, first(example(Float32; size=(60, 60))); workspace=last)
    @test MobileNets.bytes(workspace) == MobileNets.bytes(last)
end

@testset "channels first and back: $T" for T in (Float32, UInt8)
    maps = rand(StableRNG(1), T, 5, 4, 3, 2)
    @test channels_first(maps) == permutedims(maps, (3, 1, 2, 4))
    @test channels_last(channels_first(maps)) == maps
end
