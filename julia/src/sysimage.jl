using ChainRulesCore: ChainRulesCore

"""
The packages, given as `id => origin`, of which a system image has another version than the project, as
`"Flux 0.16.9 instead of 0.16.10"`.
"""
function version_mismatches(origins)
    mismatches = String[]
    for (id, origin) in origins
        path = Base.locate_package(id)
        path in (nothing, origin.path) && continue
        version = Files.project_version(id)
        version == origin.version || push!(mismatches, "$(id.name) $(origin.version) instead of $version")
    end
    return sort!(mismatches)
end

"Throw an error for a system image that is older than the project; Julia itself would use its packages silently."
function check_sysimage()
    Base.in_sysimage(Base.PkgId(ChainRulesCore)) || return nothing
    is_in_image((id, origin)) = Base.in_sysimage(id) && origin.version !== nothing
    mismatches = version_mismatches(filter(is_in_image, Base.pkgorigins))
    isempty(mismatches) || error(
        "a system image must hold the versions of the project. $(unsafe_string(Base.JLOptions().image_file)) " *
        "holds $(join(mismatches, ", ")): build it again with build_sysimage.jl (in Python: `pymobilenet sysimage`), " *
        "or start without it",
    )
    return nothing
end
