using MobileNets: Clamped, Pieces, activated, activation_of, passes

x = [-1.0, 0.0, 2.0, 6.0, 7.0]
values_of(activation) = [activated(activation, x[k], k) for k in eachindex(x)]
slopes_of(activation) = [passes(activation, x[k], k) for k in eachindex(x)]

@testset "the gradient is 0 at both kinks" begin
    @test values_of(Clamped{Float64}(6.0)) == [0, 0, 2, 6, 6]
    @test slopes_of(Clamped{Float64}(6.0)) == [0, 0, 1, 0, 0]
    @test values_of(Clamped{Float64}(Inf)) == [0, 0, 2, 6, 7]
    @test slopes_of(Clamped{Float64}(Inf)) == [0, 0, 1, 1, 1]
    linear = Clamped{Float64}(nothing)
    @test values_of(linear) == x && all(slopes_of(linear))
end

@testset "a mask decides the piece, whatever the value" begin
    pieces = reshape(UInt8[1, 2, 0, 1, 2], 5, 1, 1, 1)
    @test values_of(Pieces(6.0, pieces)) == [-1, 6, 0, 6, 6]
    @test slopes_of(Pieces(6.0, pieces)) == [1, 0, 0, 1, 0]
end

@testset "NaN stays NaN" begin
    @test isnan(activated(Clamped{Float32}(6.0), NaN32, 1))
end

@testset "the reference's activation is the same" begin
    maps = reshape(x, 5, 1, 1, 1)
    pieces = UInt8.(reshape([1, 2, 0, 1, 2], 5, 1, 1, 1))
    for (ceiling, mask) in ((nothing, nothing), (6.0, nothing), (Inf, nothing), (6.0, pieces))
        activation = activation_of(ceiling, mask, Float64)
        y = MobileNets.activate(maps, ceiling, mask)
        @test vec(y) == values_of(activation)
        @test all(vec(maps .* 0 .+ MobileNets.passes_of(y, ceiling, mask)) .== slopes_of(activation))
    end
end
