"""Load Julia packages into the running Julia."""

from __future__ import annotations

from pymobilenet.backends.julia.interop import translate_julia_errors
from pymobilenet.backends.julia.libjulia import evaluate_text
from pymobilenet.backends.julia.project import remedy
from pymobilenet.errors import BackendUnavailable

IMPORT_CODE = """
try
    import {}
    ""
catch error
    sprint(showerror, error)
end
"""
"""Julia code that imports packages and returns the text of the error, or an empty string."""

LAZY_PACKAGES = ("Flux", "JLD2")
"""Julia packages of the project that are loaded where they are needed: Flux takes a second."""

OPTIONAL_PACKAGE_UUIDS = {
    "CUDA": "052768ef-5323-5732-b1bb-66c8b64840ba",
    "cuDNN": "02a925ec-e4fe-4b08-9a7e-0d78e3d38ccd",
    "MPI": "da04e1cc-30fd-572f-bb4f-1f8673147195",
}
"""Julia packages that are not dependencies: users who need them add them to the project."""


def import_packages() -> None:
    """Import MobileNets.jl, and with it the precompiled conversions of PythonCall.

    A failed import is not retried, because Julia regards a package whose ``__init__`` has failed
    as loaded.

    Raises:
        BackendUnavailable: MobileNets.jl is not in the project or does not load.
    """
    import juliacall

    error = evaluate_text(IMPORT_CODE.format("MobileNets, LinearAlgebra"))
    if error:
        raise BackendUnavailable(
            f"Julia started, but MobileNets.jl could not be loaded: {error}. The project "
            f"{juliacall.CONFIG['project']} must contain MobileNets and PythonCall. {remedy()}"
        )


def import_optional_packages(names: tuple[str, ...], option: str) -> None:
    """Import Julia packages that users add to the project themselves.

    Args:
        names: Keys of `OPTIONAL_PACKAGE_UUIDS`.
        option: The option that requires them, as the error message quotes it.

    Raises:
        BackendUnavailable: A package does not load. The message says how to add it.
    """
    import juliacall

    with translate_julia_errors():
        error = str(juliacall.Main.seval(IMPORT_CODE.format(", ".join(names))))
    if error:
        commands = ", ".join(
            f"`python -m juliapkg add {name} --uuid {OPTIONAL_PACKAGE_UUIDS[name]}`"
            for name in names
        )
        raise BackendUnavailable(
            f"{option} requires {' and '.join(names)} in the project "
            f"{juliacall.CONFIG['project']}. Run {commands}, then `python -m juliapkg resolve`. "
            f"Received: {error}"
        )


def load_lazy_package(name: str) -> None:
    """Load a package of the project into ``Main``.

    Args:
        name: One of `LAZY_PACKAGES`.

    Raises:
        BackendUnavailable: It is not in the project, or does not load.
    """
    import juliacall

    with translate_julia_errors():
        error = str(juliacall.Main.seval(IMPORT_CODE.format(name)))
    if error:
        raise BackendUnavailable(
            f"{name}.jl could not be loaded: {error}. Add it to the project "
            f"{juliacall.CONFIG['project']}: `juliapkg.add` in Python, or `Pkg.add` in Julia"
        )
