# Vectors: some values that the processor takes as one. `muladd` of their elements would do for all but one thing:
# LLVM makes scalar code of some of the loads, so that it is asked for whole vectors by name.

"Values side by side in memory and in a register."
const Lanes{T,L} = NTuple{L,VecElement{T}}

"As many as 256 bits hold, which all but the oldest x86 and ARM processors have, whole or in two halves."
const Lanes64, Lanes32 = Lanes{Float64,4}, Lanes{Float32,8}
lanes_type(::Type{Float64}) = Lanes64
lanes_type(::Type{Float32}) = Lanes32

"`a * b + c`."
@inline fused(a::Lanes32, b::Lanes32, c::Lanes32) =
    ccall("llvm.fmuladd.v8f32", llvmcall, Lanes32, (Lanes32, Lanes32, Lanes32), a, b, c)
@inline fused(a::Lanes64, b::Lanes64, c::Lanes64) =
    ccall("llvm.fmuladd.v4f64", llvmcall, Lanes64, (Lanes64, Lanes64, Lanes64), a, b, c)

@inline added(a::V, b::V) where {V<:Lanes} = map((x, y) -> VecElement(x.value + y.value), a, b)
@inline all_lanes(value, ::Type{V}) where {V<:Lanes} = ntuple(_ -> VecElement(value), Val(fieldcount(V)))
@inline activated_lanes(activation, lanes::Lanes) =
    map(lane -> VecElement(activated(activation, lane.value, 0)), lanes)

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
