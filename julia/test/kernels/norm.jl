using MobileNets: Clamped, Fresh, add_pixels!, affine, mean_and_var, new_moments, normalise!, pixels

"Mean and variance of maps (C, W, H, N) whose pixels are taken in `parts` ranges."
function moments_of(maps::Array{T,4}, parts) where {T}
    matrix = pixels(maps)
    count = size(matrix, 2)
    found = map(1:parts) do part
        moments = new_moments(Fresh(), T, size(maps, 1))
        range = ((part - 1) * count ÷ parts + 1):(part * count ÷ parts)
        foreach(some -> add_pixels!(moments, matrix, some), Iterators.partition(range, 50))
        moments
    end
    return mean_and_var(found, Fresh())
end

@testset "mean and biased variance, whatever the parts" begin
    @test moments_of(reshape([1.0, 3.0], 1, 1, 2, 1), 1) == ([2.0], [1.0])
    @test moments_of(fill(7.3f0, 3, 4, 5, 2), 2) == (fill(Float64(7.3f0), 3), zeros(3))
    maps = randn(StableRNG(1), 5, 13, 11, 3) .* 2 .+ 30
    mean, var = MobileNets.batch_statistics(permutedims(maps, (2, 3, 1, 4)))
    for parts in 1:3
        found = moments_of(maps, parts)
        @test found[1] ≈ mean rtol = 1e-15
        @test found[2] ≈ var rtol = 1e-14
    end
end

@testset "Float32 keeps all its digits, the mean being $level deviations" for level in (0, 3, 1000)
    maps = randn(StableRNG(2), Float32, 4, 32, 32, 64) .+ Float32(level)
    wide = Float64.(maps)
    (mean, var), (exact, spread) = moments_of(maps, 2), moments_of(wide, 2)
    @test maximum(abs, mean .- exact) < 1e-8 # of deviations of 1
    @test var ≈ spread rtol = 1e-7
    function maps_of(x, T, mean, var)
        coefficients = affine(ones(T, 4), zeros(T, 4), mean, var, 1e-5, Fresh())
        return normalise!(similar(x), x, coefficients, Clamped{T}(nothing), 1:(2^16))
    end
    found, wanted = maps_of(maps, Float32, mean, var), maps_of(wide, Float64, exact, spread)
    @test sqrt(sum(abs2, found - wanted) / sum(abs2, wanted)) < 6e-8
end
