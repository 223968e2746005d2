# The one list of public names: __init__.py reads it, and so do type checkers.
from ._version import __version__ as __version__
from .datasets import (
    load_busi as load_busi,
)
from .datasets import (
    load_image_folder as load_image_folder,
)
from .datasets import (
    load_segmentation_folder as load_segmentation_folder,
)
from .datasets import (
    make_breast_phantoms as make_breast_phantoms,
)
from .datasets import (
    read_groups as read_groups,
)
from .encoders.registry import (
    EncoderSpec as EncoderSpec,
)
from .encoders.registry import (
    Preprocessing as Preprocessing,
)
from .encoders.registry import (
    list_encoders as list_encoders,
)
from .encoders.registry import (
    register_encoder as register_encoder,
)
from .estimators.classifiers import FineTunedClassifier as FineTunedClassifier
from .estimators.features import DeepFeatureExtractor as DeepFeatureExtractor
from .estimators.hybrid import make_hybrid_classifier as make_hybrid_classifier
from .estimators.preprocessing import (
    ContrastEqualizer as ContrastEqualizer,
)
from .estimators.preprocessing import (
    SpeckleFilter as SpeckleFilter,
)
from .estimators.segmenters import (
    DnCNNSegmenter as DnCNNSegmenter,
)
from .estimators.segmenters import (
    EncoderUNetSegmenter as EncoderUNetSegmenter,
)
from .estimators.segmenters import (
    PixelSegmenter as PixelSegmenter,
)
from .estimators.segmenters import (
    Postprocessing as Postprocessing,
)
from .estimators.segmenters import (
    ResNet50Segmenter as ResNet50Segmenter,
)
from .estimators.segmenters import (
    UNetSegmenter as UNetSegmenter,
)
from .estimators.segmenters import (
    VotingSegmenter as VotingSegmenter,
)
from .exceptions import WeightsNotFoundError as WeightsNotFoundError
from .inputs.augmentation import Augmentation as Augmentation
from .presets import list_presets as list_presets
from .presets import make_preset as make_preset
from .protocol.compare import compare as compare
from .protocol.comparison import Comparison as Comparison
from .protocol.folds import LesionGroupKFold as LesionGroupKFold
from .protocol.scoring import LesionScores as LesionScores
from .report import (
    SegmentationDisplay as SegmentationDisplay,
)
from .report import (
    TrainingHistoryDisplay as TrainingHistoryDisplay,
)
from .store.rows import FeatureStore as FeatureStore
