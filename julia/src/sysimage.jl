"""
Which of these packages, `id => origin`, the project holds in another version, as
`"Flux 0.16.9 instead of 0.16.10"`.
"""
function held_otherwise(origins)
    found = String[]
    for (id, origin) in origins
        path = Base.locate_package(id)
        path in (nothing, origin.path) && continue
        wanted = Base.get_pkgversion_from_path(dirname(dirname(path)))
        wanted == origin.version || push!(found, "$(id.name) $(origin.version) instead of $wanted")
    end
    return sort!(found)
end

"Refuse a system image that is older than the project. Julia itself would use what it holds without a word."
function __init__()
    Base.in_sysimage(Base.PkgId(Flux)) || return nothing
    held((id, origin)) = Base.in_sysimage(id) && origin.version !== nothing
    found = held_otherwise(filter(held, Base.pkgorigins))
    isempty(found) || error(
        "a system image must hold the versions of the project. $(unsafe_string(Base.JLOptions().image_file)) " *
        "holds $(join(found, ", ")): build it again with build_sysimage.jl (in Python: `pymobilenet sysimage`), " *
        "or start without it",
    )
    return nothing
end
