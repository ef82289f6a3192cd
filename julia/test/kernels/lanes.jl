using MobileNets.Kernels: ClampActivation, Lanes, NARROW, WIDE, activate, activate_lanes, add_lanes, clamp_lanes,
    fill_lanes, lanes_type, muladd_lanes

same_bits(a, b) = reinterpret(UInt8, [a]) == reinterpret(UInt8, [b])

@testset "each lane has the bits of the scalar operation: $T, $(fieldcount(V)) lanes" for
    T in (Float32, Float64), V in (Lanes{T,1}, lanes_type(T, NARROW), lanes_type(T, WIDE), lanes_type(T, 2WIDE))

    count = fieldcount(V)
    lanes(values) = V(Tuple(VecElement.(values)))
    special = T[NaN, -NaN, Inf, -Inf, 0, -0.0, 6, floatmin(T), -floatmin(T), nextfloat(zero(T)), floatmax(T)]
    rng = StableRNG(count)
    values(rng) = rand(rng, [special; randn(rng, T, 20); 10randn(rng, T, 20)], count)
    for _ in 1:50
        a, b = values(rng), values(rng)
        @test same_bits(add_lanes(lanes(a), lanes(b)), lanes(a .+ b))
        @test same_bits(fill_lanes(a[1], V), lanes(fill(a[1], count)))
        finite = filter(isfinite, randn(rng, T, 3count))
        x, y, z = (finite[(k * count + 1):((k + 1) * count)] for k in 0:2)
        @test all(isapprox.(getfield.(collect(muladd_lanes(lanes(x), lanes(y), lanes(z))), :value), muladd.(x, y, z)))
        for (lower, upper) in ((T(0), T(6)), (T(0), T(Inf)), (T(-Inf), T(Inf)), (T(-0.0), T(1)))
            activation = ClampActivation{T}(lower, upper)
            @test same_bits(activate_lanes(activation, lanes(a)), lanes([activate(activation, v, 0) for v in a]))
        end
        @test activate_lanes(identity, lanes(a)) === lanes(a)
    end
end
