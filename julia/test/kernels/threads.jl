using MobileNets: blas_report, one_blas_thread, parallel, part_count
using MobileNets.BLAS: get_num_threads

@testset "ranges cover everything once, in numbered parts" begin
    for n in (1, 2, 7, 100), least in (1, 30)
        seen, parts = zeros(Int, n), zeros(Int, part_count(n, least))
        parallel(n, least) do part, range
            parts[part] += 1
            seen[range] .+= 1
        end
        @test all(==(1), seen) && all(==(1), parts)
        @test length(parts) == 1 || n ÷ length(parts) >= least
    end
end

@testset "BLAS gets its threads back, also after an error" begin
    before = get_num_threads()
    @test one_blas_thread(get_num_threads) == (Threads.nthreads() == 1 ? before : 1)
    @test_throws ErrorException one_blas_thread(() -> error("stop"))
    @test get_num_threads() == before
end

@testset "what multiplies the matrices is reported" begin
    report = blas_report()
    @test report.threads == get_num_threads() && report.julia_threads == Threads.nthreads()
    @test !isempty(report.library)
    openblas = occursin("openblas", lowercase(report.library)) # another library says nothing of itself
    @test isempty(report.core) == !openblas && occursin("OpenBLAS", report.config) == openblas
end
