# SIMD vectors. LLVM turns some of the loads of a loop over `muladd` into scalar code, so whole vectors and their
# intrinsics are used by name.

"Values that are contiguous in memory and fill a vector register."
const Lanes{T,L} = NTuple{L,VecElement{T}}

"Bits of a vector: on all but the oldest x86 and ARM processors, in one register or two; and with AVX-512."
const NARROW, WIDE = 256, 512

lanes_type(::Type{T}, bits) where {T} = Lanes{T,bits ÷ 8sizeof(T)}

"Wide vectors if the processor has them and `channels` fill them, otherwise narrow ones."
function lanes_for_channels(::Type{T}, channels) where {T}
    wide = lanes_type(T, WIDE)
    return has_wide_vectors() && channels % fieldcount(wide) == 0 ? wide : lanes_type(T, NARROW)
end

"Whether this processor has AVX-512, tested at run time: precompiled code may be used on another processor."
has_wide_vectors() = Sys.ARCH === :x86_64 && CPUID.test_cpu_feature(CPUID.JL_X86_avx512f)

for (T, suffix) in (Float32 => "f32", Float64 => "f64"), bits in (NARROW, WIDE, 2WIDE) # the last for 16 Float64
    V = lanes_type(T, bits)
    name = "llvm.fmuladd.v$(fieldcount(V))$suffix"
    @eval @inline muladd_lanes(a::$V, b::$V, c::$V) = ccall($name, llvmcall, $V, ($V, $V, $V), a, b, c)
end

@inline muladd_lanes((a,)::V, (b,)::V, (c,)::V) where {V<:Lanes{<:Any,1}} =
    (VecElement(muladd(a.value, b.value, c.value)),)

"`a * b + c` for each lane."
muladd_lanes

@inline add_lanes(a::V, b::V) where {V<:Lanes} = map((x, y) -> VecElement(x.value + y.value), a, b)
@inline fill_lanes(value, ::Type{V}) where {V<:Lanes} = ntuple(_ -> VecElement(value), Val(fieldcount(V)))
@inline activate_lanes(::typeof(identity), lanes::Lanes) = lanes
@inline activate_lanes(activation, lanes::Lanes) =
    map(lane -> VecElement(activate(activation, lane.value, 0)), lanes)

"Prefetch the cache line at an address, which need not be valid. LLVM's syntax is that before Julia 1.12."
@static if VERSION < v"1.12-"
    @inline function prefetch(address::Ptr)
        code = """
            declare void @llvm.prefetch.p0i8(i8*, i32, i32, i32)
            define void @entry(i64 %address) alwaysinline {
                %pointer = inttoptr i64 %address to i8*
                call void @llvm.prefetch.p0i8(i8* %pointer, i32 0, i32 3, i32 1)
                ret void
            }"""
        return Base.llvmcall((code, "entry"), Cvoid, Tuple{UInt}, UInt(address))
    end
else
    prefetch(::Ptr) = nothing
end

"The vector at an address, aligned or not."
@inline load_lanes(::Type{V}, address::Ptr) where {V<:Lanes} = unsafe_load(Ptr{V}(address))

"Write the first `count` lanes to an address, aligned or not."
@inline function store_lanes!(address::Ptr{T}, lanes::Lanes{T,L}, count) where {T,L}
    count < L ? store_first_lanes!(address, lanes, count) : unsafe_store!(Ptr{Lanes{T,L}}(address), lanes)
    return nothing
end
@noinline function store_first_lanes!(address, lanes, count)
    for l in 1:count
        unsafe_store!(address, lanes[l].value, l)
    end
end
