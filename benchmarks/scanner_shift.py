"""Scanner shift: what models lose on scans that were changed as other scanners change them.

``python -m benchmarks.scanner_shift [--folds 0] [--level strong] [--seed 0]``: BUSI, folds by
duplicate group. Everything is fitted on the training part as it is; the test part is judged as it
is and under each change of `hybridus.inputs.scanner.SCANNER_CHANGES`. Printed are the area under
the ROC curve (three classes, and malignant against benign) and Dice on lesions, unchanged, mean
over the changes, under the worst and under all at once, and what is lost. Changes are crude
stand-ins: scans of other hospitals are another matter.
"""

import argparse
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from benchmarks._report import keep, load_real_busi, show, use_real_weights
from hybridus import (
    DeepFeatureExtractor,
    EncoderUNetSegmenter,
    LesionFeatures,
    StableFeatures,
)
from hybridus.estimators.scaler import FeatureScaler
from hybridus.inputs.images import as_images
from hybridus.inputs.masks import as_masks
from hybridus.inputs.scanner import SCANNER_CHANGES, apply_changes
from hybridus.metrics import macro_ovr_auc
from hybridus.protocol.folds import repeated_folds
from hybridus.protocol.scoring import LesionScores

UNCHANGED = "unchanged"
TOGETHER = "all at once"


def logistic(C: float) -> LogisticRegression:
    """Make the head of all rows."""
    return LogisticRegression(C=C, class_weight="balanced", max_iter=5000)


class OnRows:
    """A head on rows of features, and the same on those of changed copies."""

    def __init__(self, head: Any, rows: np.ndarray, y: np.ndarray) -> None:
        with threadpool_limits(1, "blas"):
            self.head = head.fit(rows, y)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities of the classes."""
        return self.head.predict_proba(rows)


def main() -> None:
    """Print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, nargs="*", default=[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", default="strong")
    parser.add_argument("--learned", default="medium", help="level that stable features learn from")
    parser.add_argument("--strengths", type=float, nargs="*", default=[1.0])
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--segmenter-size", type=int, default=192)
    parser.add_argument("--segmenter-epochs", type=int, default=14)
    parser.add_argument("--no-lesions", action="store_true")
    arguments = parser.parse_args()
    use_real_weights()
    busi = load_real_busi()
    images, masks = list(as_images(busi.images)), list(as_masks(busi.masks))
    y, groups = np.asarray(busi.target), np.asarray(busi.groups)
    folds = repeated_folds(y, groups, random_state=arguments.seed)
    areas: dict[tuple[str, str], list[tuple[float, float]]] = {}
    dices: dict[tuple[str, str], list[float]] = {}
    for number in arguments.folds:
        train, test = folds[number]
        sees, segmenters = fitted(arguments, images, masks, y, groups, train)
        changes = {UNCHANGED: (), **SCANNER_CHANGES[arguments.level]}
        for change, several in changes.items():
            seen = [apply_changes(several, images[i]) for i in test]
            for name, said in sees(seen).items():
                areas.setdefault((name, change), []).append(areas_of(y[test], said))
            for name, segmenter in segmenters.items():
                drawn = [masks[i] for i in test]
                for one in several:
                    drawn = [one.mask(mask) for mask in drawn]
                lesions = [k for k, mask in enumerate(drawn) if mask.any()]
                found = LesionScores()(
                    segmenter, [seen[k] for k in lesions], [drawn[k] for k in lesions]
                )
                dices.setdefault((name, change), []).append(found["dice"])
            print(f"fold {number}, {change}", flush=True)
    rows = [*told(areas, 0, "AUC, three classes"), *told(areas, 1, "AUC, malignant or benign")]
    rows += told({key: [(one,) for one in of] for key, of in dices.items()}, 0, "Dice")
    for score in dict.fromkeys(row["score"] for row in rows):
        show([row for row in rows if row["score"] == score], f"BUSI, {score}, {arguments.level}")
    keep("scanner_shift", rows, **vars(arguments))


def fitted(
    arguments: Any, images: list, masks: list, y: np.ndarray, groups: np.ndarray, train: np.ndarray
) -> tuple[Any, dict[str, Any]]:
    """Fit all models on a training part; return what they say of images, and the segmenters."""
    inside = [images[i] for i in train]
    whole = DeepFeatureExtractor(arguments.encoder).fit(inside)
    rows = whole.transform(inside)
    plain = OnRows(make_pipeline(FeatureScaler(), logistic(0.003)), rows, y[train])
    stable = {}
    for strength in arguments.strengths:
        features = StableFeatures(whole, changes=arguments.learned, strength=strength).fit(inside)
        shrunk = features.shrink((rows - features.mean_) / features.scale_)
        stable[f"whole image, stable, {strength:g}"] = (
            features,
            OnRows(logistic(0.003), shrunk, y[train]),
        )
    copies = [
        whole.transform([apply_changes(several, image) for image in inside])
        for several in SCANNER_CHANGES[arguments.learned].values()
    ]
    n_copies = 1 + len(copies)
    on_copies = OnRows(
        make_pipeline(FeatureScaler(), logistic(0.003 / n_copies)),
        np.concatenate([rows, *copies]),
        np.tile(y[train], n_copies),
    )
    segmenters, lesions, of_lesions = {}, None, None
    if not arguments.no_lesions:
        settings = {
            "image_size": arguments.segmenter_size,
            "max_epochs": arguments.segmenter_epochs,
            "random_state": 0,
        }
        decoder = EncoderUNetSegmenter(arguments.encoder, **settings)
        lesions = LesionFeatures(decoder, DeepFeatureExtractor(arguments.encoder), n_splits=2)
        lesions.fit(inside, y[train], masks=[masks[i] for i in train], groups=groups[train])
        segmenters["decoder"] = lesions.segmenter_
        of_lesions = OnRows(
            make_pipeline(FeatureScaler(), logistic(0.003)), lesions.transform(inside), y[train]
        )

    def sees(seen: list) -> dict[str, np.ndarray]:
        given = whole.transform(seen)
        said = {
            "whole image": plain(given),
            "whole image, head on changed copies": on_copies(given),
        }
        for name, (features, head) in stable.items():
            said[name] = head(features.shrink((given - features.mean_) / features.scale_))
        if lesions is not None and of_lesions is not None:
            said["lesion"] = of_lesions(lesions.transform(seen))
            for name in [*said]:
                if name != "lesion":
                    said[f"{name}, and lesion"] = (said[name] + said["lesion"]) / 2
        return said

    return sees, segmenters


def areas_of(truth: np.ndarray, said: np.ndarray) -> tuple[float, float]:
    """Area under the curve of three classes, and of malignant against benign."""
    lesions = truth > 0
    two = said[lesions][:, 1:]
    odds = np.column_stack([two[:, 0] / two.sum(axis=1), two[:, 1] / two.sum(axis=1)])
    return (
        macro_ovr_auc(truth, said, labels=[0, 1, 2]),
        macro_ovr_auc(truth[lesions], odds, labels=[1, 2]),
    )


def told(values: dict[tuple[str, str], list[Any]], place: int, score: str) -> list[dict[str, Any]]:
    """Make a row for each model: its score as it is, under the changes, and what is lost."""
    rows = []
    for name in dict.fromkeys(name for name, _ in values):
        by_change = {
            change: float(np.mean([one[place] for one in of]))
            for (model, change), of in values.items()
            if model == name
        }
        plain = by_change.pop(UNCHANGED)
        worst = min(by_change, key=lambda change: by_change[change])
        rows.append(
            {
                "score": score,
                "model": name,
                UNCHANGED: plain,
                "mean of changes": float(np.mean(list(by_change.values()))),
                "lost": plain - float(np.mean(list(by_change.values()))),
                TOGETHER: by_change[TOGETHER],
                "lost then": plain - by_change[TOGETHER],
                "worst": by_change[worst],
                "which": worst,
            }
        )
    return rows


if __name__ == "__main__":
    main()
