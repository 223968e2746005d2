"""Lesion segmenters as estimators: images in, masks out."""

from hybridus.segmenters._answers import Postprocessing
from hybridus.segmenters.dncnn import DnCNNSegmenter
from hybridus.segmenters.encoder_unet import EncoderUNetSegmenter, ResNet50Segmenter
from hybridus.segmenters.pixel import PixelSegmenter
from hybridus.segmenters.unet import UNetSegmenter
from hybridus.segmenters.voting import VotingSegmenter

__all__ = [
    "DnCNNSegmenter",
    "EncoderUNetSegmenter",
    "PixelSegmenter",
    "Postprocessing",
    "ResNet50Segmenter",
    "UNetSegmenter",
    "VotingSegmenter",
]
