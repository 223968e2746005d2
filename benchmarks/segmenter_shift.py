"""Segmenter shift: what decoders lose on scans that were changed as other scanners change them.

``python -m benchmarks.segmenter_shift [--folds 0] [--seed 0] [--level strong]``: BUSI, folds by
duplicate group, images with a lesion. Decoders on frozen networks are trained on the training part,
with augmentation as it is by default ("strong") and with one that changes aspect, gain and
resolution too ("scanner"), and judged on the test part as it is and under each change of
`hybridus.inputs.scanner.SCANNER_CHANGES`: mean Dice, and what is lost of it. The changes are not
the code of the augmentation, but of its kinds: scans of other hospitals are another matter.
"""

import argparse
import itertools
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from benchmarks._report import keep, load_real_busi, show, use_real_weights
from benchmarks.scanner_shift import TOGETHER, UNCHANGED, told
from hybridus import (
    Augmentation,
    ContrastEqualizer,
    EncoderUNetSegmenter,
    SpeckleFilter,
    VotingSegmenter,
)
from hybridus.inputs.images import as_images
from hybridus.inputs.masks import as_masks
from hybridus.inputs.scanner import SCANNER_CHANGES, apply_changes
from hybridus.protocol.folds import repeated_folds
from hybridus.protocol.scoring import LesionScores

# What other scanners change, and stronger.
SCANNER = Augmentation(
    shift=0.1,
    rotation=15,
    zoom=0.35,
    aspect=0.3,
    brightness=0.1,
    contrast=0.3,
    gain=1.0,
    gamma=0.8,
    speckle=0.3,
    resolution=3.0,
)
PREPARED = make_pipeline(SpeckleFilter(), ContrastEqualizer())


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, nargs="*", default=[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", default="strong")
    parser.add_argument("--encoders", nargs="*", default=["mobilenet_v2"])
    parser.add_argument("--augmentations", nargs="*", default=["strong", "scanner"])
    parser.add_argument(
        "--prepared",
        nargs="*",
        default=["no"],
        help="whether speckle is filtered and contrast equalised first, in training and test",
    )
    parser.add_argument("--views", type=int, nargs="*", default=[4])
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=14)
    arguments = parser.parse_args()
    use_real_weights()
    busi = load_real_busi()
    images, masks = list(as_images(busi.images)), list(as_masks(busi.masks))
    y, groups = np.asarray(busi.target), np.asarray(busi.groups)
    folds = repeated_folds(y, groups, random_state=arguments.seed)
    dices: dict[tuple[str, str], list[tuple[float]]] = {}
    for number in arguments.folds:
        train, test = folds[number]
        decoders = fitted(arguments, images, masks, groups, train)
        for change, several in {UNCHANGED: (), **SCANNER_CHANGES[arguments.level]}.items():
            seen, drawn = [], []
            for i in test:
                mask = masks[i]
                for one in several:
                    mask = one.mask(mask)
                if mask.any():
                    seen.append(apply_changes(several, images[i]))
                    drawn.append(mask)
            prepared = {"no": seen, "yes": PREPARED.fit(seen).transform(seen)}
            for name, decoder in decoders.items():
                seen = prepared["yes" if name.endswith(" prepared") else "no"]
                found = LesionScores()(decoder, seen, drawn)["dice"]
                dices.setdefault((name, change), []).append((found,))
        print(f"fold {number}", flush=True)
    rows: list[dict[str, Any]] = []
    for row in told(dices, 0, "Dice"):
        lost = {"share lost": row["lost"] / row[UNCHANGED]}
        rows.append(row | lost | {"share lost then": row["lost then"] / row[UNCHANGED]})
    show(rows, f"BUSI, Dice on lesions, {arguments.level} changes ({TOGETHER} among them)")
    keep("segmenter_shift", rows, **vars(arguments))


def fitted(
    arguments: Any, images: list, masks: list, groups: np.ndarray, train: np.ndarray
) -> dict[str, Any]:
    """Train the decoders of all rows, and average those of several encoders."""
    decoders: dict[str, Any] = {}
    choices = itertools.product(arguments.augmentations, arguments.views, arguments.prepared)
    for augmentation, n_views, prepared in choices:
        inside = [images[i] for i in train], [masks[i] for i in train]
        if prepared == "yes":
            inside = PREPARED.fit(inside[0]).transform(inside[0]), inside[1]
        about = f"{augmentation}, {n_views} views" + ", prepared" * (prepared == "yes")
        parts = []
        for encoder in arguments.encoders:
            decoder = EncoderUNetSegmenter(
                encoder,
                image_size=arguments.image_size,
                max_epochs=arguments.epochs,
                augmentation=SCANNER if augmentation == "scanner" else augmentation,
                n_views=n_views,
                random_state=0,
            )
            decoder.fit(*inside, groups=groups[train])
            name = f"{encoder}, {about}"
            decoders[name] = decoder
            parts.append((encoder, FrozenEstimator(decoder)))
            print(name, flush=True)
        if len(parts) > 1:
            average = VotingSegmenter(parts).fit(*inside)
            decoders[f"average, {about}"] = average
    return decoders


if __name__ == "__main__":
    main()
