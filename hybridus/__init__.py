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
    from hybridus.displays import SegmentationDisplay, TrainingHistoryDisplay
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
    from hybridus.preprocessing import ContrastEqualizer, SpeckleFilter
    from hybridus.segmentation_folds import score_segmenters
    from hybridus.segmenters import (
        DnCNNSegmenter,
        EncoderUNetSegmenter,
        PixelSegmenter,
        Postprocessing,
        ResNet50Segmenter,
        UNetSegmenter,
        VotingSegmenter,
    )

_HOMES = {
    "Augmentation": "hybridus.augmentation",
    "ContrastEqualizer": "hybridus.preprocessing",
    "DeepFeatureExtractor": "hybridus.features",
    "DnCNNSegmenter": "hybridus.segmenters",
    "EncoderSpec": "hybridus.encoders.registry",
    "EncoderUNetSegmenter": "hybridus.segmenters",
    "FeatureStore": "hybridus.feature_store",
    "FineTunedClassifier": "hybridus.classifiers",
    "PixelSegmenter": "hybridus.segmenters",
    "Postprocessing": "hybridus.segmenters",
    "Preprocessing": "hybridus.encoders.registry",
    "ResNet50Segmenter": "hybridus.segmenters",
    "SegmentationDisplay": "hybridus.displays",
    "SpeckleFilter": "hybridus.preprocessing",
    "TrainingHistoryDisplay": "hybridus.displays",
    "UNetSegmenter": "hybridus.segmenters",
    "VotingSegmenter": "hybridus.segmenters",
    "WeightsNotFoundError": "hybridus.encoders.weights",
    "compare": "hybridus.model_selection",
    "list_encoders": "hybridus.encoders.registry",
    "load_busi": "hybridus.datasets",
    "load_image_folder": "hybridus.datasets",
    "make_breast_phantoms": "hybridus.datasets",
    "make_hybrid_classifier": "hybridus.hybrid",
    "register_encoder": "hybridus.encoders.registry",
    "score_segmenters": "hybridus.segmentation_folds",
}

__all__ = [
    "Augmentation",
    "ContrastEqualizer",
    "DeepFeatureExtractor",
    "DnCNNSegmenter",
    "EncoderSpec",
    "EncoderUNetSegmenter",
    "FeatureStore",
    "FineTunedClassifier",
    "PixelSegmenter",
    "Postprocessing",
    "Preprocessing",
    "ResNet50Segmenter",
    "SegmentationDisplay",
    "SpeckleFilter",
    "TrainingHistoryDisplay",
    "UNetSegmenter",
    "VotingSegmenter",
    "WeightsNotFoundError",
    "__version__",
    "compare",
    "list_encoders",
    "load_busi",
    "load_image_folder",
    "make_breast_phantoms",
    "make_hybrid_classifier",
    "register_encoder",
    "score_segmenters",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
