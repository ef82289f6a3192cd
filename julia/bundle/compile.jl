# Compiles the packages of a bundle that are not compiled, and prints the paths of the libraries that MobileNets and Flux load:
#
#     julia --project=FOLDER/project compile.jl
#
# with FOLDER/depot as the first depot.

using Libdl: dllist
using Pkg: Pkg

Pkg.precompile(; already_instantiated=true) # it would download registries
for name in ("MobileNets", "Flux") # MobileNets itself does not load Flux
    isnothing(Base.find_package(name)) || Base.require(Main, Symbol(name))
end
foreach(println, dllist())
