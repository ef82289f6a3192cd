"The labels at the start of each record, one byte each, and their numbers of classes."
const CIFAR_LABELS = (
    cifar100=(("coarse label", 20), ("fine label", 100)),
    cifar10=(("label", 10),),
)

"""
    read_cifar100(folder, split=:train) -> (; images, labels, coarse)

A split, `:train` or `:test`, of the binary version of CIFAR-100, from the files `train.bin` and `test.bin` of a folder.
`images` is `UInt8` (32, 32, 3, N); `labels` (fine) and `coarse` are `Vector{Int}`, counted from 0.

A record is the coarse label, the fine label, and 1024 bytes each of red, green and blue, row by row
(https://www.cs.toronto.edu/~kriz/cifar.html). Throws a `DataError` for another split, and for a file that is
missing, truncated, or has a label out of range.

```julia
images, labels = read_cifar100("cifar-100-binary")
```
"""
function read_cifar100(folder, split=:train)
    split = checked_split(split)
    images, (coarse, labels) = read_records(joinpath(folder, "$split.bin"), :cifar100)
    return (; images, labels, coarse)
end

"""
    read_cifar10(folder, split=:train) -> (; images, labels)

A split, `:train` or `:test`, of the binary version of CIFAR-10, from the files `data_batch_1.bin` to
`data_batch_5.bin`, in this order, and `test_batch.bin` of a folder. As [`read_cifar100`](@ref), with one label.
"""
function read_cifar10(folder, split=:train)
    split = checked_split(split)
    names = split == "train" ? ["data_batch_$k.bin" for k in 1:5] : ["test_batch.bin"]
    batches = [read_records(joinpath(folder, name), :cifar10) for name in names]
    return (; images=cat(first.(batches)...; dims=4), labels=reduce(vcat, only.(last.(batches))))
end

function checked_split(split)
    split in (:train, :test, "train", "test") && return string(split)
    throw(DataError("split must be :train or :test. Received: $(repr(split))"))
end

"The images of a file of records, and a vector of its labels of each kind."
function read_records(path, data)
    kinds = CIFAR_LABELS[data]
    name = data == :cifar100 ? "CIFAR-100" : "CIFAR-10"
    isfile(path) || throw(DataError("$path is missing: it is a file of the binary version of $name"))
    bytes, size = length(kinds) + 3 * 32 * 32, filesize(path)
    size > 0 && size % bytes == 0 ||
        throw(DataError("$path: $size bytes; the size must be a positive multiple of $bytes"))
    records = reshape(read(path), bytes, :)
    labels = [record_labels(path, records, row, kinds[row]...) for row in eachindex(kinds)]
    return reshape(records[(length(kinds) + 1):end, :], 32, 32, 3, :), labels
end

function record_labels(path, records, row, kind, classes)
    labels = Int.(records[row, :])
    position = findfirst(>=(classes), labels)
    isnothing(position) || throw(DataError(
        "$path: $kind $(labels[position]) at byte $((position - 1) * size(records, 1) + row - 1); " *
        "it must be below $classes",
    ))
    return labels
end
