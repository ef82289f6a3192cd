# Builds the manual in docs/build, without network access to anything but Pkg's registries:
#
#     julia --project=julia/docs julia/docs/make.jl

using Pkg: Pkg
Pkg.develop(path=dirname(@__DIR__))
Pkg.instantiate()

using Documenter: DocMeta, Documenter, makedocs
using MobileNets

DocMeta.setdocmeta!(MobileNets, :DocTestSetup, :(using MobileNets); recursive=true)

# References in docstrings are resolved in the module of the docstring. Those of submodules refer to the public names
# of MobileNets.
for mod in Documenter.submodules(MobileNets), docs in values(Base.Docs.meta(mod)), docstring in values(docs.docs)
    docstring.data[:module] = MobileNets
end

makedocs(;
    sitename="MobileNets.jl",
    modules=[MobileNets],
    pages=["Guide" => "index.md", "API" => "api.md"],
    format=Documenter.HTML(;
        prettyurls=false, edit_link=nothing, repolink=nothing, size_threshold=nothing, assets=["assets/favicon.ico"],
    ),
    remotes=nothing,
    doctest=true,
    checkdocs=:exports,
    warnonly=false,
)
