using Documenter: DocMeta, doctest

DocMeta.setdocmeta!(MobileNets, :DocTestSetup, :(using MobileNets); recursive=true)
doctest(MobileNets; manual=false)

"Whether a name of a module, which may be imported, has a docstring."
function has_docstring(mod, name)
    binding = Base.Docs.aliasof(Base.Docs.Binding(mod, name))
    return haskey(Base.Docs.meta(binding.mod), binding)
end

@testset "public names exist and have docstrings" begin
    for name in (names(MobileNets)..., MobileNets.PUBLIC...)
        @test isdefined(MobileNets, name) && has_docstring(MobileNets, name)
    end
end

@testset "the manual has every public name and submodule" begin
    entries = readlines(joinpath(pkgdir(MobileNets), "docs", "src", "api.md"))
    submodules = filter(names(MobileNets; all=true)) do name
        value = getfield(MobileNets, name)
        value isa Module && value !== MobileNets && parentmodule(value) === MobileNets
    end
    @test length(submodules) > 5
    exported = setdiff(names(MobileNets), MobileNets.PUBLIC)
    @test setdiff(string.(exported), entries) == []
    @test setdiff("MobileNets." .* string.([MobileNets.PUBLIC...; submodules]), entries) == []
end
