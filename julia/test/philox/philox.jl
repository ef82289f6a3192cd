using MobileNets.Philox: STREAM, bounded, permutation, philox_block, raw_words, uniform64

@testset "Random123's known answers" begin
    ones = typemax(UInt64)
    @test philox_block((UInt64(0), UInt64(0)), ntuple(_ -> UInt64(0), 4)) ==
        (0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b)
    @test philox_block((ones, ones), (ones, ones, ones, ones)) ==
        (0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0)
end

@testset "words and samples are those of the shared vectors" begin
    file = vectors("philox")
    for case in file["cases"]
        seed = parse(UInt64, case["seed"])
        draw(count) =
            raw_words(seed, STREAM[Symbol(case["stream"])], case["epoch"], case["index"], count)
        @test draw(6) == parse.(UInt64, case["words"])
        @test bounded.(draw(6), file["limits"]) == case["bounded"]
        @test permutation(draw(10)) == case["permutation"]
        hex(x) = string(reinterpret(x isa Float32 ? UInt32 : UInt64, x); base=16, pad=2sizeof(x))
        @test hex.(uniform64.(draw(6))) == case["uniform64"]
    end
end

@testset "unknown streams, negative seeds and empty ranges are rejected" begin
    @test_throws ConfigError raw_words(0, 9, 0, 0, 1)
    @test_throws ConfigError raw_words(-1, 0, 0, 0, 1)
    @test_throws ConfigError bounded(UInt64(1), 0)
    @test raw_words(0, 0, 0, 0, 5)[1:3] == raw_words(0, 0, 0, 0, 3)
end
