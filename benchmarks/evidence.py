"""Evidence on the lesion: which models look at it, and whether a planted mark is found.

``python -m benchmarks.evidence [--seed 0] [--epochs 8]``: BUSI, one fold by duplicate group. For
each model the share of the positive evidence for the true class that lies on the mask, on test
images with a lesion, beside the mask's share of the image, which evidence spread evenly would have.
Then a mark is put into a corner of every malignant image: accuracy rises, and evidence moves there.
A picture of both is written beside the results.
"""

import argparse
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from threadpoolctl import threadpool_limits

from benchmarks._report import RESULTS, keep, load_real_busi, show, use_real_weights
from hybridus import (
    EncoderUNetSegmenter,
    FineTunedClassifier,
    evidence_on_lesion,
    make_hybrid_classifier,
)
from hybridus.inputs.images import as_images
from hybridus.inputs.masks import as_masks
from hybridus.protocol.folds import repeated_folds
from hybridus.report import EvidenceDisplay

MALIGNANT = 1
_MARK = 0.08  # side of the mark, as a share of the shorter side


def models(epochs: int, segmenter: Any) -> dict[str, Any]:
    """All rows of the table."""
    tuned = FineTunedClassifier(
        "mobilenet_v2",
        image_size=128,
        learning_rate=3e-4,
        class_weight="balanced",
        max_epochs=epochs,
        random_state=0,
    )
    encoder = "mobilenet_v2"
    return {
        "last layer, logistic regression": make_hybrid_classifier(encoder, "logreg", layers="last"),
        "several layers, logistic regression": make_hybrid_classifier(encoder, "logreg"),
        "several layers, SVM": make_hybrid_classifier(encoder, "svm"),
        "several layers, MLP": make_hybrid_classifier(encoder, "mlp", random_state=0),
        "fine-tuned, last 20 layers, 128 px": tuned,
        "lesion features, logistic regression": make_hybrid_classifier(
            encoder, "logreg", lesion=segmenter, whole_image=False
        ),
        "whole image and lesion, one head": make_hybrid_classifier(
            encoder, "logreg", lesion=segmenter
        ),
    }


def main() -> None:
    """Print and keep the tables, and draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--segmenter-epochs", type=int, default=10)
    arguments = parser.parse_args()
    use_real_weights()
    busi = load_real_busi()
    images, y = list(as_images(busi.images)), np.asarray(busi.target)
    masks = list(as_masks(busi.masks))
    train, test = repeated_folds(y, busi.groups, random_state=arguments.seed)[0]
    segmenter = EncoderUNetSegmenter(
        "mobilenet_v2",
        image_size=192,
        n_views=2,
        max_epochs=arguments.segmenter_epochs,
        random_state=0,
    ).fit(chosen(images, train), chosen(masks, train), groups=np.asarray(busi.groups)[train])
    made = models(arguments.epochs, FrozenEstimator(segmenter))
    rows = []
    for name, model in made.items():
        with threadpool_limits(1, "blas"):
            model.fit(chosen(images, train), y[train])
        right = np.mean(model.predict(chosen(images, test)) == y[test])
        table = evidence_on_lesion(model, chosen(images, test), y[test], chosen(masks, test))
        for label, row in table.iterrows():
            of = {1: "malignant", 2: "benign", "all": "both"}[label]
            rows.append({"model": name, "lesions": of, "accuracy": right, **row.to_dict()})
        print(table.round(3).to_string(), flush=True)
    show(rows, "BUSI, one fold: share of the evidence for the true class on the lesion")

    planted = [
        with_mark(image)[0] if label == MALIGNANT else image
        for image, label in zip(images, y, strict=True)
    ]
    marks = [with_mark(image)[1] for image in images]
    found = []
    plain = "several layers, logistic regression"
    shortcut = clone(made[plain])
    shortcut.fit(chosen(planted, train), y[train])
    on = test[y[test] == MALIGNANT]
    for what, given in (("with the mark", planted), ("without it", images)):
        table = evidence_on_lesion(shortcut, chosen(given, on), y[on], chosen(marks, on))
        right = float(np.mean(shortcut.predict(chosen(given, test)) == y[test]))
        said = table.loc["all"].to_dict()
        found.append({"test images": what, "accuracy": right, **said})
    show(found, "A mark in a corner of every malignant image: evidence for malignant on the mark")
    keep("evidence", rows + found, **vars(arguments))

    names = list(busi.target_names)
    shown = np.r_[on[:4], test[y[test] == 2][:4]]
    lesion = "lesion features, logistic regression"
    for model, given, marked, name in (
        (made[plain], images, masks, "evidence"),
        (made[lesion], images, masks, "evidence_lesion"),
        (shortcut, planted, marks, "evidence_shortcut"),
    ):
        drawn = EvidenceDisplay.from_estimator(
            model,
            chosen(given, shown),
            masks=chosen(marked, shown),
            y=y[shown],
            class_names=names,
        )
        drawn.figure_.savefig(RESULTS / f"{name}.png", dpi=90)


def chosen(things: list[Any], rows: np.ndarray) -> list[Any]:
    """Take some of a list."""
    return [things[i] for i in rows]


def with_mark(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put a white square into the upper right corner; return where, with a margin, too."""
    marked, where = image.copy(), np.zeros(image.shape[:2], bool)
    side = max(4, round(_MARK * min(image.shape[:2])))
    marked[side : 2 * side, -2 * side : -side] = 255
    where[: 3 * side, -3 * side :] = True
    return marked, where


if __name__ == "__main__":
    main()
