# Compiles the packages of a bundle that are not compiled, and prints the paths of the libraries that MobileNets loads:
#
#     julia --project=FOLDER/project compile.jl
#
# with FOLDER/depot as the first depot.

using Libdl: dllist
using Pkg: Pkg

Pkg.precompile(; already_instantiated=true) # it would download registries
Base.require(Main, :MobileNets)
foreach(println, dllist())
