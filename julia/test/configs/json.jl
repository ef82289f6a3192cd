using MobileNets.Configs: json_text, on_own_stack, parse_object

@testset "numbers, strings and objects have the text of Python's json.dumps" begin
    floats = [
        1.0 => "1.0", 0.25 => "0.25", 1e-5 => "1e-05", 0.1 => "0.1", 1e16 => "1e+16",
        0.0001 => "0.0001", -0.0 => "-0.0", 123456789.125 => "123456789.125",
        9999999999999998.0 => "9999999999999998.0", 1.5e300 => "1.5e+300",
        5e-324 => "5e-324", 1.2345e-7 => "1.2345e-07", 1e15 => "1000000000000000.0",
        0.999 => "0.999", 2.0^-44 => "5.684341886080802e-14",
    ]
    for (value, text) in floats
        @test json_text(value) == text
    end
    @test json_text(["b" => 1, "a" => [true, false]]) == """{"b":1,"a":[true,false]}"""
    @test json_text("\"\\\n\t\e\x7fé😀") == "\"\\\"\\\\\\n\\t\\u001b\\u007f\\u00e9\\ud83d\\ude00\""
    @test_throws ArgumentError json_text(NaN)
    @test_throws ArgumentError json_text("\xff")
end

@testset "text that is not an object, and duplicate names, are rejected" begin
    @test parse_object("""{"a": {"b": 1.5}, "c": [1]}""")["a"]["b"] == 1.5
    @test occursin("twice", message(() -> parse_object("""{"a":1,"a":2}"""), ArgumentError))
    @test occursin("twice", message(() -> parse_object("""{"x":{"a":1,"a":2}}"""), ArgumentError))
    for text in ("", "[1]", "{", "{}}", "{\"a\":}", "nul", "\xff")
        @test_throws ArgumentError parse_object(text)
    end
end

@testset "a function on a stack of its own" begin
    overflow(n) = Any[overflow(n)]
    @test on_own_stack(() -> nothing) === nothing
    @test_throws DimensionMismatch on_own_stack(() -> throw(DimensionMismatch("x")))
    @test_throws StackOverflowError on_own_stack(() -> overflow(0))
end
