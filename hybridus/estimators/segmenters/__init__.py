"""Lesion segmenters as estimators: images in, masks out."""

from hybridus.estimators.segmenters.base import NetworkSegmenter
from hybridus.estimators.segmenters.dncnn import DnCNNSegmenter
from hybridus.estimators.segmenters.encoder_unet import EncoderUNetSegmenter, ResNet50Segmenter
from hybridus.estimators.segmenters.pixel import PixelSegmenter
from hybridus.estimators.segmenters.prediction import Postprocessing, is_segmenter
from hybridus.estimators.segmenters.unet import UNetSegmenter
from hybridus.estimators.segmenters.voting import VotingSegmenter

__all__ = [
    "DnCNNSegmenter",
    "EncoderUNetSegmenter",
    "NetworkSegmenter",
    "PixelSegmenter",
    "Postprocessing",
    "ResNet50Segmenter",
    "UNetSegmenter",
    "VotingSegmenter",
    "is_segmenter",
]
