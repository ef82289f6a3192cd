using MobileNets: blas_report
using MobileNets.Kernels: chunk_count, with_one_blas_thread
using MobileNets.Kernels.BLAS: get_num_threads

@testset "the number of BLAS threads is restored, also after an error" begin
    before = get_num_threads()
    @test with_one_blas_thread(get_num_threads) == (Threads.nthreads() == 1 ? before : 1)
    @test_throws ErrorException with_one_blas_thread(() -> error("stop"))
    @test get_num_threads() == before
end

@testset "the BLAS is reported" begin
    report = blas_report()
    @test report.threads == get_num_threads() && report.julia_threads == Threads.nthreads()
    @test !isempty(report.library)
    openblas = occursin("openblas", lowercase(report.library)) # the report is empty for other libraries
    @test isempty(report.core) == !openblas && occursin("OpenBLAS", report.config) == openblas
end

@testset "chunks have at least the given size, and are at most as many as threads" begin
    @test chunk_count(10^6) == Threads.nthreads()
    @test chunk_count(1) == chunk_count(7, 4) == 1
end
