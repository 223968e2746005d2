"""How segmenters are compared: the same folds for all, masks judged at one size.

Data flows one way: `lesion_folds` gives indices, `segment_folds` what each model predicts on each
fold, `score_segmenters` one row of scores for each model and fold, and
`hybridus.protocol.model_selection.summarize` one row for each model.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_consistent_length

from hybridus._sklearn import _safe_indexing
from hybridus.encoders.frozen import resolve_size
from hybridus.inputs.masks import as_masks, resize_mask
from hybridus.metrics import segmentation_report
from hybridus.metrics.pairs import MaskPairs
from hybridus.protocol.folds import Folds, repeated_folds
from hybridus.protocol.model_selection import _say_split
from hybridus.protocol.routing import fit_with_groups

MaskSize = int | tuple[int, int] | None


@dataclass(frozen=True)
class SegmentedFold:
    """What a model predicted on the test part of a fold, and how good that is.

    Attributes
    ----------
    model : str
    repeat, fold : int
    train, test : arrays of int
        Positions of the images.
    predicted : masks
        As the model answered, one for each of `test`.
    scores : dict of str to float
        See `score_segmenters`.
    fit_seconds, score_seconds : float
    best_params : str
        What a search chose, as JSON; empty for other models.
    """

    model: str
    repeat: int
    fold: int
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    predicted: Any
    scores: dict[str, float]
    fit_seconds: float
    score_seconds: float
    best_params: str = ""

    def row(self) -> dict[str, Any]:
        """Everything but the masks, as `score_segmenters` puts it into a row."""
        return {
            "model": self.model,
            "repeat": self.repeat,
            "fold": self.fold,
            "n_train": len(self.train),
            "n_test": len(self.test),
            "test_set": f"{zlib.crc32(self.test.tobytes()):08x}",
            **self.scores,
            "fit_seconds": self.fit_seconds,
            "score_seconds": self.score_seconds,
            "best_params": self.best_params,
        }


def score_segmenters(
    models: Mapping[str, BaseEstimator],
    X: Any,
    masks: Any,
    *,
    y: ArrayLike | None = None,
    groups: ArrayLike | str | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
    mask_size: MaskSize = None,
) -> pd.DataFrame:
    """Fit and judge every segmenter on the same folds; one row for each model and fold.

    Models can be scored in several calls and their rows put together; `summarize` makes a table
    of them, ranked by Dice.

    Parameters
    ----------
    models : dict of str to segmenter
        What predicts masks of the size of its images; a `Pipeline` or a search over one too.
        Clones are fitted.
    X : array, list or pandas object of n_samples images or paths
    masks : array or list of n_samples masks
        Images without lesion are scored apart from those with one.
    y : array-like of shape (n_samples,), default=None
        Classes. Each fold holds them in about equal shares; None takes images with and without
        lesion for two classes.
    groups : array-like of shape (n_samples,), "independent" or None, default=None
        Images of one group (duplicates, one patient) stay on one side of every split, that for
        validation inside a model's `fit` too. ``"independent"`` states that no two belong
        together; None assumes so, with a warning.
    n_splits, n_repeats : int, default=5 and 1
        Folds, and how often they are drawn anew.
    random_state : int, default=0
        Decides the folds (see `repeated_folds`); the models have their own.
    mask_size : int, (int, int) or None, default=None
        Height and width in pixels that true and predicted masks are brought to before they are
        judged, so that distances in images of different sizes have one unit. None judges them at
        the size of each image.

    Returns
    -------
    pandas.DataFrame
        Columns ``model``, ``repeat``, ``fold``, ``n_train``, ``n_test``, ``test_set`` (checksum of
        the tested indices); means over test images with a lesion: ``dice``, ``iou``,
        ``hausdorff_95`` (pixels; the diagonal of the mask where nothing is predicted), without
        those whose lesion vanishes at `mask_size`;
        ``detection_rate``, the share of lesions that a prediction touches;
        ``false_positive_rate``, the share of images without lesion in which any pixel is
        predicted (NaN where there are none); ``dice_all``, over all test images, 1 where there is
        neither lesion nor prediction; ``fit_seconds``, ``score_seconds`` and ``best_params``.
        ``attrs["split"]`` says how images were split.

    Raises
    ------
    ValueError
        If the folds cannot be made (see `lesion_folds`), numbers of images, masks and classes
        differ, or a model predicts masks of another size. Errors of a model are passed on.

    Warns
    -----
    hybridus.exceptions.UngroupedWarning
        If `groups` is None.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.protocol.model_selection import summarize
    >>> from hybridus.protocol.segmentation_folds import score_segmenters
    >>> from hybridus.estimators.segmenters import PixelSegmenter
    >>> phantoms = make_breast_phantoms(30, image_size=32, random_state=0)
    >>> pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=32, random_state=0)
    >>> folds = score_segmenters({"pixels": pixels}, phantoms.images, phantoms.masks,
    ...     y=phantoms.target, groups="independent", n_splits=2)
    >>> folds[["model", "fold", "n_train", "n_test"]].values.tolist()
    [['pixels', 0, 15, 15], ['pixels', 1, 15, 15]]
    >>> table = summarize(folds)
    >>> bool(0 < table.loc["pixels", "dice_mean"] < 1)
    True
    """
    split = _say_split(groups)
    folds = segment_folds(
        models,
        X,
        masks,
        y=y,
        groups=groups,
        n_splits=n_splits,
        n_repeats=n_repeats,
        random_state=random_state,
        mask_size=mask_size,
    )
    table = pd.DataFrame([fold.row() for fold in folds])
    table.attrs["split"] = split
    return table


def segment_folds(
    models: Mapping[str, BaseEstimator],
    X: Any,
    masks: Any,
    *,
    y: ArrayLike | None = None,
    groups: ArrayLike | str | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
    mask_size: MaskSize = None,
) -> Iterator[SegmentedFold]:
    """Fit and judge every segmenter fold by fold, for callers who want the masks or each row.

    The parameters and errors are those of `score_segmenters`. Folds are made, and lengths
    checked, at once; models are fitted as the result is iterated over, all folds of one model
    after another, so that its network is built once.

    Returns
    -------
    iterator of SegmentedFold
    """
    if not models:
        raise ValueError("models is empty: give at least one, such as {'unet': UNetSegmenter()}")
    check_consistent_length(X, masks)
    split = {"n_splits": n_splits, "n_repeats": n_repeats, "random_state": random_state}
    folds = lesion_folds(masks, y, groups, **split)
    known = None if groups is None or isinstance(groups, str) else np.asarray(groups, dtype=object)
    size = None if mask_size is None else resolve_size(mask_size, "mask_size")
    return (
        _fit_and_judge(
            name, model, X, masks, known, train, test, *divmod(index, n_splits), mask_size=size
        )
        for name, model in models.items()
        for index, (train, test) in enumerate(folds)
    )


def lesion_folds(
    masks: Any,
    y: ArrayLike | None = None,
    groups: ArrayLike | str | None = None,
    *,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
) -> Folds:
    """Stratified folds that keep groups whole and show a lesion in both parts of each.

    Parameters
    ----------
    masks, y, groups, n_splits, n_repeats, random_state
        Those of `score_segmenters`.

    Returns
    -------
    list of (train, test)
        As `hybridus.protocol.model_selection.repeated_folds` gives them.

    Raises
    ------
    ValueError
        For what `repeated_folds` refuses, and where a part has no lesion.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.segmentation_folds import lesion_folds
    >>> masks = np.zeros((8, 4, 4), dtype=bool)
    >>> masks[::2, 1, 1] = True
    >>> folds = lesion_folds(masks, groups=["a", "a", "b", "b", "c", "c", "d", "d"], n_splits=2)
    >>> [len(test) for train, test in folds]
    [4, 4]
    """
    has_lesion = np.array([mask.any() for mask in as_masks(masks)], dtype=bool)
    if not has_lesion.any():
        raise ValueError(f"none of the {len(has_lesion)} masks has a lesion: nothing to segment")
    strata = has_lesion.astype(np.intp) if y is None else np.asarray(y)
    check_consistent_length(has_lesion, strata)
    folds = repeated_folds(
        strata, groups, n_splits=n_splits, n_repeats=n_repeats, random_state=random_state
    )
    for index, parts in enumerate(folds):
        for verb, part in zip(("trains on", "tests"), parts, strict=True):
            if not has_lesion[part].any():
                repeat, fold = divmod(index, n_splits)
                raise ValueError(
                    f"fold {fold} of repeat {repeat} {verb} no image with a lesion: take fewer "
                    "folds, another random_state, or classes (y) that tell lesions apart"
                )
    return folds


def _fit_and_judge(
    name: str,
    model: BaseEstimator,
    X: Any,
    masks: Any,
    groups: NDArray[np.object_] | None,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    repeat: int,
    fold: int,
    *,
    mask_size: tuple[int, int] | None,
) -> SegmentedFold:
    started = time.perf_counter()
    fitted = fit_with_groups(
        clone(model),
        _safe_indexing(X, train),
        _safe_indexing(masks, train),
        None if groups is None else groups[train],
    )
    fit_seconds = time.perf_counter() - started
    predicted = fitted.predict(_safe_indexing(X, test))
    scores = _judge(_safe_indexing(masks, test), predicted, mask_size)
    chosen = getattr(fitted, "best_params_", None)
    return SegmentedFold(
        model=name,
        repeat=repeat,
        fold=fold,
        train=train,
        test=test,
        predicted=predicted,
        scores=scores,
        fit_seconds=fit_seconds,
        score_seconds=time.perf_counter() - started - fit_seconds,
        best_params="" if chosen is None else json.dumps(chosen, default=str),
    )


def _judge(masks: Any, predicted: Any, size: tuple[int, int] | None) -> dict[str, float]:
    """Scores of the images of one fold."""
    truth, found, has_lesion = [], [], []
    for true, pred in MaskPairs(masks, predicted):
        has_lesion.append(true.any())
        truth.append(true if size is None else resize_mask(true, size))
        found.append(pred if size is None else resize_mask(pred, size))
    report = segmentation_report(truth, found, missing="diagonal")
    # A lesion that is lost at this size is none to find, and its image no normal one.
    of_lesions, of_normals = report[report["n_true"] > 0], report[~np.array(has_lesion)]
    return {
        **{name: float(of_lesions[name].mean()) for name in ("dice", "iou", "hausdorff_95")},
        "detection_rate": float(of_lesions["n_detected"].sum() / of_lesions["n_true"].sum()),
        "false_positive_rate": float((of_normals["n_false_positive"] > 0).mean()),
        "dice_all": float(report["dice"].mean()),
    }
