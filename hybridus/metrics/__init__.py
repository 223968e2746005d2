"""Scores: numbers that say how well predictions agree with the truth.

Only what scikit-learn does not have, or has for probabilities alone, is written here.
"""

from hybridus.metrics.boundaries import hausdorff_95, normalized_surface_dice
from hybridus.metrics.classification import macro_ovr_auc, macro_ovr_auc_scorer
from hybridus.metrics.lesions import false_positive_rate, lesion_detection
from hybridus.metrics.segmentation import (
    dice,
    dice_scorer,
    iou,
    iou_scorer,
    neg_hausdorff_95_scorer,
    pixel_f1,
    pixel_precision,
    pixel_recall,
    segmentation_report,
)

__all__ = [
    "dice",
    "dice_scorer",
    "false_positive_rate",
    "hausdorff_95",
    "iou",
    "iou_scorer",
    "lesion_detection",
    "macro_ovr_auc",
    "macro_ovr_auc_scorer",
    "neg_hausdorff_95_scorer",
    "normalized_surface_dice",
    "pixel_f1",
    "pixel_precision",
    "pixel_recall",
    "segmentation_report",
]
