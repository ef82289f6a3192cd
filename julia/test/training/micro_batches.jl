using MobileNets.Training: clip_factor, decay_factors, smoothed, update!, update_rule

"Images, targets and dropout factors of a batch of 6, and its `count` micro-batches."
function batch_and_micro_batches(count)
    six, classes = example(Float64; size=(16, 16), batch=6)
    targets = smoothed((0:6) .== classes', 0.1, Float64)
    factors = Float64.(reshape(1:(6 * size(MobileNet(TINY).classifier.weight, 1)), :, 6) .% 3)
    ranges = collect(Iterators.partition(1:6, 6 ÷ count))
    parts = [(six[:, :, :, r], targets[:, r], Dict{String,Array}("dropout" => factors[:, r])) for r in ranges]
    return six, targets, Dict{String,Array}("dropout" => factors), parts
end

norms(model) = [unit.norm for unit in Models.units(model)]

@testset "a step has the mean gradient of its micro-batches, and their statistics: $count" for count in (2, 3)
    six, targets, masks, parts = batch_and_micro_batches(count)
    model, other = MobileNet(TINY; dtype=Float64), MobileNet(TINY; dtype=Float64)
    config = TrainConfig(; batch_size=6, accumulate=count, clip_norm=0.1, weight_decay=0.01)
    optimizer, workspace = setup_optimizer(config, model), Workspace()
    other_optimizer = setup_optimizer(TrainConfig(; momentum=0), other)
    for _ in 1:2
        set_state!(other, get_state(model))
        results = [loss_and_grads(other, x, y; masks) for (x, y, masks) in parts]
        for (x, y, masks) in parts
            train_step!(other, other_optimizer, x, y, 0.0; masks)
        end
        start, start_optimizer = deepcopy(model), deepcopy(optimizer)
        loss, gradients = train_step!(model, optimizer, six, targets, 0.1; masks, workspace)
        @test loss ≈ sum(first, results) / count rtol = 1e-14
        for (k, (name, gradient)) in enumerate(gradients)
            @test gradient ≈ sum(last(result)[k][2] for result in results) ./ count rtol = 1e-12
        end
        @test [n.running_var for n in norms(model)] == [n.running_var for n in norms(other)]
        @test [n.running_mean for n in norms(model)] == [n.running_mean for n in norms(other)]
        scale = clip_factor(last.(gradients), 0.1)
        update!(
            update_rule(config, 0.1, 1), start_optimizer.slots[1], start.stem.conv.weight,
            last(gradients[1]), decay_factors(config, 0.1, scale, start.stem.conv.weight),
        )
        @test model.stem.conv.weight == start.stem.conv.weight
    end
    @test optimizer.step[] == 2
end

@testset "a batch that cannot be divided equally is rejected, and the model does not change" begin
    model = MobileNet(TINY; dtype=Float64)
    optimizer = setup_optimizer(TrainConfig(; accumulate=4), model)
    six, targets, masks, _ = batch_and_micro_batches(2)
    text = "the number of images must be a multiple of 4, the optimizer's accumulate times the number of processes. " *
        "Received: 6 images"
    @test message(() -> train_step!(model, optimizer, six, targets, 0.1), DataError) == text
    invalid = copy(targets)
    invalid[1, 6] = 2
    halves = setup_optimizer(TrainConfig(; accumulate=2), model)
    @test_throws DataError train_step!(model, halves, six, invalid, 0.1; masks)
    @test get_state(model) == get_state(MobileNet(TINY; dtype=Float64)) && optimizer.step[] == 0
end

@testset "a step with micro-batches uses the memory of one, and allocates no arrays" begin
    small, classes = example(Float32; size=(32, 32), batch=32)
    function used_memory(accumulate)
        model, workspace = MobileNet(TINY), Workspace()
        optimizer = setup_optimizer(TrainConfig(; batch_size=32, accumulate), model)
        step() = train_step!(model, optimizer, small, classes, 1e-3; workspace)
        step()
        step()
        @test (@allocated step()) < accumulate * 2^20
        return Kernels.memory_size(workspace)
    end
    @test used_memory(4) < 0.4used_memory(1)
end
