using Test

"Run a test file in a module of its own, so that its global names do not affect the other files."
function run_file(file)
    scope = Core.eval(Main, :(module $(Symbol("test_", replace(file, '/' => '_'))) end))
    Core.eval(scope, :(using MobileNets, Test; using Flux: Flux; using StableRNGs: StableRNG))
    Base.include(scope, joinpath(@__DIR__, "helpers.jl"))
    Base.include(scope, joinpath(@__DIR__, "$file.jl"))
end

"The results of a test file. Failures and errors are among them: nothing is thrown."
function results_of(file)
    Test.push_testset(Test.DefaultTestSet("the caller's")) # without one, the set of the file would throw
    try
        start = time()
        results = @testset "$file" begin
            run_file(file)
        end
        println("$file: $(round(Int, time() - start)) s")
        return results
    finally
        Test.pop_testset()
    end
end
