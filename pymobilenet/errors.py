"""The errors of the package; all of them descend from `PymobilenetError`."""


class PymobilenetError(Exception):
    """Anything this package refuses or cannot do."""


class ConfigError(PymobilenetError, ValueError):
    """A configuration value or an argument that breaks a rule."""


class DataError(PymobilenetError, ValueError):
    """Images or labels that are missing, truncated, foreign or out of range."""


class WeightsError(PymobilenetError, ValueError):
    """A weights file or state that does not fit the architecture."""


class BackendUnavailable(PymobilenetError, RuntimeError):
    """A backend or a device that was asked for and cannot be had."""


class JuliaError(PymobilenetError, RuntimeError):
    """An error raised in Julia, with Julia's text kept."""


class TrainingDiverged(PymobilenetError, ArithmeticError):
    """A loss in training that is not finite: there is nothing to go on from."""


class RunLocked(PymobilenetError, RuntimeError):
    """A run's folder that another process writes now."""
