"""Scores of fitted models: one callable gives all that a comparison of classes or masks reports."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import check_scoring

from hybridus.inputs.masks import resize_mask
from hybridus.inputs.sizes import resolve_size
from hybridus.metrics import macro_ovr_auc_scorer, segmentation_report
from hybridus.metrics.pairs import MaskPairs

Scorer = Callable[..., Any]
Scoring = str | Sequence[str] | Mapping[str, str | Scorer] | Scorer | None

CLASS_SCORES: dict[str, str | Scorer] = {
    **{name: name for name in ("accuracy", "f1_macro", "balanced_accuracy")},
    "macro_ovr_auc": macro_ovr_auc_scorer,
}


EVIDENCE = "evidence_on_lesion"

# What tables say of a score whose name does not say enough.
MEANINGS = {
    EVIDENCE: "mean share of the positive evidence for the true class that lies on the mask, of "
    "images with a lesion",
    "hausdorff_95": "95th percentile of the distance between outlines, in pixels; the diagonal of "
    "the image where nothing is predicted",
}


class _Judged(NamedTuple):
    """`hybridus.metrics.segmentation_report` of images, and which of them show a lesion or none."""

    report: pd.DataFrame
    lesions: NDArray[np.bool_]
    normals: NDArray[np.bool_]

    def share(self, values: Any, images: Any) -> NDArray[np.float64]:
        """Say what each image adds to a sum, and to what that is divided by."""
        counted = np.asarray(images, dtype=float)
        return np.column_stack([np.where(counted > 0, values, 0), counted])


# A metric that every comparison of segmenters should report is a row here. It is the ratio of two
# sums over images, so that it can be taken over any of them.
_LESION_SCORES: dict[str, Callable[[_Judged], NDArray[np.float64]]] = {
    "dice": lambda images: images.share(images.report["dice"], images.lesions),
    "iou": lambda images: images.share(images.report["iou"], images.lesions),
    "hausdorff_95": lambda images: images.share(images.report["hausdorff_95"], images.lesions),
    "detection_rate": lambda images: images.share(
        images.report["n_detected"], images.report["n_true"]
    ),
    "false_positive_rate": lambda images: images.share(
        images.report["n_false_positive"] > 0, images.normals
    ),
    "dice_all": lambda images: images.share(images.report["dice"], np.ones(len(images.report))),
}


@dataclass(frozen=True)
class LesionScores:
    """Scores of a fitted segmenter: ``scoring`` of `compare` and throughout scikit-learn.

    A callable ``(estimator, X, masks) -> dict``, as `cross_validate` and `GridSearchCV` take it
    (there with ``refit="dice"``). The segmenter predicts once for all scores.

    Parameters
    ----------
    mask_size : int, (int, int) or None, default=None
        Height and width in pixels that true and predicted masks are brought to before they are
        judged, so that distances in images of different sizes have one unit. None judges them at
        the size of each image.
    metrics : dict of str to callable, default=None
        Further scores by name: ``metric(masks_true, masks_pred) -> float``, as the functions of
        `hybridus.metrics` are, called with the masks of the images with a lesion.

    Returns
    -------
    dict of str to float
        Means over images with a lesion: ``dice``, ``iou`` and ``hausdorff_95`` (in pixels; the
        diagonal of the mask where nothing is predicted, so that silence does not pay), without
        those whose lesion vanishes at `mask_size`; ``detection_rate``, the share of lesions that a
        prediction touches; ``false_positive_rate``, the share of images without lesion in which
        any pixel is predicted (NaN where there are none); ``dice_all``, over all images, 1 where
        there is neither lesion nor prediction; then those of `metrics`.

    Raises
    ------
    ValueError
        For a `mask_size` that is no size and a metric whose name is taken; when called, where
        the estimator predicts masks of another size than the true ones.

    Warns
    -----
    sklearn.exceptions.UndefinedMetricWarning
        When no image has a lesion: the scores of lesions are NaN then.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_validate
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import PixelSegmenter
    >>> from hybridus.protocol.folds import LesionGroupKFold
    >>> from hybridus.protocol.scoring import LesionScores
    >>> phantoms = make_breast_phantoms(30, image_size=32, random_state=0)
    >>> pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=32, random_state=0)
    >>> results = cross_validate(pixels, phantoms.images, phantoms.masks, cv=LesionGroupKFold(2),
    ...     scoring=LesionScores())
    >>> bool((0 < results["test_dice"]).all() and (results["test_dice"] < 1).all())
    True
    """

    mask_size: int | tuple[int, int] | None = None
    _: KW_ONLY
    metrics: Mapping[str, Callable[[Any, Any], float]] | None = None

    def __post_init__(self) -> None:
        if self.mask_size is not None:
            resolve_size(self.mask_size, "mask_size")
        for name in self.metrics or {}:
            if name in _LESION_SCORES:
                raise ValueError(f"metrics[{name!r}]: this name is one of LesionScores' own")

    def __call__(self, estimator: Any, X: Any, masks: Any) -> dict[str, float]:
        """Score what a fitted segmenter predicts."""
        return self.judge(masks, estimator.predict(X))

    def judge(self, masks_true: Any, masks_pred: Any) -> dict[str, float]:
        """Score masks that were predicted already."""
        return self.judge_images(masks_true, masks_pred)[0]

    def judge_images(
        self, masks_true: Any, masks_pred: Any
    ) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
        """Score masks that were predicted already, and say what each image adds.

        Returns
        -------
        scores : dict of str to float
        by_image : dict of str to array of shape (n_images, 2)
            A score is the sum of the first column over that of the second, for all images and for
            any part of them. `metrics` are not among them.
        """
        size = None if self.mask_size is None else resolve_size(self.mask_size, "mask_size")
        truth, found, has_lesion = [], [], []
        for true, pred in MaskPairs(masks_true, masks_pred):
            has_lesion.append(true.any())
            truth.append(true if size is None else resize_mask(true, size))
            found.append(pred if size is None else resize_mask(pred, size))
        report = segmentation_report(truth, found)
        # A lesion that is lost at this size is none to find, and its image no normal one.
        shown = report["n_true"].to_numpy() > 0
        judged = _Judged(report, shown, ~np.array(has_lesion))
        by_image = {name: shares(judged) for name, shares in _LESION_SCORES.items()}
        scores = {}
        for name, shares in by_image.items():
            summed, counted = shares.sum(axis=0)
            scores[name] = float(summed / counted) if counted else float("nan")
        further = dict(self.metrics or {})
        if not shown.any():
            warnings.warn(
                f"none of the {len(report)} images shows a lesion: scores of lesions are undefined",
                UndefinedMetricWarning,
                stacklevel=3,
            )
            return scores | dict.fromkeys(further, float("nan")), by_image
        lesions = np.flatnonzero(shown)
        pair = [truth[i] for i in lesions], [found[i] for i in lesions]
        return scores | {name: float(metric(*pair)) for name, metric in further.items()}, by_image


def scorer_for(model: Any, scoring: Scoring, *, default: Scoring) -> Scorer:
    """Make what is called with a fitted model, X and y, and returns one score or a dict of them.

    Raises
    ------
    ValueError
        Where scikit-learn does not know a name.
    """
    chosen = default if scoring is None else scoring
    if callable(chosen):
        return chosen
    chosen = [chosen] if isinstance(chosen, str) else chosen
    if not chosen:
        raise ValueError(f"scoring={scoring!r} names no score: expected one at least, or None")
    if not isinstance(chosen, Mapping | list | tuple):
        raise TypeError(
            f"scoring={scoring!r}: expected a name or names of scikit-learn's scorers, a dict of "
            "names to scorers, or a callable"
        )
    by_name = chosen if isinstance(chosen, Mapping) else {name: name for name in chosen}
    return check_scoring(model, scoring=dict(by_name))


def score_model(scorer: Scorer, model: Any, X: Any, y: Any) -> dict[str, float]:
    """Score a fitted model; a scorer that returns one number gives the score named "score".

    Raises
    ------
    ValueError
        Where a score is no number.
    """
    found = scorer(model, X, y)
    scores = dict(found) if isinstance(found, Mapping) else {"score": found}
    for name, value in scores.items():
        try:
            scores[name] = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"scoring: {name!r} is {value!r:.80}, expected a number (the scorer is {scorer!r})"
            ) from None
    if not scores:
        raise ValueError(f"scoring: {scorer!r} returned no score")
    return scores
