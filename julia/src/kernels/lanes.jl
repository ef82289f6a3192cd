# Vectors: some values that the processor takes as one. `muladd` of their elements would do for all but one thing:
# LLVM makes scalar code of some of the loads, so that it is asked for whole vectors by name.

"Values side by side in memory and in a register."
const Lanes{T,L} = NTuple{L,VecElement{T}}

"Bits of a vector: what all but the oldest x86 and ARM processors have, whole or in two halves; what AVX-512 has."
const NARROW, WIDE = 256, 512

lanes_type(::Type{T}, bits) where {T} = Lanes{T,bits ÷ 8sizeof(T)}

"Wide vectors where the processor has them and `channels` fill them."
function lanes_for_channels(::Type{T}, channels) where {T}
    wide = lanes_type(T, WIDE)
    return has_wide_vectors() && channels % fieldcount(wide) == 0 ? wide : lanes_type(T, NARROW)
end

"Asked of the processor itself: what is compiled ahead may be used on another one."
has_wide_vectors() = Sys.ARCH === :x86_64 && CPUID.test_cpu_feature(CPUID.JL_X86_avx512f)

for (T, suffix) in (Float32 => "f32", Float64 => "f64"), bits in (NARROW, WIDE)
    V = lanes_type(T, bits)
    name = "llvm.fmuladd.v$(fieldcount(V))$suffix"
    @eval @inline fused(a::$V, b::$V, c::$V) = ccall($name, llvmcall, $V, ($V, $V, $V), a, b, c)
end

@inline fused((a,)::V, (b,)::V, (c,)::V) where {V<:Lanes{<:Any,1}} = (VecElement(muladd(a.value, b.value, c.value)),)

"`a * b + c`."
fused

@inline added(a::V, b::V) where {V<:Lanes} = map((x, y) -> VecElement(x.value + y.value), a, b)
@inline all_lanes(value, ::Type{V}) where {V<:Lanes} = ntuple(_ -> VecElement(value), Val(fieldcount(V)))
@inline activated_lanes(activation, lanes::Lanes) =
    map(lane -> VecElement(activated(activation, lane.value, 0)), lanes)

"Have what lies at an address, which may be nothing of ours, brought near. The LLVM of Julia 1.12 writes it otherwise."
@static if VERSION < v"1.12-"
    @inline function prefetch(address::Ptr)
        code = """
            declare void @llvm.prefetch.p0i8(i8*, i32, i32, i32)
            define void @entry(i64 %address) alwaysinline {
                %there = inttoptr i64 %address to i8*
                call void @llvm.prefetch.p0i8(i8* %there, i32 0, i32 3, i32 1)
                ret void
            }"""
        return Base.llvmcall((code, "entry"), Cvoid, Tuple{UInt}, UInt(address))
    end
else
    prefetch(::Ptr) = nothing
end

"The vector at an address, aligned or not, and its `count` first lanes written there."
@inline lanes_at(::Type{V}, address::Ptr) where {V<:Lanes} = unsafe_load(Ptr{V}(address))
@inline function put!(address::Ptr{T}, lanes::Lanes{T,L}, count) where {T,L}
    count < L ? put_some!(address, lanes, count) : unsafe_store!(Ptr{Lanes{T,L}}(address), lanes)
    return nothing
end
@noinline function put_some!(address, lanes, count)
    for l in 1:count
        unsafe_store!(address, lanes[l].value, l)
    end
end
