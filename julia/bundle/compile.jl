# Compiles the packages of a bundle:
#
#     julia --project=FOLDER/project compile.jl
#
# with FOLDER/depot as the first depot.

using Pkg: Pkg

Pkg.precompile()
