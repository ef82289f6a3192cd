"""The preprocessing of a loaded model, and an error if its classifier is not trained."""

from __future__ import annotations

from pymobilenet import metadata_keys as keys
from pymobilenet.data import preprocessing_of
from pymobilenet.data.dataset import Statistics
from pymobilenet.data.preprocessing import PREPROCESSING
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import Loaded
from pymobilenet.formats.heads import CLASSIFIER, DRAWN


def check_usable(loaded: Loaded, preprocessing: str | None, source: str) -> str:
    """Return the preprocessing of images for a model: the user's, or that of its file.

    Args:
        loaded: The model file.
        preprocessing: The user's choice, or None.
        source: Name of the file, for error messages.

    Raises:
        WeightsError: The file has no classifier: the new one is not trained.
        ConfigError: The scaling of images is not known, or the name does not exist.
    """
    if loaded.metadata.get(CLASSIFIER) == DRAWN:
        raise WeightsError(
            f"{source}: has no classifier, and the new one is not trained: train it first, as "
            "pymobilenet train RECIPE --set start=FILE"
        )
    if (
        preprocessing is None
        and loaded.report.scaling == "unknown"
        and keys.PREPROCESSING not in loaded.metadata
    ):
        raise ConfigError(
            f"{source}: does not state how images are scaled: give --mean and --std, or "
            f"--preprocessing, one of {', '.join(PREPROCESSING)}"
        )
    return preprocessing_of(loaded.metadata, preprocessing, source)


def describe_scaling(preprocessing: str, statistics: Statistics) -> str:
    """Return one line on how images are scaled.

    >>> describe_scaling("keras", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    'images: keras, mean 0.5 0.5 0.5, std 0.5 0.5 0.5'

    Args:
        preprocessing: Name of the preprocessing.
        statistics: Mean and standard deviation of the channels.
    """
    means, stds = (" ".join(f"{value:.4g}" for value in values) for values in statistics)
    return f"images: {preprocessing}, mean {means}, std {stds}"
