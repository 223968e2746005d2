"""Ranking by a classifier: what scikit-learn measures for probabilities, for any score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score


def macro_ovr_auc(y_true: ArrayLike, y_score: ArrayLike, *, labels: ArrayLike) -> float:
    """Area under the ROC curve of each class against the rest, averaged over the classes.

    The same number as ``roc_auc_score(multi_class="ovr", average="macro")``, but from any score
    that ranks: the area depends on the order within a column only, so the outputs of
    ``decision_function`` serve as well as probabilities and need not sum to one.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True class of each sample.
    y_score : array-like of shape (n_samples, n_classes) or (n_samples,)
        Column k ranks the samples by how much they look like class ``labels[k]``. With two
        classes a 1-D array ranks them for ``labels[1]``. One-vs-one scores, such as those of
        ``SVC(decision_function_shape="ovo")``, are not meant.
    labels : array-like of shape (n_classes,)
        The classes in the order of the columns, as in ``estimator.classes_``; two or more.

    Returns
    -------
    float
        Between 0 and 1; 0.5 is chance. NaN, with scikit-learn's `UndefinedMetricWarning`, where
        one of `labels` has no sample in `y_true` or all samples: its curve is not defined then,
        and an average over the others would be a different quantity from fold to fold.

    Raises
    ------
    ValueError
        If fewer than two labels are given or one is given twice, `y_true` holds a class that
        `labels` lacks, the shapes do not match, or a score is not finite.

    References
    ----------
    Fawcett, T. (2006). An introduction to ROC analysis. Pattern Recognition Letters 27(8),
    861-874, section 9: one curve for each class. The average here gives every class one vote,
    however many samples it has.

    Examples
    --------
    >>> from hybridus.metrics import macro_ovr_auc
    >>> scores = [[2.0, 0.1, -1.0], [0.3, 0.2, 0.0], [-1.0, 1.5, 0.4], [0.0, 0.3, 0.1]]
    >>> round(macro_ovr_auc([0, 0, 1, 2], scores, labels=[0, 1, 2]), 3)
    0.889
    """
    truth = np.asarray(y_true)
    scores = np.asarray(y_score, dtype=float)
    classes = np.asarray(labels)
    if truth.ndim != 1:
        raise ValueError(f"y_true has shape {truth.shape}: expected one label per sample, 1-D")
    if classes.ndim != 1 or len(classes) < 2 or len(np.unique(classes)) < len(classes):
        raise ValueError(f"labels={labels!r}: expected two or more different classes")
    unknown = np.setdiff1d(truth, classes)
    if len(unknown):
        raise ValueError(
            f"y_true holds {unknown.tolist()}, which labels={classes.tolist()} lacks: give all "
            "classes in the order of the columns of y_score, as in estimator.classes_"
        )
    if scores.ndim == 1 and len(classes) == 2:
        # Ranking for the second class, read backwards, is the ranking for the first.
        scores = np.column_stack([-scores, scores])
    if scores.shape != (len(truth), len(classes)):
        raise ValueError(
            f"y_score has shape {scores.shape}: expected {(len(truth), len(classes))}, a row for "
            "each sample and a column for each label"
        )
    # Given a matrix of zeros and ones scikit-learn treats each column by itself and does not ask
    # for probabilities.
    is_class = (truth[:, np.newaxis] == classes).astype(int)
    return float(roc_auc_score(is_class, scores, average="macro"))


def macro_ovr_auc_scorer(estimator: Any, X: Any, y: ArrayLike) -> float:
    """`macro_ovr_auc` of a fitted classifier; usable as ``scoring`` throughout scikit-learn.

    The ranking is `predict_proba` where the classifier has it, else `decision_function`. An
    `SVC` without ``probability`` has only the latter, which is the one scikit-learn says to rank
    by: its Platt probabilities may order samples differently from the decision.

    Parameters
    ----------
    estimator : fitted classifier
        With `classes_` and either `predict_proba` or `decision_function`.
    X : array-like of shape (n_samples, ...)
        Samples in the form that `estimator` takes.
    y : array-like of shape (n_samples,)
        True classes.

    Returns
    -------
    float
        See `macro_ovr_auc`.

    Raises
    ------
    TypeError
        If the estimator has neither method.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.svm import SVC
    >>> from hybridus.metrics import macro_ovr_auc_scorer
    >>> X, y = load_wine(return_X_y=True)
    >>> cross_val_score(SVC(), X, y, cv=3, scoring=macro_ovr_auc_scorer).round(2).tolist()
    [0.87, 0.86, 0.81]
    """
    return macro_ovr_auc(y, _ranking(estimator, X), labels=estimator.classes_)


def present_ovr_auc_scorer(estimator: Any, X: Any, y: ArrayLike) -> float:
    """`macro_ovr_auc_scorer` over the classes that `y` has: each of them against the others.

    For sets that do not show every class that the classifier knows, such as scans with a lesion
    alone. The same number where every class is there.

    Parameters
    ----------
    estimator : fitted classifier
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)

    Returns
    -------
    float
        NaN, with scikit-learn's `UndefinedMetricWarning`, where `y` is of one class.
    """
    classes = np.asarray(estimator.classes_)
    present = np.isin(classes, np.asarray(y))
    if present.all() or present.sum() < 2:
        return macro_ovr_auc_scorer(estimator, X, y)
    scores = np.asarray(_ranking(estimator, X))[:, present]
    return macro_ovr_auc(y, scores, labels=classes[present])


def _ranking(estimator: Any, X: Any) -> Any:
    for method in ("predict_proba", "decision_function"):
        # hasattr, since scikit-learn hides methods that the parameters rule out
        if hasattr(estimator, method):
            return getattr(estimator, method)(X)
    raise TypeError(
        f"{type(estimator).__name__} has neither predict_proba nor decision_function: the area "
        "under the ROC curve needs a classifier that ranks, not only one that decides"
    )
