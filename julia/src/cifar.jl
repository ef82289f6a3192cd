const RECORD_BYTES = 2 + 3 * 32 * 32
const FINE_CLASSES, COARSE_CLASSES = 100, 20

"""
    read_cifar100(folder, split=:train) -> (; images, labels, coarse)

One split, `:train` or `:test`, of a folder in the binary layout of CIFAR-100 (`train.bin`, `test.bin`):
`images` `UInt8` (32, 32, 3, N), `labels` and `coarse` `Vector{Int}`, the data set's own numbers from 0.

A record is the coarse label, the fine label and 1024 bytes each of red, green and blue, row by row
(https://www.cs.toronto.edu/~kriz/cifar.html). Throws a `DataError` for a file that is missing,
truncated, or has a label out of range.
"""
function read_cifar100(folder, split::Symbol=:train)
    split in (:train, :test) ||
        throw(DataError("split must be :train or :test. Received: $(repr(split))"))
    path = joinpath(folder, "$split.bin")
    isfile(path) || throw(DataError("$path is missing: it is a file of CIFAR-100's binary layout"))
    size = filesize(path)
    size > 0 && size % RECORD_BYTES == 0 || throw(DataError(
        "$path: $size bytes; the size must be a positive multiple of $RECORD_BYTES"
    ))
    records = reshape(read(path), RECORD_BYTES, :)
    coarse = record_labels(path, records, 1, "coarse", COARSE_CLASSES)
    labels = record_labels(path, records, 2, "fine", FINE_CLASSES)
    images = reshape(records[3:end, :], 32, 32, 3, :)
    return (; images, labels, coarse)
end

function record_labels(path, records, row, kind, classes)
    labels = Int.(records[row, :])
    wrong = findfirst(>=(classes), labels)
    isnothing(wrong) || throw(DataError(
        "$path: $kind label $(labels[wrong]) at byte $((wrong - 1) * RECORD_BYTES + row - 1); " *
        "it must be below $classes",
    ))
    return labels
end
