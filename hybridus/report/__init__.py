"""Displays of results: Matplotlib draws them, and is imported when something is drawn.

Displays know colours, marks and layout, nothing of models.
"""

from hybridus.report.history import TrainingHistoryDisplay, best_so_far
from hybridus.report.referral import ReferralDisplay
from hybridus.report.reliability import ReliabilityDisplay
from hybridus.report.segmentation import SegmentationDisplay

__all__ = [
    "ReferralDisplay",
    "ReliabilityDisplay",
    "SegmentationDisplay",
    "TrainingHistoryDisplay",
    "best_so_far",
]
