"""External sets: models fitted on all samples and judged on sets that they never saw."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.parallel import Parallel, delayed

from hybridus.inputs.groups import group_names
from hybridus.inputs.images import content_key, images_as_seen_by
from hybridus.inputs.labels import check_labels
from hybridus.metrics.classification import present_ovr_auc_scorer
from hybridus.protocol.digests import digest_of, digest_of_data
from hybridus.protocol.routing import metadata_for_fit
from hybridus.protocol.run import FoldResult, fit_model, judge_model
from hybridus.protocol.schedule import FoldFailure, digests_of_models, fold_of, note_failure, plain
from hybridus.protocol.scoring import CLASS_SCORES, Scoring
from hybridus.protocol.study import Study
from hybridus.protocol.tasks import Task

_MOST_NAMED = 5
Outcome = FoldResult | FoldFailure


@dataclass(frozen=True, eq=False)
class ExternalSet:
    """Samples that no model is fitted on.

    Attributes
    ----------
    name : str
    X, y
        In the forms that `hybridus.compare` takes.
    groups : array of shape (n_samples,) or None
        Names of groups, over which intervals are taken.
    """

    name: str
    X: Any
    y: Any
    groups: NDArray | None


def check_external(
    external: Any, X: Any, y: Any, task: Task, models: Mapping[str, Any]
) -> list[ExternalSet]:
    """Read external sets, and make sure that they are what they are called.

    Parameters
    ----------
    external : dict of str to (X, y) or (X, y, groups)
    X, y
        What models are fitted on.
    task : {"classify", "segment"}
    models : dict of str to estimator
        Which say how values are read, by their ``value_range``.

    Raises
    ------
    TypeError
        Where `external` is no such dict.
    ValueError
        Where lengths differ, a class is unknown to the models, or a sample is among those that
        models are fitted on, pixel by pixel.
    """
    if not isinstance(external, Mapping):
        raise TypeError(
            f"external is {type(external).__name__}: expected a dict of names to (X, y), such as "
            "{'other hospital': (images, classes)}"
        )
    sets, known = [], None
    model = next(iter(models.values()))
    for name, given in external.items():
        if not isinstance(name, str) or not isinstance(given, tuple) or len(given) not in (2, 3):
            raise TypeError(
                f"external[{name!r}] is {type(given).__name__}: expected a tuple (X, y) or "
                "(X, y, groups) under a name"
            )
        its_X, its_y, *rest = given
        check_consistent_length(its_X, its_y)
        if task == "classify":
            its_y = check_labels(its_y)
            unknown = np.setdiff1d(its_y, y)
            if len(unknown):
                raise ValueError(
                    f"external[{name!r}] holds the class {unknown[0]!s}, which models fitted on y "
                    f"cannot answer: y holds {', '.join(map(str, np.unique(y)))}"
                )
        known = set(_contents(model, X)) if known is None else known
        twins = [i for i, key in enumerate(_contents(model, its_X)) if key in known]
        if twins:
            shown = ", ".join(map(str, twins[:_MOST_NAMED])) + ", ..." * (len(twins) > _MOST_NAMED)
            raise ValueError(
                f"external[{name!r}]: {len(twins)} of {len(its_y)} samples ({shown}) are also "
                "among X, which models are fitted on: leave them out, or the scores flatter"
            )
        groups = group_names(rest[0] if rest else None, len(its_y))
        sets.append(ExternalSet(name, its_X, its_y, groups))
    return sets


def run_external(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    sets: Sequence[ExternalSet],
    *,
    task: Task,
    scoring: Scoring = None,
    groups: Any = None,
    masks: Any = None,
    n_jobs: int | None = None,
    study: Study | None = None,
) -> Iterator[tuple[str, Outcome]]:
    """Fit each model once on all samples, and judge it on every set.

    Yields
    ------
    name of the set, FoldResult or FoldFailure
        In order of the models. ``train`` are all positions of `X`, ``test`` those of the set.
    """
    if task == "classify" and scoring is None:
        # Of the classes that a set has: it may show lesions alone.
        scoring = CLASS_SCORES | {"macro_ovr_auc": present_ovr_auc_scorer}
    asked = {name: metadata_for_fit(model, groups, masks) for name, model in models.items()}
    keys: dict[tuple[str, str], str] = {}
    if study is not None:
        of_models = digests_of_models(asked, X, y, groups, scoring, task)
        for one in sets:
            about = digest_of_data(one.X, one.y, one.groups, classes=task == "classify")
            keys |= {(name, one.name): f"{told}-{about}" for name, told in of_models.items()}
    pending = []
    for name in models:
        recalled = [] if study is None else [study.recall(keys[name, one.name]) for one in sets]
        kept = [fields for fields in recalled if fields is not None]
        if len(kept) < len(sets):
            pending.append(name)
            continue
        for one, fields in zip(sets, kept, strict=True):
            yield one.name, fold_of(fields, name)
    jobs = (
        delayed(partial(_fit_and_judge, X=X, y=y, sets=sets, scoring=scoring))(name, *asked[name])
        for name in pending
    )
    outcomes = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    for name, of_sets in zip(pending, outcomes, strict=True):
        if isinstance(of_sets[0], FoldFailure):  # of the fit: so are the others
            note_failure(of_sets[0])
        for one, outcome in zip(sets, of_sets, strict=True):
            if isinstance(outcome, FoldResult) and study is not None:
                study.keep(keys[name, one.name], plain(outcome))
            yield one.name, outcome


def _fit_and_judge(
    name: str,
    model: Any,
    routing: bool,
    params: Mapping[str, Any],
    *,
    X: Any,
    y: Any,
    sets: Sequence[ExternalSet],
    scoring: Scoring,
) -> list[Outcome]:
    train = np.arange(len(y))
    try:
        fitted, seconds = fit_model(model, X, y, train, routing, params)
        return [
            replace(
                judge_model(fitted, one.X, one.y, scoring),
                train=train,
                model=name,
                groups=one.groups,
                fit_seconds=seconds,
            )
            for one in sets
        ]
    except MemoryError:
        raise
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # which hold the samples
        error.add_note(f"model {name!r}, fitted on all samples for external sets")
        return [FoldFailure(name, 0, 0, error) for _ in sets]


def _contents(model: Any, X: Any) -> list[Any]:
    """Digest each sample: the pixels of images, else the content of files or values."""
    try:
        return [content_key(image) for image in images_as_seen_by(model, X)]
    except (ValueError, TypeError):
        rows = X.to_numpy() if hasattr(X, "to_numpy") else X
        return [digest_of(row) for row in rows]
