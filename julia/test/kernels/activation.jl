using MobileNets: activate
using MobileNets.Flux: pullback

x = [-1.0, 0.0, 2.0, 6.0, 7.0]
value(ceiling, mask) = activate(x, ceiling, mask)
slope(ceiling, mask) = pullback(x -> activate(x, ceiling, mask), x)[2](fill(10.0, 5))[1]

@testset "the gradient is 0 at both kinks" begin
    @test value(6.0, nothing) == [0, 0, 2, 6, 6]
    @test slope(6.0, nothing) == [0, 0, 10, 0, 0]
    @test value(Inf, nothing) == [0, 0, 2, 6, 7]
    @test slope(Inf, nothing) == [0, 0, 10, 10, 10]
end

@testset "a mask decides the piece, whatever the value" begin
    mask = UInt8[1, 2, 0, 1, 2]
    @test value(6.0, mask) == [-1, 6, 0, 6, 6]
    @test slope(6.0, mask) == [10, 0, 0, 10, 0]
end

@testset "NaN stays NaN" begin
    @test all(isnan, activate([NaN32], 6.0, nothing))
end
