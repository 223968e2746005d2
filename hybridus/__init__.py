"""hybridus: frozen and fine-tuned CNNs and segmenters as scikit-learn estimators.

Public names are imported when they are first used, so that ``import hybridus`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hybridus._version import __version__

if TYPE_CHECKING:
    from hybridus.augmentation import Augmentation
    from hybridus.classifiers import FineTunedClassifier
    from hybridus.datasets import load_busi, load_image_folder, make_breast_phantoms
    from hybridus.displays import TrainingHistoryDisplay
    from hybridus.encoders.registry import (
        EncoderSpec,
        Preprocessing,
        list_encoders,
        register_encoder,
    )
    from hybridus.encoders.weights import WeightsNotFoundError
    from hybridus.feature_store import FeatureStore
    from hybridus.features import DeepFeatureExtractor
    from hybridus.hybrid import make_hybrid_classifier
    from hybridus.model_selection import compare

_HOMES = {
    "Augmentation": "hybridus.augmentation",
    "DeepFeatureExtractor": "hybridus.features",
    "EncoderSpec": "hybridus.encoders.registry",
    "FeatureStore": "hybridus.feature_store",
    "FineTunedClassifier": "hybridus.classifiers",
    "Preprocessing": "hybridus.encoders.registry",
    "TrainingHistoryDisplay": "hybridus.displays",
    "WeightsNotFoundError": "hybridus.encoders.weights",
    "compare": "hybridus.model_selection",
    "list_encoders": "hybridus.encoders.registry",
    "load_busi": "hybridus.datasets",
    "load_image_folder": "hybridus.datasets",
    "make_breast_phantoms": "hybridus.datasets",
    "make_hybrid_classifier": "hybridus.hybrid",
    "register_encoder": "hybridus.encoders.registry",
}

__all__ = [
    "Augmentation",
    "DeepFeatureExtractor",
    "EncoderSpec",
    "FeatureStore",
    "FineTunedClassifier",
    "Preprocessing",
    "TrainingHistoryDisplay",
    "WeightsNotFoundError",
    "__version__",
    "compare",
    "list_encoders",
    "load_busi",
    "load_image_folder",
    "make_breast_phantoms",
    "make_hybrid_classifier",
    "register_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
