using LinearAlgebra: norm
using MobileNets.Kernels: AllocatingWorkspace, ClampActivation, add_pixels!, affine, batch_statistics, mean_and_var,
    new_moments, norm_gradients!, normalise!, pixels

"Mean and variance of maps (C, W, H, N), with their pixels in `chunks` ranges."
function moments_of(maps::Array{T,4}, chunks) where {T}
    matrix = pixels(maps)
    count = size(matrix, 2)
    chunk_moments = map(1:chunks) do chunk
        moments = new_moments(AllocatingWorkspace(), T, size(maps, 1))
        range = ((chunk - 1) * count ÷ chunks + 1):(chunk * count ÷ chunks)
        foreach(tile -> add_pixels!(moments, matrix, tile), Iterators.partition(range, 50))
        moments
    end
    return mean_and_var(chunk_moments, AllocatingWorkspace())
end

@testset "mean and biased variance, for any number of chunks" begin
    @test moments_of(reshape([1.0, 3.0], 1, 1, 2, 1), 1) == ([2.0], [1.0])
    @test moments_of(fill(7.3f0, 3, 4, 5, 2), 2) == (fill(Float64(7.3f0), 3), zeros(3))
    maps = randn(StableRNG(1), 5, 13, 11, 3) .* 2 .+ 30
    mean, var = batch_statistics(permutedims(maps, (2, 3, 1, 4)))
    for chunks in 1:3
        chunk_mean, chunk_var = moments_of(maps, chunks)
        @test chunk_mean ≈ mean rtol = 1e-15
        @test chunk_var ≈ var rtol = 1e-14
    end
end

@testset "Float32 keeps all digits, for a mean of $level standard deviations" for level in (0, 3, 1000)
    maps = randn(StableRNG(2), Float32, 4, 32, 32, 64) .+ Float32(level)
    wide = Float64.(maps)
    (mean, var), (exact, exact_var) = moments_of(maps, 2), moments_of(wide, 2)
    @test maximum(abs, mean .- exact) < 1e-8 # the standard deviation is 1
    @test var ≈ exact_var rtol = 1e-7
    function normalised(x, T, mean, var)
        coefficients = affine(ones(T, 4), zeros(T, 4), mean, var, 1e-5, AllocatingWorkspace())
        return normalise!(similar(x), x, coefficients, ClampActivation{T}(nothing), 1:(2^16))
    end
    narrow_maps, wide_maps = normalised(maps, Float32, mean, var), normalised(wide, Float64, exact, exact_var)
    @test relative_error(narrow_maps, wide_maps) < 6e-8
end

"The gradients of a norm's weight and of its input `x` (C, W, H, N), for the gradient `dy` of its output, in Float64."
function gradients_of_norm(x::Array{T,4}, dy) where {T}
    channels, workspace = size(x, 1), AllocatingWorkspace()
    mean, var = moments_of(x, 2)
    coefficients = affine(ones(T, channels), zeros(T, channels), mean, var, 1e-5, workspace)
    dweight, dbias = zeros(T, channels), zeros(T, channels)
    gradient = norm_gradients!(
        dweight, dbias, dy, x, ClampActivation{T}(nothing), coefficients, mean, var, 1e-5, true, workspace
    )
    return Float64.(dweight), [Float64(gradient(mod1(k, channels), k)) for k in eachindex(x)]
end

@testset "gradients in Float32 keep all digits, for a mean of $level standard deviations" for level in (0, 3, 30)
    rng = StableRNG(3)
    maps = randn(rng, Float32, 4, 32, 32, 16) .+ Float32(level)
    dy = randn(rng, Float32, size(maps)) .+ 1 # not of mean 0, so that an error of the center has a large factor
    narrow, wide = gradients_of_norm(maps, dy), gradients_of_norm(Float64.(maps), Float64.(dy))
    terms = sum(abs, dy .* (maps .- level); dims=(2, 3, 4)) # the sums of magnitudes that the weight's gradient adds up
    @test norm(narrow[1] - wide[1]) / norm(terms) < eps(Float32) / 4
    @test relative_error(narrow[2], wide[2]) < eps(Float32)
end
