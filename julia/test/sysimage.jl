using Flux: Flux

@testset "packages that an image has in another version are named" begin
    id = Base.PkgId(Flux)
    origin(path, version) = Dict(id => Base.PkgOrigin(path, nothing, version))
    own_path, version = pathof(Flux), pkgversion(Flux)
    other_path = joinpath("elsewhere", "Flux", "src", "Flux.jl")
    @test MobileNets.version_mismatches(origin(other_path, v"0.1.0")) == ["Flux 0.1.0 instead of $version"]
    @test isempty(MobileNets.version_mismatches(origin(other_path, version)))
    @test isempty(MobileNets.version_mismatches(origin(own_path, v"0.1.0")))
    unknown = Base.PkgId(Base.UUID(1), "Unknown")
    @test isempty(MobileNets.version_mismatches(Dict(unknown => Base.PkgOrigin(other_path, nothing, v"1.0.0"))))
end
