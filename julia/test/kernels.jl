for kernel in ("convolution", "unit", "activation", "norm", "head", "workspace", "threads", "team", "panels")
    @testset "$kernel" begin
        include("kernels/$kernel.jl")
    end
end
