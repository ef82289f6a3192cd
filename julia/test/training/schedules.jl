@testset "rates are those of the shared vectors to the bit: $n, $(case["config"]["schedule"])" for
    (n, case) in enumerate(vectors("schedules")["cases"])

    config = from_json(TrainConfig, Configs.JSON.json(case["config"]))
    rates = parse.(Float64, case["rates"])
    @test [rate_at(config, step) for step in 0:(length(rates) - 1)] == rates
end

@testset "the cosine is accurate to the last bits" begin
    for x in range(0, 1; length=1001)
        @test Training.cos_pi(x) ≈ cospi(x) atol = 5e-16
    end
end

@testset "the power is accurate to the last bits" begin
    for exponent in (0, 1, 2, 3, 17, 200)
        @test Training.power(0.97, exponent) ≈ 0.97^exponent rtol = 1e-13
    end
    @test Training.power(0.1, 10^9) == 0.0
end

@testset "no rate is negative or above the config's" begin
    for schedule in Configs.SCHEDULES, warmup_steps in (0, 3, 60), pct_start in (0, 0.3, 1)
        config = TrainConfig(; schedule, warmup_steps, pct_start, steps=50, step_size=7, milestones=(9, 20))
        @test all(step -> 0 <= rate_at(config, step) <= 0.1 * (1 + 1e-15), [0:70; 10^9])
    end
end
