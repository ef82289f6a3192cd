using MobileNets.Kernels: ClampActivation, MaskedActivation, activate, activate_maps, activation_for, gradient_mask,
    passes_gradient

x = [-1.0, 0.0, 2.0, 6.0, 7.0]
values_of(activation) = [activate(activation, x[k], k) for k in eachindex(x)]
derivatives_of(activation) = [passes_gradient(activation, x[k], k) for k in eachindex(x)]

@testset "the derivative is 0 at both kinks" begin
    @test values_of(ClampActivation{Float64}(6.0)) == [0, 0, 2, 6, 6]
    @test derivatives_of(ClampActivation{Float64}(6.0)) == [0, 0, 1, 0, 0]
    @test values_of(ClampActivation{Float64}(Inf)) == [0, 0, 2, 6, 7]
    @test derivatives_of(ClampActivation{Float64}(Inf)) == [0, 0, 1, 1, 1]
    linear = ClampActivation{Float64}(nothing)
    @test values_of(linear) == x && all(derivatives_of(linear))
end

@testset "a mask selects the linear piece, whatever the value" begin
    mask = reshape(UInt8[1, 2, 0, 1, 2], 5, 1, 1, 1)
    @test values_of(MaskedActivation(6.0, mask)) == [-1, 6, 0, 6, 6]
    @test derivatives_of(MaskedActivation(6.0, mask)) == [1, 0, 0, 1, 0]
end

@testset "NaN stays NaN" begin
    @test isnan(activate(ClampActivation{Float32}(6.0), NaN32, 1))
end

@testset "the activation of the reference kernels is the same" begin
    maps = reshape(x, 5, 1, 1, 1)
    prescribed = UInt8.(reshape([1, 2, 0, 1, 2], 5, 1, 1, 1))
    for (clip_value, mask) in ((nothing, nothing), (6.0, nothing), (Inf, nothing), (6.0, prescribed))
        activation = activation_for(clip_value, mask, Float64)
        y = activate_maps(maps, clip_value, mask)
        @test vec(y) == values_of(activation)
        @test all(vec(maps .* 0 .+ gradient_mask(y, clip_value, mask)) .== derivatives_of(activation))
    end
end
