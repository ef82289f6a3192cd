"What a record of each data set begins with: its labels, a byte each, and how many there are of each."
const CIFAR_LABELS = (
    cifar100=(("coarse label", 20), ("fine label", 100)),
    cifar10=(("label", 10),),
)

"""
    read_cifar100(folder, split=:train) -> (; images, labels, coarse)

One split, `:train` or `:test`, of a folder in the binary layout of CIFAR-100 (`train.bin`, `test.bin`):
`images` `UInt8` (32, 32, 3, N), `labels` and `coarse` `Vector{Int}`, the data set's own numbers from 0.

A record is the coarse label, the fine label and 1024 bytes each of red, green and blue, row by row
(https://www.cs.toronto.edu/~kriz/cifar.html). Throws a `DataError` for a file that is missing,
truncated, or has a label out of range.
"""
function read_cifar100(folder, split::Symbol=:train)
    checked_split(split)
    images, (coarse, labels) = read_records(joinpath(folder, "$split.bin"), :cifar100)
    return (; images, labels, coarse)
end

"""
    read_cifar10(folder, split=:train) -> (; images, labels)

One split of a folder in the binary layout of CIFAR-10 (`data_batch_1.bin` to `data_batch_5.bin`, in this
order, and `test_batch.bin`), as [`read_cifar100`](@ref); a record has one label.
"""
function read_cifar10(folder, split::Symbol=:train)
    checked_split(split)
    names = split == :train ? ["data_batch_$k.bin" for k in 1:5] : ["test_batch.bin"]
    files = [read_records(joinpath(folder, name), :cifar10) for name in names]
    return (; images=cat(first.(files)...; dims=4), labels=reduce(vcat, only.(last.(files))))
end

function checked_split(split)
    split in (:train, :test) ||
        throw(DataError("split must be :train or :test. Received: $(repr(split))"))
end

"The images of a file of records, and its labels of each kind."
function read_records(path, data)
    kinds = CIFAR_LABELS[data]
    name = data == :cifar100 ? "CIFAR-100" : "CIFAR-10"
    isfile(path) || throw(DataError("$path is missing: it is a file of $name's binary layout"))
    bytes, size = length(kinds) + 3 * 32 * 32, filesize(path)
    size > 0 && size % bytes == 0 ||
        throw(DataError("$path: $size bytes; the size must be a positive multiple of $bytes"))
    records = reshape(read(path), bytes, :)
    labels = [record_labels(path, records, row, kinds[row]...) for row in eachindex(kinds)]
    return reshape(records[(length(kinds) + 1):end, :], 32, 32, 3, :), labels
end

function record_labels(path, records, row, kind, classes)
    labels = Int.(records[row, :])
    wrong = findfirst(>=(classes), labels)
    isnothing(wrong) || throw(DataError(
        "$path: $kind $(labels[wrong]) at byte $((wrong - 1) * size(records, 1) + row - 1); " *
        "it must be below $classes",
    ))
    return labels
end
