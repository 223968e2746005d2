"""
Segmentation: a decoder on a frozen network against a U-Net
===========================================================

Masks in place of classes, and the same call. A U-Net learns everything from your scans. A decoder
on a frozen network learns only how to put together what the network sees already, so it needs less
time and fewer scans. With hundreds of real scans and seventy epochs the U-Net was ahead:
:doc:`/results`.
"""

from hybridus import EncoderUNetSegmenter, LesionScores, UNetSegmenter, make_breast_phantoms

# sphinx_gallery_thumbnail_number = 2
scans = make_breast_phantoms(
    48, image_size=64, difficulty=0.3, class_weights=[0, 1, 1], random_state=0
)
settings = {"image_size": 64, "batch_size": 8, "random_state": 0}
segmenters = {
    "decoder on a frozen network": EncoderUNetSegmenter(
        "mobilenet_v2_0.35", weights="bundled", n_views=1, max_epochs=8, **settings
    ),
    "U-Net": UNetSegmenter(2, 8, max_epochs=8, **settings),
}

# %%
# Two folds, to be quick. ``LesionScores`` measures masks at one size for all.
from hybridus import compare

study = compare(
    segmenters,
    scans.images,
    scans.masks,
    groups=scans.groups,
    n_splits=2,
    scoring=LesionScores(mask_size=64),
)
study.table[["dice_mean", "iou_mean", "hausdorff_95_mean", "fit_seconds"]].round(3)

# %%
# Each scan counts once, under the segmenter that had not seen it.
from hybridus import ForestDisplay

ForestDisplay.from_comparison(study, "dice")

# %%
# **The point:** look at the worst masks, not only at the mean. Here are the best, the middle and
# the worst of the decoder, on scans of the fold that it was not trained on.
import numpy as np

from hybridus import SegmentationDisplay

best = study.table.index[0]
unseen = study.results[0].test
predicted = study.predictions[best][0].to_numpy()[unseen]
SegmentationDisplay.from_predictions(
    scans.images[unseen],
    scans.masks[unseen],
    np.stack(list(predicted)),
    y=scans.target[unseen],
    target_names=scans.target_names,
)
