# An error that says to load Flux, where a function has methods only in its extension.

"Functions of this package with methods for Flux's layers."
const NEED_FLUX = (
    flux_chain, load_flux!, Models.flux_state_of, DeviceWorkspace, join_processes, Interop.set_mode!,
    Interop.layer_pullback, Tracing.trace, Tracing.train_step, Tracing.framework, Tracing.convert_weights,
    Tracing.layer_at, Tracing.load_params!, Tracing.saved_state,
)

is_flux_loaded() = !isnothing(Base.get_extension(@__MODULE__, :MobileNetsFluxExt))

function add_flux_hint()
    Base.Experimental.register_error_hint(MethodError) do io, error, _, _
        is_flux_loaded() || !any(f -> f === error.f, NEED_FLUX) ||
            print(io, "\n$(nameof(error.f)) requires Flux.jl to be loaded: `using Flux`")
    end
    return nothing
end
