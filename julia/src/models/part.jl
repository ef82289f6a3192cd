# A model cut in two: its parts are Flux layers, which can be put into a `Chain` with others.

"""
    Part

Consecutive blocks of a [`MobileNet`](@ref) as a Flux layer, made by [`MobileNets.cut`](@ref). It maps images or maps
(W, H, C, N) to maps, or to logits (classes, N) if it has the classifier, and shares the arrays of the model.

As for Flux's own layers, norms use the statistics of the batch and update the running ones inside of a gradient call,
or always after `Flux.trainmode!` and never after `Flux.testmode!`. Dropout draws new factors then.
"""
mutable struct Part{T}
    const stem::Union{Nothing,ConvNormAct{T}}
    const blocks::Vector{Block{T}}
    const head::Union{Nothing,ConvNormAct{T}}
    const classifier::Union{Nothing,Classifier{T}}
    const config::MobileNetConfig
    const kernels::Symbol
    const first_block::Int
    const is_channels_last::Bool
    masks::Union{Nothing,Dict{String,Array}}
    active::Union{Nothing,Bool}

    Part{T}(fields...) where {T} = new{T}(fields...)
end
Functors.@functor Part (stem, blocks, head, classifier)

# For Functors, which rebuilds `blocks` as a vector of another element type.
function Part(stem, blocks::Vector, head, classifier, options...)
    T = isnothing(stem) ? eltype(classifier.weight) : eltype(stem.norm.weight)
    return Part{T}(stem, blocks, head, classifier, options...)
end

Base.eltype(::Part{T}) where {T} = T
Base.show(io::IO, part::Part) = print(io, "Part(", join(part_names(part), ", "), ")")

part_names(part) = [first(block_and_role(first(group).name)) for group in part_groups(part)]

"""
    MobileNets.cut(model, blocks; channels_last=false) -> front, back

The model in two parts, which share its arrays: `front` has the stem and the first `blocks` blocks, `back` the rest, so
that `back(front(x))` is `model(x)`. `blocks` may be 0. With `channels_last`, the maps between the two are (C, W, H, N),
torch's `channels_last` layout in memory and that of the fast kernels, which then need not exchange axes.

Throws a `ConfigError` for more blocks than the model has, and for `channels_last` with the reference kernels.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> front, back = MobileNets.cut(model, 3);

julia> x = ones(Float32, 32, 32, 3, 2);

julia> size(front(x)), back(front(x)) ≈ model(x)
((8, 8, 32, 2), true)
```
"""
function cut(model::MobileNet{T}, blocks; channels_last=false) where {T}
    count = length(model.blocks)
    blocks in 0:count || throw(ConfigError("a cut must be after 0 to $count blocks. Received: $(repr(blocks))"))
    channels_last && model.kernels != :fast &&
        throw(ConfigError("channels_last requires the fast kernels. Received: kernels $(model.kernels)"))
    common = (model.config, model.kernels)
    front = Part{T}(model.stem, model.blocks[1:blocks], nothing, nothing, common..., 0, channels_last, nothing, nothing)
    back = Part{T}(
        nothing, model.blocks[(blocks + 1):end], model.head, model.classifier, common..., blocks, channels_last,
        nothing, nothing,
    )
    return front, back
end

"The units of a part in order, in tuples: the stem, each block, V2's head."
function part_groups(part::Part{T}) where {T}
    groups = Tuple{Vararg{ConvNormAct{T}}}[]
    isnothing(part.stem) || push!(groups, (part.stem,))
    append!(groups, values.(part.blocks))
    isnothing(part.head) || push!(groups, (part.head,))
    return groups
end

(part::Part)(x) = run_part(part, x, part_pass(part, x; train=something(part.active, false)))

"""
The arguments of a forward pass of a part for an input `x`, after its checks. Without masks, dropout factors are drawn
in training.
"""
function part_pass(part::Part{T}, x; train, options...) where {T}
    check_part_input(part, x, train)
    masks = checked_masks(T, part.masks, part_mask_sizes(part, x), part.config)
    if isnothing(masks)
        masks = Dict{String,Array}()
        rate = part.config.dropout
        if train && !isnothing(part.classifier) && rate > 0
            features = size(part.classifier.weight, 1)
            kept = rand(T, features, size(x, 4)) .>= rate
            masks[DROPOUT] = kept ./ T(1 - rate)
        end
    end
    return new_pass(part, AllocatingWorkspace(); train, masks, options...)
end

enters_channels_last(part) = part.is_channels_last && isnothing(part.stem)
leaves_channels_last(part) = part.is_channels_last && isnothing(part.classifier)

"Width, height, channels and images of an input."
input_size(part, x) = enters_channels_last(part) ? size(x)[[2, 3, 1, 4]] : size(x)

function check_part_input(part::Part{T}, x, train) where {T}
    groups = part_groups(part)
    conv = isempty(groups) ? nothing : first(first(groups)).conv
    channels = isnothing(conv) ? size(part.classifier.weight, 1) : size(conv.weight, 3) * conv.groups
    x isa Array{T,4} && input_size(part, x)[3] == channels && !isempty(x) || throw(DataError(
        "the input of a part must be an array of $T, not empty, with four axes and $channels channels at axis " *
        "$(enters_channels_last(part) ? 1 : 3). Received: $(array_summary(x))",
    ))
    columns, rows, _, images = input_size(part, x)
    for group in groups, (; conv) in group
        columns, rows = output_size(conv, columns), output_size(conv, rows)
        min(columns, rows) >= 1 || throw(DataError(
            "the input of a part must be large enough for maps of at least one pixel. Received: $(array_summary(x))"
        ))
        train && columns * rows * images < 2 && throw(DataError(
            "training needs at least two values per channel in every norm: a larger batch or larger maps. " *
            "Received: $(array_summary(x)), of which $(columns)x$(rows) are left",
        ))
    end
end

"Name => size of all masks of a part for an input."
function part_mask_sizes(part, x)
    columns, rows, _, images = input_size(part, x)
    sizes = Dict{String,Tuple{Vararg{Int}}}()
    for group in part_groups(part), (; name, conv, clip_value) in group
        columns, rows = output_size(conv, columns), output_size(conv, rows)
        isnothing(clip_value) || (sizes["$name.act"] = (columns, rows, size(conv.weight, 4), images))
    end
    isnothing(part.classifier) || (sizes[DROPOUT] = (size(part.classifier.weight, 1), images))
    return sizes
end

kernels_of(part::Part, workspace) = part.kernels == :fast ? FastKernels(workspace) : ReferenceKernels()

"What a part returns for a checked input; in training the running statistics are updated."
function run_part(part::Part, x, pass)
    output = part_output(part, x, pass)
    if pass.train
        units = Iterators.flatten(part_groups(part))
        update_running_statistics!(units, pass.statistics, input_size(part, x))
    end
    return output
end

function part_output(part::Part, x, pass)
    maps = enters_channels_last(part) ? x : taped_call(pass, images_to_maps, pass.kernels, x)
    for group in part_groups(part)
        maps = apply_units(group, maps, maps, pass)
    end
    isnothing(part.classifier) || return classify(part.classifier, maps, pass)
    return leaves_channels_last(part) ? maps : taped_call(pass, maps_to_images, pass.kernels, maps)
end

function ChainRulesCore.rrule(part::Part, x)
    y, back = part_pullback(part, x; train=something(part.active, true))
    function tangents(gradient)
        gradients, gradient_of_x = back(unthunk(gradient))
        return part_tangent(part, gradients), gradient_of_x
    end
    return y, tangents
end

"""
What a part returns, and a function that maps the gradient of that to the gradients of `part_parameters`, in their
order, and to that of `x`.
"""
function part_pullback(part::Part, x; train)
    tape = Any[]
    pass = part_pass(part, x; train, tape)
    y = run_part(part, x, pass)
    function back(gradient)
        size(gradient) == size(y) || throw(DataError(
            "the gradient of a part's output must have its size $(size(y)). Received: $(array_summary(gradient))"
        ))
        return part_gradients(part, tape, gradient)
    end
    return y, back
end

"The parameters of a part, in the order of the net."
function part_parameters(part::Part)
    parameters = Array[]
    for group in part_groups(part), (; conv, norm) in group
        push!(parameters, conv.weight, norm.weight, norm.bias)
    end
    isnothing(part.classifier) || push!(parameters, part.classifier.weight, part.classifier.bias)
    return parameters
end

"The gradients of `part_parameters` and of the input, for that of the output. The tape is not changed."
function part_gradients(part::Part{T}, tape, gradient) where {T}
    left = length(tape)
    function back(gradient)
        pullback = tape[left]
        left -= 1
        return pullback(gradient)[2:end]
    end
    gradients = Array[] # in reverse
    gradient = convert(Array{T}, gradient)
    if !isnothing(part.classifier)
        gradient = classifier_gradients!(gradients, back, gradient)
    elseif !leaves_channels_last(part)
        _, gradient = back(gradient)
    end
    gradient = unthunk(unit_gradients!(gradients, part_groups(part), back, gradient, AllocatingWorkspace()))
    enters_channels_last(part) || ((_, gradient) = back(gradient))
    return reverse!(gradients), gradient
end

"The gradients of `part_parameters` in the structure of the part."
function part_tangent(part::Part, gradients)
    left = Iterators.Stateful(gradients)
    unit_tangent(::Nothing) = ZeroTangent()
    function unit_tangent(unit)
        weight, scale, bias = popfirst!(left), popfirst!(left), popfirst!(left)
        conv = Tangent{typeof(unit.conv)}(; weight)
        return Tangent{typeof(unit)}(; conv, norm=Tangent{typeof(unit.norm)}(; weight=scale, bias))
    end
    stem = unit_tangent(part.stem)
    blocks = Any[Tangent{typeof(block)}(; map(unit_tangent, block)...) for block in part.blocks]
    head = unit_tangent(part.head)
    classifier = isnothing(part.classifier) ? ZeroTangent() :
        Tangent{typeof(part.classifier)}(; weight=popfirst!(left), bias=popfirst!(left))
    return Tangent{typeof(part)}(; stem, blocks, head, classifier)
end

"Call `hook(name, array)` with every activation of a part; what the part returns. Its running statistics do not change."
function part_activations(part, x; train, masks, hook)
    check_part_input(part, x, train)
    masks = checked_masks(eltype(part), masks, part_mask_sizes(part, x), part.config)
    names = Set(activation_names(part.config))
    pass = new_pass(
        part, AllocatingWorkspace(); train, masks, hook=(name, array) -> name in names && hook(name, array)
    )
    output = part_output(part, x, pass)
    part.config.softmax && !isnothing(part.classifier) && pass.hook("probabilities", softmax(output))
    return output
end
