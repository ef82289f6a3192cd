# Raw words of Philox4x64-10, J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: the bits
# of NumPy's `Philox(key=, counter=).random_raw`. The samplers of libraries are not used, because their bits
# change between releases.

const PHILOX_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
const PHILOX_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
const PHILOX_ROUNDS = 10

"Purpose of the words => the most significant counter word."
const STREAM =
    (INIT=0, ORDER=1, CROP=2, MASK=3, SYNTHETIC=4, PROBE=5, AUGMENT=6, MIXUP=7, SPLIT=8)

"""
    raw_words(seed, stream, epoch, index, count)

The first `count` words (`UInt64`) of a stream; `stream` is a value of `STREAM`.

The key is (seed, 0); the counter words, least significant first, are (block, index, epoch, stream), and the
first four words are those of block 1. Throws a `ConfigError` for a negative argument and an unknown stream.
"""
function raw_words(seed::Integer, stream::Integer, epoch::Integer, index::Integer, count::Integer)
    checked_word("count", count)
    words = Vector{UInt64}(undef, 4 * cld(count, 4))
    four_words = word_blocks(seed, stream, epoch, index)
    for block in 1:cld(count, 4)
        words[(4block - 3):(4block)] .= four_words(block)
    end
    return resize!(words, count)
end

"The function from the number of a block, counted from 1, to its four words, for a stream of `raw_words`."
function word_blocks(seed, stream, epoch, index)
    stream in values(STREAM) ||
        throw(ConfigError("stream must be one of $(join(keys(STREAM), ", ")). Received: $stream"))
    key = (checked_word("seed", seed), UInt64(0))
    place = (checked_word("index", index), checked_word("epoch", epoch), UInt64(stream))
    return block -> philox_block(key, (UInt64(block), place...))
end

function checked_word(name, value)
    0 <= value <= typemax(UInt64) && return UInt64(value)
    throw(ConfigError("$name must be an integer in [0, 2^64). Received: $value"))
end

"The four words of one counter."
function philox_block(key::NTuple{2,UInt64}, counter::NTuple{4,UInt64})
    a, b, c, d = counter
    for _ in 1:PHILOX_ROUNDS
        first = widemul(PHILOX_MULTIPLIERS[1], a)
        second = widemul(PHILOX_MULTIPLIERS[2], c)
        a, b = high(second) ⊻ b ⊻ key[1], second % UInt64
        c, d = high(first) ⊻ d ⊻ key[2], first % UInt64
        key = key .+ PHILOX_WEYL
    end
    return (a, b, c, d)
end

high(product::UInt128) = (product >> 64) % UInt64

"A `Float64` in [0, 1) from the top 53 bits of a word."
uniform64(word::UInt64) = (word >> 11) * 2.0^-53

"An integer in [0, n), for n in [1, 2^32), by multiply-shift."
function bounded(word::UInt64, n::Integer)
    1 <= n < 2^32 || throw(ConfigError("n must be an integer in [1, 2^32). Received: $n"))
    return Int(((word >> 32) * UInt64(n)) >> 32)
end

"A permutation of 0 ... length(words)-1 by Fisher-Yates; the first word is not used."
function permutation(words::Vector{UInt64})
    order = collect(0:(length(words) - 1))
    for last in length(words):-1:2
        partner = bounded(words[last], last) + 1
        order[last], order[partner] = order[partner], order[last]
    end
    return order
end
