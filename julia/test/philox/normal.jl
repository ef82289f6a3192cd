using MobileNets.Philox: STREAM, logarithm, normal64, quantile, raw_words

@testset "the quantile function is the inverse of the normal distribution function" begin
    # mpmath: sqrt(2) * erfinv(2u - 1), to 30 digits
    quantiles = (
        1e-16 => -8.222082216130435, 1e-9 => -5.9978070150076865, 0.01 => -2.3263478740408408,
        0.0751 => -1.43882539275254, 0.3 => -0.5244005127080407, 0.5 => 0.0,
    )
    for (u, x) in quantiles
        @test quantile(u) ≈ x rtol = 4e-15
        u == 1e-16 || @test quantile(1 - u) ≈ -x rtol = 1e-7
    end
    @test normal64(UInt64(0)) == -normal64(typemax(UInt64))
    @test 8.2 < normal64(typemax(UInt64)) < 8.3
    @test all(logarithm(x) ≈ log(x) for x in exp10.(-300:7:300))
end

@testset "samples have the moments of the normal distribution" begin
    samples = normal64.(raw_words(0, STREAM.PROBE, 0, 0, 100_000))
    for (power, moment) in ((1, 0), (2, 1), (3, 0), (4, 3))
        @test sum(samples .^ power) / length(samples) ≈ moment atol = 0.1
    end
    deciles = sort(samples)[ceil.(Int, (0.1:0.1:0.9) .* length(samples))]
    @test deciles ≈ quantile.(0.1:0.1:0.9) atol = 0.02
end
