"""The exceptions of the package; `PymobilenetError` is their base class."""


class PymobilenetError(Exception):
    """Base class of all exceptions that this package raises on purpose."""


class ConfigError(PymobilenetError, ValueError):
    """A configuration value or an argument is invalid."""


class DataError(PymobilenetError, ValueError):
    """Images or labels are missing, damaged, of an unknown format or out of range."""


class WeightsError(PymobilenetError, ValueError):
    """A weight file is invalid, or a state does not fit the architecture."""


class BackendUnavailable(PymobilenetError, RuntimeError):
    """A requested backend, device or package is not available."""


class JuliaError(PymobilenetError, RuntimeError):
    """An exception thrown in Julia, with Julia's text."""


class TrainingDiverged(PymobilenetError, ArithmeticError):
    """A training loss is NaN or infinite."""


class RunLocked(PymobilenetError, RuntimeError):
    """The folder of a run is in use by another process."""


class BackendCrashed(PymobilenetError, RuntimeError):
    """The process of an isolated backend has ended, or did not answer in time."""
