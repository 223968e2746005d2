"""Warnings and errors of our own, in one place, so that users can catch or silence them by name.

Wrong input is a ValueError or TypeError; what stands here is what else a caller may wish to tell
apart.
"""

import sqlite3

__all__ = [
    "CacheWarning",
    "CannotExplainError",
    "DamagedFileError",
    "DivergedError",
    "FeatureStoreWarning",
    "ModelFileError",
    "UngroupedWarning",
    "WeightsNotFoundError",
]


class CacheWarning(UserWarning):
    """Something kept on disk cannot be relied on; results are right, but some cost time again."""


class DamagedFileError(sqlite3.DatabaseError):
    """The parts of a file of the feature store contradict each other."""


class CannotExplainError(ValueError):
    """Evidence of a model is asked for that has none: its head, steps or features have no slope."""


class DivergedError(FloatingPointError):
    """The loss of a network in training is no longer a number."""


class FeatureStoreWarning(CacheWarning):
    """Something is wrong with the feature store; results are right, but rows cost time again."""


class ModelFileError(ValueError):
    """A file is no model file of ours, is damaged, or holds what is no part of a model."""


class UngroupedWarning(UserWarning):
    """Duplicates, if there are any, may stand on both sides of a split."""


class WeightsNotFoundError(FileNotFoundError):
    """Weights cannot be had; the message lists the places searched and the ways out.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import DeepFeatureExtractor, WeightsNotFoundError
    >>> try:
    ...     DeepFeatureExtractor("vgg16", weights="bundled").fit(np.zeros((1, 32, 32)))
    ... except WeightsNotFoundError as error:
    ...     print(str(error).split(",")[0])
    no weights for 'vgg16' ship with hybridus
    """
