using MobileNets.Kernels: AllocatingWorkspace, PooledWorkspace, allocate, from_channels_last, gradient_array,
    memory_size, release!, reset!, to_channels_last

@testset "an array has one user at a time, and is reused after its release" begin
    workspace = Workspace()
    a, b = allocate(workspace, Float32, 3, 4), allocate(workspace, Float32, 3, 4)
    @test a !== b && a isa Matrix{Float32} && size(a) == (3, 4)
    release!(workspace, b)
    @test allocate(workspace, Float64, 3, 4) isa Matrix{Float64}
    @test allocate(workspace, Float32, 3, 4) === b
    release!(workspace, zeros(Float32, 3, 4)) # not from the workspace
    c = allocate(workspace, Float32, 3, 4)
    @test c !== a && c !== b
    reset!(workspace, ())
    @test Set(objectid(allocate(workspace, Float32, 3, 4)) for _ in 1:3) == Set(objectid.((a, b, c)))
    @test occursin("Workspace(", sprint(show, workspace))
end

@testset "pooled memory is used for any shape that fits, and for one array at a time" begin
    pool = PooledWorkspace()
    large, small = allocate(pool, Float32, 8, 8), allocate(pool, Float64, 2)
    @test large isa Matrix{Float32} && size(large) == (8, 8)
    @test pointer(large) != pointer(small)
    foreach(array -> release!(pool, array), (large, small, zeros(Float32, 4)))
    @test pointer(allocate(pool, UInt8, 16)) == Ptr{UInt8}(pointer(small)) # the smallest that fits
    other = allocate(pool, Float64, 4, 4, 2)
    @test pointer(other) == Ptr{Float64}(pointer(large)) && size(other) == (4, 4, 2)
    @test !(pointer(allocate(pool, Float32, 1)) in (pointer(large), Ptr{Float32}(pointer(small))))
    reset!(pool)
    @test isempty(pool.in_use) && issorted(pool.free; by=length) && length(pool.free) == 3
end

@testset "a pool keeps no more arrays than were in use at once, whatever their sizes" begin
    pool = PooledWorkspace()
    for side in (10:10:200..., 5:10:195...)
        reset!(pool)
        large, small = allocate(pool, Float32, side, side), allocate(pool, Float32, side)
    end
    @test length(pool.free) + length(pool.in_use) == 2
    @test sum(length, values(pool.in_use)) <= 2 * 4 * 200^2
end

@testset "each parameter has its own gradient array" begin
    workspace, p, q = Workspace(), ones(3), ones(3)
    @test gradient_array(workspace, p) === gradient_array(workspace, p) !== gradient_array(workspace, q)
    @test gradient_array(AllocatingWorkspace(), p) !== gradient_array(AllocatingWorkspace(), p)
end

@testset "a step with a workspace has the results of one without, and allocates no arrays" begin
    x, labels = example(Float32; size=(16, 16), batch=8)
    config = TrainConfig(; optimizer=:adam)
    runs = map((nothing, Workspace())) do workspace
        model = MobileNet(TINY)
        optimizer = setup_optimizer(config, model)
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

@testset "a workspace can be used for batches of any size" begin
    model, workspace = MobileNet(TINY; dtype=Float64), Workspace()
    optimizer = setup_optimizer(TrainConfig(; momentum=0), model)
    for batch in (4, 2, 4)
        x, labels = example(Float64; batch)
        expected = loss_and_grads(model, x, labels)
        @test train_step!(model, optimizer, x, labels, 0.01; workspace) == expected
    end
end

@testset "a workspace keeps arrays for one image size" begin
    model, workspace, last = MobileNet(TINY), Workspace(), Workspace()
    for side in 32:2:60
        predict(model, first(example(Float32; size=(side, side))); workspace)
    end
    predict(model, first(example(Float32; size=(60, 60))); workspace=last)
    @test memory_size(workspace) == memory_size(last)
end

@testset "channels last and back: $T" for T in (Float32, UInt8)
    maps = rand(StableRNG(1), T, 5, 4, 3, 2)
    @test to_channels_last(maps) == permutedims(maps, (3, 1, 2, 4))
    @test from_channels_last(to_channels_last(maps)) == maps
end
