# A module of torch as a Flux layer. It needs a Python with torch, which JULIA_PYTHONCALL_EXE names.

using Flux: Flux

@testset "without PythonCall, the error says what is needed" begin
    @test occursin("requires PythonCall", message(() -> MobileNets.TorchModule(nothing), ConfigError))
end

if haskey(ENV, "JULIA_PYTHONCALL_EXE")
    include("torch_module_live.jl")
else
    @info "NOT RUN: modules of torch inside Flux, which need JULIA_PYTHONCALL_EXE, a Python with torch"
end
