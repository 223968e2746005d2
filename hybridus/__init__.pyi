# The one list of public names: __init__.py reads it, and so do type checkers.
from ._version import __version__ as __version__
from .datasets import (
    load_breastmnist as load_breastmnist,
    load_busi as load_busi,
    load_image_folder as load_image_folder,
    load_segmentation_folder as load_segmentation_folder,
    make_breast_phantoms as make_breast_phantoms,
    read_groups as read_groups,
)
from .encoders.registry import (
    EncoderSpec as EncoderSpec,
    Preprocessing as Preprocessing,
    list_encoders as list_encoders,
    register_encoder as register_encoder,
)
from .estimators.classifiers import FineTunedClassifier as FineTunedClassifier
from .estimators.features import DeepFeatureExtractor as DeepFeatureExtractor
from .estimators.hybrid import make_hybrid_classifier as make_hybrid_classifier
from .estimators.lesion.features import LesionFeatures as LesionFeatures
from .estimators.preprocessing import (
    BorderCropper as BorderCropper,
    ContrastEqualizer as ContrastEqualizer,
    SpeckleFilter as SpeckleFilter,
)
from .estimators.segmenters import (
    DnCNNSegmenter as DnCNNSegmenter,
    EncoderUNetSegmenter as EncoderUNetSegmenter,
    PixelSegmenter as PixelSegmenter,
    Postprocessing as Postprocessing,
    ResNet50Segmenter as ResNet50Segmenter,
    UNetSegmenter as UNetSegmenter,
    VotingSegmenter as VotingSegmenter,
)
from .estimators.stable import StableFeatures as StableFeatures
from .estimators.texture import TextureFeatures as TextureFeatures
from .evidence.explain import (
    Explanation as Explanation,
    evidence_on_lesion as evidence_on_lesion,
    explain as explain,
)
from .evidence.scorer import EvidenceScorer as EvidenceScorer
from .exceptions import WeightsNotFoundError as WeightsNotFoundError
from .exporting.export import export as export
from .extraction.extract import Extraction as Extraction, extract as extract
from .extraction.heads import fit_out_of_core as fit_out_of_core
from .inputs.augmentation import Augmentation as Augmentation
from .inputs.dicom_paths import dicom_path as dicom_path
from .persistence.card import ModelCard as ModelCard
from .persistence.model_file import load as load, read_card as read_card, save as save
from .presets import list_presets as list_presets, make_preset as make_preset
from .protocol.audit import Audit as Audit, audit as audit
from .protocol.compare import compare as compare
from .protocol.comparison import Comparison as Comparison
from .protocol.duplicates import near_duplicate_groups as near_duplicate_groups
from .protocol.folds import LesionGroupKFold as LesionGroupKFold
from .protocol.scoring import LesionScores as LesionScores
from .report import (
    ConfusionDisplay as ConfusionDisplay,
    FeatureMapDisplay as FeatureMapDisplay,
    ForestDisplay as ForestDisplay,
    PrecisionRecallDisplay as PrecisionRecallDisplay,
    ReferralDisplay as ReferralDisplay,
    ReliabilityDisplay as ReliabilityDisplay,
    RocDisplay as RocDisplay,
    SegmentationDisplay as SegmentationDisplay,
    TrainingHistoryDisplay as TrainingHistoryDisplay,
)
from .store.rows import FeatureStore as FeatureStore
