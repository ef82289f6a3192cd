for kernel in ("convolution", "norm", "activation", "head")
    @testset "$kernel" begin
        include("kernels/$kernel.jl")
    end
end
