using MobileNets: blas_report, one_blas_thread
using MobileNets.BLAS: get_num_threads

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
