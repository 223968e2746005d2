"""One fold: a model fitted on its training part and judged on its test part."""

from __future__ import annotations

import functools
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator

from hybridus._sklearn import _num_samples, _safe_indexing, _safe_split
from hybridus.exceptions import CannotExplainError
from hybridus.inputs.groups import group_names
from hybridus.protocol.routing import metadata_for_fit
from hybridus.protocol.scoring import (
    CLASS_SCORES,
    EVIDENCE,
    LesionScores,
    Scoring,
    score_model,
    scorer_for,
)
from hybridus.protocol.tasks import task_of
from hybridus.training.interrupts import interrupts_end_work


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What a model said of the test part of a fold, what is true, and how good that is.

    Attributes
    ----------
    train, test : arrays of int
        Positions of the samples.
    scores : dict of str to float
        The first ranks.
    predictions : array, or None once dropped
        Classes, or masks as the segmenter answered; one for each of `test`.
    decisions : array of shape (n_test, n_classes) or (n_test,), or None
        What a classifier ranks by: `predict_proba` where it has that, else `decision_function`.
        None for masks, and where it has neither.
    decided_by : {"predict_proba", "decision_function"} or None
        What gave `decisions`: only the former are probabilities.
    classes : array of shape (n_classes,) or None
        The classes in the order of the columns of `decisions`.
    truth : array of shape (n_test,) or None
        True classes; None for masks.
    groups : array of shape (n_test,) or None
        Groups of the samples; None where each stands for itself.
    by_sample : dict of str to array of shape (n_test, 2), or None
        What each image adds to the sums whose ratio a score of masks is; see
        `LesionScores.judge_images`.
    fit_seconds, score_seconds : float
    best_params : dict or None
        What a search chose.
    history : dict of str to array of shape (n_epochs,), or None
        Columns of ``history_`` of a network that was trained, or of the best of a search, and
        ``epoch``, its index. None for other models.
    best_epoch : int or None
        The epoch whose weights were restored, where one was.
    model : str
    repeat, fold : int
        Numbers from 0; set by `hybridus.protocol.schedule.run_folds`, which knows them.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    scores: dict[str, float]
    predictions: Any
    decisions: NDArray | None
    classes: NDArray | None
    fit_seconds: float
    score_seconds: float
    best_params: dict[str, Any] | None = None
    decided_by: str | None = None
    truth: NDArray | None = None
    groups: NDArray | None = None
    by_sample: dict[str, NDArray[np.float64]] | None = None
    # Known or not, they tell no fold from another: studies without them are read as well.
    history: dict[str, NDArray] | None = field(default=None, metadata={"decides": False})
    best_epoch: int | None = field(default=None, metadata={"decides": False})
    model: str = ""
    repeat: int = 0
    fold: int = 0

    def row(self) -> dict[str, Any]:
        """Everything that fits into a row of a table."""
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
            "best_params": (
                "" if self.best_params is None else json.dumps(self.best_params, default=str)
            ),
        }

    def without_predictions(self) -> FoldResult:
        """Return the same without predictions, which may be many masks."""
        return replace(self, predictions=None, decisions=None)


def run_fold(
    model: Any,
    X: Any,
    y: Any,
    fold: tuple[ArrayLike, ArrayLike],
    scoring: Scoring = None,
    *,
    groups: ArrayLike | None = None,
    masks: Any = None,
) -> FoldResult:
    """Fit a clone of a model on the training part of a fold and judge it on the test part.

    Parameters
    ----------
    model : classifier or segmenter
        A `Pipeline` or a search too.
    X : array, list or pandas object of n_samples images or paths
    y : array-like of n_samples classes or masks
    fold : (train, test)
        Arrays of positions.
    scoring : default=None
        See `hybridus.protocol.compare.compare`.
    groups : array-like of shape (n_samples,), "independent" or None, default=None
        Handed on to everything in the model that asks for them.
    masks : n_samples masks, default=None
        Those of the training part are handed on to what asks for them, such as `LesionFeatures`;
        by those of the test part the score ``evidence_on_lesion`` is added for a classifier.

    Returns
    -------
    FoldResult
        Errors of the model are passed on, and so is Ctrl-C.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from hybridus.protocol.folds import repeated_folds
    >>> from hybridus.protocol.run import run_fold
    >>> X, y = load_wine(return_X_y=True)
    >>> fold = repeated_folds(y, n_splits=3)[0]
    >>> result = run_fold(DecisionTreeClassifier(random_state=0), X, y, fold)
    >>> round(result.scores["accuracy"], 3), result.decisions.shape
    (0.867, (60, 3))
    """
    train, test = (np.asarray(part, dtype=np.intp) for part in fold)
    names = group_names(groups, len(y))
    asked, routing, params = metadata_for_fit(model, groups, masks)
    found = fit_and_judge(asked, X, y, train, test, scoring, routing, params, masks)
    return found if names is None else replace(found, groups=names[test])


@interrupts_end_work()
def fit_and_judge(
    model: Any,
    X: Any,
    y: Any,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    scoring: Scoring,
    routing: bool,
    params: Mapping[str, Any],
    masks: Any = None,
) -> FoldResult:
    """`run_fold` of a model, and with what `hybridus.protocol.routing.metadata_for_fit` says."""
    model, fit_seconds = fit_model(model, X, y, train, routing, params)
    # Kernel matrices are cut in both directions.
    X_test, y_test = _safe_split(model, X, y, test, train)
    found = judge_model(model, X_test, y_test, scoring)
    if masks is not None:
        share = mean_share_on_lesion(model, X_test, y_test, _safe_indexing(masks, test))
        found = replace(found, scores=found.scores | {EVIDENCE: share})
    return replace(found, train=train, test=test, fit_seconds=fit_seconds)


def fit_model(
    model: Any,
    X: Any,
    y: Any,
    train: NDArray[np.intp],
    routing: bool,
    params: Mapping[str, Any],
) -> tuple[Any, float]:
    """Fit a clone of a model on some samples; return it and the seconds that took."""
    model = clone(model)
    X_train, y_train = _safe_split(model, X, y, train)
    started = time.perf_counter()
    with interrupts_end_work(), config_context(enable_metadata_routing=routing):
        model.fit(
            X_train,
            y_train,
            **{name: _safe_indexing(value, train) for name, value in params.items()},
        )
    return model, time.perf_counter() - started


def mean_share_on_lesion(model: Any, X: Any, y: Any, masks: Any) -> float:
    """Mean share of the evidence for the true class on the lesion; NaN where none can be told.

    Parameters
    ----------
    model : fitted classifier
    X, y : samples
    masks : n_samples masks
    """
    from hybridus.evidence.explain import lesion_shares

    try:
        return float(lesion_shares(model, X, y, masks)["share"].mean())
    except CannotExplainError:
        return float("nan")


def judge_model(model: Any, X: Any, y: Any, scoring: Scoring) -> FoldResult:
    """Judge a fitted model on samples, numbered from 0; who fitted it says on what, and how long.

    Parameters
    ----------
    model : fitted classifier or segmenter
    X, y : samples
    scoring
        See `hybridus.protocol.compare.compare`.
    """
    segments = task_of({"": model}, y) == "segment"
    scorer = scorer_for(model, scoring, default=LesionScores() if segments else CLASS_SCORES)
    started = time.perf_counter()
    answers = _Answers(model, X)
    by_sample = None
    if isinstance(scorer, LesionScores):
        scores, by_sample = scorer.judge_images(y, answers.predict(X))
    else:
        scores = score_model(scorer, answers, X, y)
    predictions = answers.predict(X)
    decided_by, decisions = _decisions(answers, X) if is_classifier(model) else (None, None)
    return FoldResult(
        train=np.empty(0, dtype=np.intp),
        test=np.arange(_num_samples(X)),
        scores=scores,
        predictions=predictions,
        decisions=decisions,
        classes=None if decisions is None else model.classes_,
        fit_seconds=float("nan"),
        score_seconds=time.perf_counter() - started,
        best_params=getattr(model, "best_params_", None),
        decided_by=decided_by,
        truth=None if segments else np.asarray(y),
        by_sample=by_sample,
        **_training_of(model),
    )


def _training_of(model: Any) -> dict[str, Any]:
    """How the network went that a model is, or that its pipeline or search ends in."""
    while hasattr(model, "best_estimator_") or hasattr(model, "steps"):
        model = model.best_estimator_ if hasattr(model, "best_estimator_") else model.steps[-1][1]
    table = getattr(model, "history_", None)
    if not isinstance(table, pd.DataFrame) or table.empty:
        return {}
    columns = table.select_dtypes("number")
    history = {"epoch": table.index.to_numpy()} | {str(k): columns[k].to_numpy() for k in columns}
    return {"history": history, "best_epoch": getattr(model, "best_epoch_", None)}


def _decisions(model: Any, X: Any) -> tuple[str | None, NDArray | None]:
    for method in ("predict_proba", "decision_function"):
        # hasattr, since scikit-learn hides methods that the parameters rule out
        if hasattr(model, method):
            return method, getattr(model, method)(X)
    return None, None


class _Answers(FrozenEstimator):
    """A fitted model that is asked once: the scores and the result share what it says of X."""

    def __init__(self, estimator: Any, X: Any = None) -> None:
        super().__init__(estimator)
        self.X = X
        self.said: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if name not in ("predict", "predict_proba", "decision_function"):
            return method

        @functools.wraps(method)
        def answer(X: Any, **params: Any) -> Any:
            if X is not self.X or params:
                return method(X, **params)
            if name not in self.said:
                self.said[name] = method(X)
            return self.said[name]

        return answer
