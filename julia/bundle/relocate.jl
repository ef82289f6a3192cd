# Tells compiled packages that they and their sources have been moved:
#
#     julia relocate.jl FOLDER OLD NEW [OLD NEW]...
#
# The cache files (.ji) of Julia 1.10 in the bundle FOLDER name their sources by absolute paths; those below OLD become
# paths below NEW. Later versions of Julia write paths relative to the depot, and nothing is done.

const COMPILED = ("depot/compiled", "julia/share/julia/compiled")

"Copy a string of a cache file from `input` to `output`: its length and its bytes. Return whether there was one."
function copy_string(output, input, replace_path=identity)
    text = replace_path(String(read(input, read(input, Int32))))
    write(output, Int32(sizeof(text)), text)
    return !isempty(text)
end

"""
The list of sources at the position of `input`, with other paths. It is that of `parse_cache_header` in
base/loading.jl of Julia 1.10: a string, 8 bytes of time, the number of a module, and its submodules if it is not 0.
"""
function replaced_sources(input, replace_path)
    output = IOBuffer()
    while copy_string(output, input, replace_path)
        write(output, read(input, 8))
        number = read(input, Int32)
        write(output, number)
        while number != 0 && copy_string(output, input)
        end
    end
    return take!(output)
end

"The bytes of a cache file with other paths of its sources."
function replaced(path, replace_path)
    bytes = read(path)
    input = IOBuffer(bytes)
    seek(input, open(io -> (iszero(Base.isvalid_cache_header(io)) && error("no cache file: $path"); position(io)), path))
    skip(input, 1) # flags
    while (size = read(input, Int32)) != 0
        skip(input, size + 24) # the name of a module, its UUID and its build
    end
    head = position(input)
    total = read(input, Int64) # bytes from here to the position of the text of the sources, with it
    sources = replaced_sources(input, replace_path)
    rest, last = position(input), head + 8 + total
    growth = length(sources) - (rest - head - 8)
    text_position = only(reinterpret(Int64, bytes[(last - 7):last]))
    output = IOBuffer()
    write(output, view(bytes, 1:head), total + growth, sources, view(bytes, (rest + 1):(last - 8)))
    write(output, iszero(text_position) ? text_position : text_position + growth)
    write(output, view(bytes, (last + 1):(length(bytes) - 4)))
    content = take!(output)
    return append!(content, reinterpret(UInt8, [Base._crc32c(content)]))
end

"The path below one of the new folders if it is below the old one."
function moved(path, folders)
    for (old, new) in folders
        startswith(path, old * "/") && return new * path[(sizeof(old) + 1):end]
    end
    return path
end

function main(folder, places...)
    VERSION < v"1.11" || return nothing
    folders = Iterators.partition(places, 2)
    replace_path(path) = moved(path, folders)
    for compiled in joinpath.(folder, COMPILED), (parent, _, names) in (isdir(compiled) ? walkdir(compiled) : ())
        for path in joinpath.(parent, filter(endswith(".ji"), names))
            write(path, replaced(path, replace_path))
        end
    end
end

main(ARGS...)
