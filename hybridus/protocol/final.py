"""The final model: fitted on all data, with probabilities that mean what they say.

It is what users keep of a comparison. Its labels are those of the model that was compared: one
temperature for all classes leaves the most probable class what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from hybridus._sklearn import _safe_indexing
from hybridus.estimators.calibration import WholeGroupsCalibration
from hybridus.inputs.groups import WholeGroupsKFold, group_names
from hybridus.protocol.routing import fit_with_groups
from hybridus.training.interrupts import interrupts_end_work

REFERRED = 0.2  # share of the images that go to a person
_MOST_FOLDS = 5


@dataclass(frozen=True, eq=False)
class FinalModel:
    """A model to be used, and what is known of how it answers.

    Attributes
    ----------
    fitted : estimator
        What was fitted, with what a search found.
    estimator : estimator
        What answers: of a classifier with calibrated probabilities where that could be done.
    referral : dict
        ``probabilities``, how they came about; ``margin``, the difference of the two largest
        probabilities below which an image should go to a person, and ``share``, of how many of the
        images that were not learned from that was so. Empty for segmenters.
    """

    fitted: Any
    estimator: Any
    referral: Mapping[str, Any] = field(default_factory=dict)


def fit_final(
    model: Any, X: Any, y: Any, groups: ArrayLike | None = None, masks: Any = None
) -> FinalModel:
    """Fit a model on all samples, and calibrate it by samples that it did not learn from.

    A head on frozen features is calibrated on folds of the features that keep groups whole. A
    fine-tuned network is calibrated by the part that it held out to stop in time, whose groups are
    on no other side; its figures are a little optimistic, since training stopped by them.

    Parameters
    ----------
    model : estimator
        A search too, of which the best is taken.
    X : images
    y : array-like of n_samples classes or masks
        The model answers with these classes.
    groups : array-like of shape (n_samples,), "independent" or None, default=None
    masks : n_samples masks, default=None
        Of the lesions, for models that learn where they are, such as `LesionFeatures`.

    Returns
    -------
    FinalModel

    References
    ----------
    Guo, C., Pleiss, G., Sun, Y. and Weinberger, K. Q. (2017). On calibration of modern neural
    networks. ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import SVC
    >>> from hybridus.protocol.final import fit_final
    >>> X, y = load_wine(return_X_y=True)
    >>> final = fit_final(make_pipeline(StandardScaler(), SVC()), X, y)
    >>> final.estimator.predict_proba(X[:1]).round(1).tolist(), final.referral["share"]
    ([[1.0, 0.0, 0.0]], 0.2)
    """
    with interrupts_end_work():
        fit_with_groups(model, X, y, groups, masks)
        best = getattr(model, "best_estimator_", model)
        if not is_classifier(best):
            return FinalModel(model, best)
        labels = np.asarray(y)
        if isinstance(best, Pipeline) and len(best.steps) > 1:
            estimator, said, how = _calibrated_head(best, X, labels, groups)
        elif len(getattr(best, "held_out_", ())):
            estimator, said, how = _calibrated_network(best, X, labels)
        else:
            estimator, said, how = best, None, "as the model gives them"
    referral: dict[str, Any] = {"probabilities": how}
    if said is not None:
        # The difference that a fifth of the images fall short of.
        referral |= {"margin": float(np.quantile(margins(said), REFERRED)), "share": REFERRED}
    return FinalModel(model, estimator, referral)


def margins(probabilities: NDArray) -> NDArray[np.float64]:
    """Difference of the two largest probabilities of each row: how sure an answer is."""
    ordered = np.sort(np.asarray(probabilities, dtype=np.float64), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _calibrated_head(
    pipe: Pipeline, X: Any, y: NDArray, groups: ArrayLike | None
) -> tuple[Any, NDArray | None, str]:
    """Calibrate the last step on the features that the others make, which are made but once."""
    head = pipe.steps[-1][1]
    splitter = _folds(y, groups)
    if isinstance(head, CalibratedClassifierCV) or splitter is None:
        return pipe, None, "as the model gives them"
    rows = pipe[:-1].transform(X)
    calibrated = WholeGroupsCalibration(
        clone(head), method="temperature", ensemble=False, cv=splitter
    )
    fit_with_groups(calibrated, rows, y, groups)
    method = "decision_function" if hasattr(head, "decision_function") else "predict_proba"
    decisions = np.full((len(y), len(pipe.classes_)), np.nan)
    for train, test in splitter.split(rows, y, groups):
        part = None if groups is None else _safe_indexing(groups, train)
        fold = fit_with_groups(clone(head), _safe_indexing(rows, train), y[train], part)
        found = getattr(fold, method)(_safe_indexing(rows, test))
        decisions[test] = np.column_stack([-found, found]) if found.ndim == 1 else found
    (found,) = calibrated.calibrated_classifiers_
    (temperature,) = found.calibrators
    if len(pipe.classes_) == 2 and method == "decision_function":
        decisions = decisions[:, 1]
    said = temperature.predict(decisions)
    name = pipe.steps[-1][0]
    estimator = Pipeline([*pipe.steps[:-1], (name, calibrated)])
    n_folds = splitter.get_n_splits()
    whole = " that keep groups whole" * (groups is not None)
    return estimator, said, f"calibrated by one temperature, on {n_folds} inner folds{whole}"


def _calibrated_network(net: Any, X: Any, y: NDArray) -> tuple[Any, NDArray | None, str]:
    """Calibrate a network by the part that it held out."""
    held_out = net.held_out_
    X_held, y_held = _safe_indexing(X, held_out), y[held_out]
    splitter = _folds(y_held, None)
    if splitter is None or len(np.unique(y_held)) < len(net.classes_):
        return net, None, "as the network gives them"
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(net), method="temperature", ensemble=False, cv=splitter
    )
    calibrated.fit(X_held, y_held)
    how = f"calibrated by one temperature, on the {len(held_out)} images held out to stop in time"
    return calibrated, calibrated.predict_proba(X_held), how


def _folds(y: NDArray, groups: ArrayLike | None) -> WholeGroupsKFold | None:
    """Folds of which each can hold every class; None where there are too few groups."""
    names = group_names(groups, len(y))
    units = np.arange(len(y)) if names is None else names
    n_splits = min(_MOST_FOLDS, pd.Series(units).groupby(y).nunique().min())
    return WholeGroupsKFold(int(n_splits)) if n_splits > 1 else None
