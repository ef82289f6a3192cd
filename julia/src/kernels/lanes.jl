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

# One instruction of LLVM each. Written out for every lane, as `map` does, they would make the compiled code of this
# package several times as large, and as slow to compile.
for (T, suffix, type) in ((Float32, "f32", "float"), (Float64, "f64", "double")), bits in (NARROW, WIDE, 2WIDE)
    V = lanes_type(T, bits) # 2WIDE for 16 Float64
    count = fieldcount(V)
    vector, name = "<$count x $type>", "llvm.fmuladd.v$count$suffix"
    add = "%sum = fadd $vector %0, %1\nret $vector %sum"
    fill = """
        %first = insertelement $vector undef, $type %0, i32 0
        %all = shufflevector $vector %first, $vector undef, <$count x i32> zeroinitializer
        ret $vector %all"""
    clamp = """
        %is_less = fcmp olt $vector %0, %1
        %raised = select <$count x i1> %is_less, $vector %1, $vector %0
        %is_greater = fcmp ogt $vector %0, %2
        %clamped = select <$count x i1> %is_greater, $vector %2, $vector %raised
        ret $vector %clamped"""
    @eval begin
        @inline muladd_lanes(a::$V, b::$V, c::$V) = ccall($name, llvmcall, $V, ($V, $V, $V), a, b, c)
        @inline add_lanes(a::$V, b::$V) = Base.llvmcall($add, $V, Tuple{$V,$V}, a, b)
        @inline fill_lanes(value::$T, ::Type{$V}) = Base.llvmcall($fill, $V, Tuple{$T}, value)
        @inline clamp_lanes(x::$V, lower::$V, upper::$V) =
            Base.llvmcall($clamp, $V, Tuple{$V,$V,$V}, x, lower, upper)
    end
end

@inline muladd_lanes((a,)::V, (b,)::V, (c,)::V) where {V<:Lanes{<:Any,1}} =
    (VecElement(muladd(a.value, b.value, c.value)),)
@inline add_lanes((a,)::V, (b,)::V) where {V<:Lanes{<:Any,1}} = (VecElement(a.value + b.value),)
@inline fill_lanes(value::T, ::Type{Lanes{T,1}}) where {T} = (VecElement(value),)
@inline clamp_lanes((x,)::V, (lower,)::V, (upper,)::V) where {V<:Lanes{<:Any,1}} =
    (VecElement(clamp(x.value, lower.value, upper.value)),)

"`a * b + c` for each lane."
muladd_lanes

"`clamp(x, lower, upper)` for each lane, bit for bit."
clamp_lanes

@inline activate_lanes(::typeof(identity), lanes::Lanes) = lanes
@inline activate_lanes((; lower, upper)::ClampActivation{T}, lanes::V) where {T,V<:Lanes{T}} =
    clamp_lanes(lanes, fill_lanes(lower, V), fill_lanes(upper, V))

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
