# The fast kernels hold maps as (C, W, H, N): a pixel's channels lie side by side, which makes a 1x1
# convolution of a whole batch one product of matrices. Everybody else sees (W, H, C, N).

"Maps (C, W, H, N) as a matrix (C, W*H*N) of pixels."
pixels(maps::Array{T,4}) where {T} = reshape(maps, size(maps, 1), :)

"Maps (W, H, C, N) as (C, W, H, N)."
function channels_first(maps::Array{T,4}, room=Fresh()) where {T}
    width, height, channels, images = size(maps)
    return transpose_images!(array(room, T, channels, width, height, images), maps, width * height)
end

"Maps (C, W, H, N) as (W, H, C, N), always a new array."
function channels_last(maps::Array{T,4}) where {T}
    channels, width, height, images = size(maps)
    return transpose_images!(Array{T}(undef, width, height, channels, images), maps, channels)
end

"Each image of `from`, a matrix of `rows`, transposed."
function transpose_images!(to, from, rows)
    shape = (rows, :, size(from, 4))
    source = reshape(from, shape)
    target = reshape(to, size(source, 2), rows, size(from, 4))
    parallel(size(from, 4)) do _, images
        for image in images
            @inbounds for i in axes(source, 1)
                @simd ivdep for j in axes(source, 2)
                    target[j, i, image] = source[i, j, image]
                end
            end
        end
    end
    return to
end
