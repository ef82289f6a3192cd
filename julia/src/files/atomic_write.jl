"""
    atomic_write(f, path)

Call `f(io)` on a file that appears at `path` complete or not at all: a temporary file in the same folder is written,
flushed to the disk and renamed. Returns `path`.
"""
function atomic_write(f, path)
    path = String(path)
    temporary = tempname(dirname(abspath(path)); cleanup=false)
    try
        open(temporary, "w") do file
            f(file)
            flush(file)
            sync(file)
        end
        Base.Filesystem.rename(temporary, path)
    catch
        rm(temporary; force=true)
        rethrow()
    end
    return path
end

function sync(file::IOStream)
    descriptor = Base.Libc.RawFD(fd(file))
    status = Sys.iswindows() ? ccall(:_commit, Cint, (Base.RawFD,), descriptor) :
             ccall(:fsync, Cint, (Base.RawFD,), descriptor)
    return systemerror("fsync", status != 0)
end
