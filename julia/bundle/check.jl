# Prints the processor and the packages of the project whose compiled code cannot be used here, separated by blanks:
#
#     julia --project=FOLDER/project check.jl

using TOML: TOML

function main()
    dependencies = TOML.parsefile(Base.active_project())["deps"]
    ids = [Base.PkgId(Base.UUID(uuid), name) for (name, uuid) in dependencies]
    is_compiled(id) = Base.in_sysimage(id) || Base.isprecompiled(id)
    println(join([Sys.CPU_NAME; sort!([id.name for id in ids if !is_compiled(id)])], ' '))
end

main()
