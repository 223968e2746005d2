"""Schedule: every model on every fold, each fold once, whoever does it and whatever fails."""

from __future__ import annotations

import json
import pickle
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import FitFailedWarning
from sklearn.utils.parallel import Parallel, delayed

from hybridus.inputs.groups import group_names
from hybridus.inputs.heard import heard_by
from hybridus.protocol.digests import digest_of, digest_of_data, versions
from hybridus.protocol.folds import Fold, number_folds
from hybridus.protocol.routing import metadata_for_fit
from hybridus.protocol.run import FoldResult, fit_and_judge
from hybridus.protocol.scoring import Scoring
from hybridus.protocol.study import Study
from hybridus.protocol.tasks import Task, check_models, task_of


@dataclass(frozen=True, eq=False)
class FoldFailure:
    """A fold that a model could not be fitted or judged on.

    Attributes
    ----------
    model : str
    repeat, fold : int
    exception : Exception
        What the model raised; from another process with its traceback as a note.
    """

    model: str
    repeat: int
    fold: int
    exception: Exception

    def row(self) -> dict[str, Any]:
        """Everything that fits into a row of a table."""
        return {
            "model": self.model,
            "repeat": self.repeat,
            "fold": self.fold,
            "error": type(self.exception).__name__,
            "message": str(self.exception),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.exception
        error.add_note("".join(traceback.format_exception(error)))
        try:  # an exception that cannot be read back would break the process that reads it
            pickle.loads(pickle.dumps(error))
        except Exception:
            error, notes = RuntimeError(f"{type(error).__name__}: {error}"), error.__notes__
            error.__notes__ = notes
        return FoldFailure, (self.model, self.repeat, self.fold, error)


def run_folds(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    folds: Sequence[Fold],
    *,
    scoring: Scoring = None,
    groups: ArrayLike | None = None,
    masks: Any = None,
    n_jobs: int | None = None,
    study: Study | None = None,
) -> Iterator[FoldResult | FoldFailure]:
    """`run_fold` of every model on every fold, each as soon as it is done.

    Parameters
    ----------
    models : dict of str to classifier or segmenter
    X, y, scoring, groups, masks
        Those of `run_fold`.
    folds : list of (train, test)
        Arrays of positions; see `hybridus.protocol.folds`.
    n_jobs : int or None, default=None
        Folds fitted at the same time, by the backend of joblib that is set: processes by default,
        with large arrays in memory that they share.
    study : Study, default=None
        Where finished folds are kept. Those that are there come first, and none is fitted again;
        those that another process is at work on come when it has done.

    Returns
    -------
    iterator of FoldResult and FoldFailure
        In order, all folds of one model after another, so that its network is built once. Nothing
        is fitted before the first is asked for. A model that raises is not fitted on further folds,
        and the others go on; if all raise, the first error is raised at the end. `MemoryError`, and
        what is no `Exception`, such as Ctrl-C, ends the work at once.

    Raises
    ------
    ValueError
        With `study`, where a model or the scoring cannot be told by its content.

    Warns
    -----
    sklearn.exceptions.FitFailedWarning
        Where a model raises.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus.protocol.folds import repeated_folds
    >>> from hybridus.protocol.schedule import run_folds
    >>> X, y = load_wine(return_X_y=True)
    >>> for result in run_folds({"bayes": GaussianNB()}, X, y, repeated_folds(y, n_splits=2)):
    ...     print(result.model, result.fold, round(result.scores["accuracy"], 3))
    bayes 0 0.955
    bayes 1 0.978
    """
    # Asked here, where a warning reaches the user, and not in every process.
    asked = {
        name: metadata_for_fit(model, groups, masks) for name, model in check_models(models).items()
    }
    names = group_names(groups, len(y))
    jobs = [
        _Job(name, repeat, fold, *asked[name], train, test, None if names is None else names[test])
        for name in models
        for (train, test), (repeat, fold) in zip(folds, number_folds(folds), strict=True)
    ]
    if study is not None:
        of_models = digests_of_models(asked, X, y, groups, scoring, task_of(models, y), masks)
        jobs = [
            replace(job, key=digest_of(of_models[job.name], job.train, job.test)) for job in jobs
        ]
    return _outcomes(jobs, (X, y, masks), scoring, n_jobs, study)


def digests_of_models(
    asked: Mapping[str, Any],
    X: Any,
    y: Any,
    groups: Any,
    scoring: Scoring,
    task: Task,
    masks: Any = None,
) -> dict[str, str]:
    """Tell all that decides what each model says once the samples are known that it is fitted on.

    Parameters
    ----------
    asked : dict of str to (model, routing, params)
        What `hybridus.protocol.routing.metadata_for_fit` returns.

    Raises
    ------
    ValueError
        Where a model, a sample or the scoring cannot be told by its content.
    """
    shared = [
        digest_of(
            versions(),
            [one.name for one in fields(FoldResult) if one.metadata.get("decides", True)],
        ),
        _told("a sample", partial(digest_of_data, X, y, groups, classes=task == "classify")),
        _told("scoring", partial(digest_of, scoring)),
    ]
    if masks is not None:  # by which evidence is judged
        shared.append(_told("a mask", partial(digest_of_data, masks, masks, None, classes=False)))
    return {
        name: digest_of(shared, _told(f"models[{name!r}]", partial(digest_of, how)))
        for name, how in asked.items()
    }


@dataclass(frozen=True, eq=False)
class _Job:
    """A fold to be done: the model as `metadata_for_fit` hands it back, and where it is kept."""

    name: str
    repeat: int
    fold: int
    model: Any
    routing: bool
    params: Mapping[str, Any]
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    groups: NDArray | None  # of what is tested
    key: str = ""

    @property
    def label(self) -> dict[str, Any]:
        return {"model": self.name, "repeat": self.repeat, "fold": self.fold}


def _told(name: str, digest: Callable[[], str]) -> str:
    try:
        return digest()
    except TypeError as error:
        raise ValueError(
            f"study: {name} {error}, so folds could not be found again: leave study out, or make "
            "it of estimators, functions and plain values"
        ) from error


def _outcomes(
    jobs: Sequence[_Job],
    samples: tuple[Any, Any, Any],
    scoring: Scoring,
    n_jobs: int | None,
    study: Study | None,
) -> Iterator[FoldResult | FoldFailure]:
    models = {job.name for job in jobs}
    failures: dict[str, FoldFailure] = {}
    sent: deque[_Job] = deque()

    def attempts(pending: Sequence[_Job]) -> Iterator[Any]:
        for job in pending:
            if job.name not in failures:
                sent.append(job)
                yield delayed(_attempt)(job, samples, scoring, study)

    pause = 0.05
    while jobs:
        pending, busy = [], []
        for job in jobs:
            kept = _recall(job, study)
            if kept is None:
                pending.append(job)
            else:
                yield kept
        for outcome in Parallel(n_jobs=n_jobs, return_as="generator")(attempts(pending)):
            job = sent.popleft()
            if outcome is None:
                busy.append(job)
                continue
            if isinstance(outcome, FoldFailure) and job.name not in failures:
                failures[job.name] = outcome
                note_failure(outcome)
            yield outcome
        if len(busy) == len(jobs):  # others are at work on all that is left
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
        jobs = [job for job in busy if job.name not in failures]
    if failures and failures.keys() == models:
        raise next(iter(failures.values())).exception


def note_failure(failure: FoldFailure) -> None:
    """Warn that a model failed and is left out."""
    row = failure.row()
    said = (row["message"].splitlines() or [""])[0]
    warnings.warn(
        f"model {row['model']!r} failed on fold {row['fold']} of repeat {row['repeat']} and is "
        f"left out ({row['error']}: {said:.200})",
        FitFailedWarning,
        stacklevel=3,
    )


def _recall(job: _Job, study: Study | None) -> FoldResult | None:
    kept = None if study is None else study.recall(job.key)
    return None if kept is None else fold_of(kept, job.name, job.repeat, job.fold)


def fold_of(kept: Mapping[str, Any], model: str, repeat: int = 0, fold: int = 0) -> FoldResult:
    """Read a result that a study has kept, whatever the model was called then."""
    return FoldResult(**{**kept, "model": model, "repeat": repeat, "fold": fold})


def _attempt(
    job: _Job, samples: tuple[Any, Any, Any], scoring: Scoring, study: Study | None
) -> FoldResult | FoldFailure | None:
    """Do a fold, or find it done; None where another process is at it."""
    if study is None:
        return _run(job, samples, scoring)
    with study.claim(job.key) as ours:
        if not ours:
            return None
        if (kept := _recall(job, study)) is not None:  # by another, a moment ago
            return kept
        with heard_by(partial(study.note, job.key, job.label)):
            outcome = _run(job, samples, scoring)
        if isinstance(outcome, FoldFailure):
            study.keep_error(job.key, outcome.exception, job.label)
        else:
            study.keep(job.key, plain(outcome))
        return outcome


def plain(result: FoldResult) -> dict[str, Any]:
    """Fields of a result as arrays and what JSON knows; row() says the same of both."""
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    predictions = values["predictions"]
    if isinstance(predictions, list | tuple):
        values["predictions"] = np.fromiter(predictions, dtype=object, count=len(predictions))
    elif hasattr(predictions, "to_numpy"):
        values["predictions"] = predictions.to_numpy()
    if result.best_epoch is not None:
        values["best_epoch"] = int(result.best_epoch)
    values["best_params"] = json.loads(json.dumps(values["best_params"], default=str))
    return values


def _run(job: _Job, samples: tuple[Any, Any, Any], scoring: Scoring) -> FoldResult | FoldFailure:
    X, y, masks = samples
    how = (job.routing, job.params, masks)
    try:
        result = fit_and_judge(job.model, X, y, job.train, job.test, scoring, *how)
    except Exception as error:
        error.add_note("model {model!r}, fold {fold} of repeat {repeat}".format(**job.label))
        if isinstance(error, MemoryError):  # of all models, and not one's own fault
            raise
        traceback.clear_frames(error.__traceback__)  # which hold the samples
        return FoldFailure(**job.label, exception=error)
    return replace(result, **job.label, groups=job.groups)
