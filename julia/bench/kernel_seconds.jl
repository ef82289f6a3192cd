# The time of each kind of kernel in calls of MobileNets.jl, from samples of Julia's profiler:
#
#     julia --project=PROJECT --threads=2 kernel_seconds.jl train '{"family": "v1", ...}' 64
#
# prints "kind seconds" for a run, of which each thread has its part, and "total seconds".

using MobileNets
using MobileNets: Kernels
using Profile: Profile
using Random: Xoshiro

const SOURCES = joinpath(pkgdir(MobileNets), "src")

"File in src/ => the kind of its kernels. The names of kinds are those of pymobilenet.bench.roofline."
const KINDS = Dict(
    "pointwise.jl" => "pointwise", "outer_products.jl" => "pointwise", "depthwise.jl" => "depthwise",
    "packed_taps.jl" => "depthwise", "dense.jl" => "stem", "norm.jl" => "norm", "head.jl" => "head", "loss.jl" => "head",
    "optimizers.jl" => "optimizer",
)

"Kind of convolution => the kind of its kernel in a frozen model."
const FROZEN_KINDS =
    Dict(Kernels.PointwiseConv => "pointwise", Kernels.DenseConv => "stem", Kernels.DepthwiseConv => "depthwise")

const SECONDS_PER_SAMPLE = 0.0005

const WARM_UP, RUNS, SAMPLED_SECONDS = 3, 7, 2.0

"A training step of Adam, or a call of a frozen model, with random images."
function new_job(name, config, batch_size)
    rng, model = Xoshiro(0), MobileNet(config)
    images = randn(rng, Float32, config.resolution, config.resolution, config.in_channels, batch_size)
    if name == "predict"
        frozen = MobileNets.freeze(model)
        return () -> frozen(images)
    end
    labels = rand(rng, 0:(config.num_classes - 1), batch_size)
    optimizer, workspace = setup_optimizer(TrainConfig(; optimizer=:adam, rate=1e-3), model), Workspace()
    return () -> train_step!(model, optimizer, images, labels, 1e-3; workspace)
end

"Call `run` some times."
repeat_call(run, count) = foreach(_ -> run(), 1:count)

"Kind => share of the time of some calls on all threads. What is left of 1 is waiting and what is in no kernel."
function shares(run, count)
    Profile.init(; n=10^7, delay=SECONDS_PER_SAMPLE)
    Profile.clear()
    Profile.@profile repeat_call(run, count)
    data = Profile.fetch(; include_meta=true)
    frames = Profile.getdict(data)
    samples, busy, first_address = Dict{UInt64,Int}(), Dict{String,Int}(), 1
    for position in eachindex(data)
        Profile.is_block_end(data, position) || continue
        thread = data[position - Profile.META_OFFSET_THREADID]
        samples[thread] = get(samples, thread, 0) + 1
        kind = kind_of(Iterators.flatten(frames[a] for a in data[first_address:(position - Profile.nmeta - 2)]))
        isnothing(kind) || (busy[kind] = get(busy, kind, 0) + 1)
        first_address = position + 1
    end
    total = maximum(values(samples)) * Threads.nthreads()
    return Dict(kind => count / total for (kind, count) in busy)
end

"The kind of the innermost kernel among stack frames, or nothing."
function kind_of(frames)
    for frame in frames
        folder, file = splitdir(string(frame.file))
        startswith(folder, SOURCES) || continue
        frame.func === :residual_add && return "norm" # in head.jl
        file == "frozen_conv.jl" && return frozen_kind(frame.line)
        haskey(KINDS, file) && return KINDS[file]
    end
    return nothing
end

"The kind of the method of `convolve_frozen!` that has a line of its file."
function frozen_kind(line)
    starts = [(method.line, method) for method in methods(Kernels.convolve_frozen!) if method.line <= line]
    isempty(starts) && return nothing
    arguments = Base.unwrap_unionall(last(argmax(first, starts)).sig).parameters
    return FROZEN_KINDS[only(filter(in(keys(FROZEN_KINDS)), collect(Any, arguments)))]
end

function main(name, config, batch_size)
    run = new_job(name, from_json(MobileNetConfig, config), parse(Int, batch_size))
    repeat_call(run, WARM_UP)
    seconds = (@elapsed repeat_call(run, RUNS)) / RUNS
    parts = shares(run, max(RUNS, ceil(Int, SAMPLED_SECONDS / seconds)))
    println("total ", seconds)
    foreach(((kind, share),) -> println(kind, " ", seconds * share), parts)
end

main(ARGS...)
