"""Displays of results: Matplotlib draws them, and is imported when something is drawn.

Displays know colours, marks and layout, nothing of models.
"""

from hybridus.report.confusion import ConfusionDisplay
from hybridus.report.curves import PrecisionRecallDisplay, RocDisplay
from hybridus.report.evidence_display import EvidenceDisplay
from hybridus.report.feature_map import FeatureMapDisplay
from hybridus.report.forest import ForestDisplay
from hybridus.report.history import TrainingHistoryDisplay, best_so_far
from hybridus.report.referral import ReferralDisplay
from hybridus.report.reliability import ReliabilityDisplay
from hybridus.report.segmentation import SegmentationDisplay

__all__ = [
    "ConfusionDisplay",
    "EvidenceDisplay",
    "FeatureMapDisplay",
    "ForestDisplay",
    "PrecisionRecallDisplay",
    "ReferralDisplay",
    "ReliabilityDisplay",
    "RocDisplay",
    "SegmentationDisplay",
    "TrainingHistoryDisplay",
    "best_so_far",
]
