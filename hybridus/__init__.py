"""hybridus: frozen and fine-tuned CNNs and segmenters as scikit-learn estimators.

Public names are imported when they are first used, so that ``import hybridus`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hybridus._version import __version__

if TYPE_CHECKING:
    from hybridus.datasets import (
        load_busi,
        load_image_folder,
        load_segmentation_folder,
        make_breast_phantoms,
        read_groups,
    )
    from hybridus.encoders.registry import (
        EncoderSpec,
        Preprocessing,
        list_encoders,
        register_encoder,
    )
    from hybridus.estimators.classifiers import FineTunedClassifier
    from hybridus.estimators.features import DeepFeatureExtractor
    from hybridus.estimators.hybrid import make_hybrid_classifier
    from hybridus.estimators.preprocessing import ContrastEqualizer, SpeckleFilter
    from hybridus.estimators.segmenters import (
        DnCNNSegmenter,
        EncoderUNetSegmenter,
        PixelSegmenter,
        Postprocessing,
        ResNet50Segmenter,
        UNetSegmenter,
        VotingSegmenter,
    )
    from hybridus.exceptions import WeightsNotFoundError
    from hybridus.inputs.augmentation import Augmentation
    from hybridus.protocol.compare import Comparison, compare
    from hybridus.protocol.folds import LesionGroupKFold
    from hybridus.protocol.scoring import LesionScores
    from hybridus.report import SegmentationDisplay, TrainingHistoryDisplay
    from hybridus.store.rows import FeatureStore

_HOMES = {
    "Augmentation": "hybridus.inputs.augmentation",
    "Comparison": "hybridus.protocol.compare",
    "ContrastEqualizer": "hybridus.estimators.preprocessing",
    "DeepFeatureExtractor": "hybridus.estimators.features",
    "DnCNNSegmenter": "hybridus.estimators.segmenters",
    "EncoderSpec": "hybridus.encoders.registry",
    "EncoderUNetSegmenter": "hybridus.estimators.segmenters",
    "FeatureStore": "hybridus.store.rows",
    "FineTunedClassifier": "hybridus.estimators.classifiers",
    "LesionGroupKFold": "hybridus.protocol.folds",
    "LesionScores": "hybridus.protocol.scoring",
    "PixelSegmenter": "hybridus.estimators.segmenters",
    "Postprocessing": "hybridus.estimators.segmenters",
    "Preprocessing": "hybridus.encoders.registry",
    "ResNet50Segmenter": "hybridus.estimators.segmenters",
    "SegmentationDisplay": "hybridus.report",
    "SpeckleFilter": "hybridus.estimators.preprocessing",
    "TrainingHistoryDisplay": "hybridus.report",
    "UNetSegmenter": "hybridus.estimators.segmenters",
    "VotingSegmenter": "hybridus.estimators.segmenters",
    "WeightsNotFoundError": "hybridus.exceptions",
    "compare": "hybridus.protocol.compare",
    "list_encoders": "hybridus.encoders.registry",
    "load_busi": "hybridus.datasets",
    "load_image_folder": "hybridus.datasets",
    "load_segmentation_folder": "hybridus.datasets",
    "make_breast_phantoms": "hybridus.datasets",
    "make_hybrid_classifier": "hybridus.estimators.hybrid",
    "read_groups": "hybridus.datasets",
    "register_encoder": "hybridus.encoders.registry",
}

__all__ = [
    "Augmentation",
    "Comparison",
    "ContrastEqualizer",
    "DeepFeatureExtractor",
    "DnCNNSegmenter",
    "EncoderSpec",
    "EncoderUNetSegmenter",
    "FeatureStore",
    "FineTunedClassifier",
    "LesionGroupKFold",
    "LesionScores",
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
    "load_segmentation_folder",
    "make_breast_phantoms",
    "make_hybrid_classifier",
    "read_groups",
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
