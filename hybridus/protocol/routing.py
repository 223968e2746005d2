"""Groups and masks on their way through an estimator: to inner folds and whatever asks for them.

Inner splits are found by the parameters of an estimator, at any depth. Those that are given by a
number keep groups whole while a fit lasts; those that cannot be told of groups are warned of.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_selection import RFECV
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.svm import SVC, NuSVC
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from hybridus._sklearn import BaseSearchCV, _num_samples, asks_for, consumers
from hybridus.estimators.calibration import WholeGroupsCalibration
from hybridus.exceptions import UngroupedWarning
from hybridus.inputs.groups import WholeGroupsKFold, check_groups, group_names
from hybridus.protocol.folds import LesionGroupKFold

# Samples above which scikit-learn's histogram boosting stops early by default.
_STOPS_EARLY_ABOVE = 10_000


@dataclass(frozen=True, eq=False)
class InnerSplit:
    """A place inside an estimator where a fit divides its samples once more.

    Attributes
    ----------
    path : str
        Name of the parameter that decides it, as `set_params` takes it.
    owner : estimator
    value : object
        Of the parameter.
    kind : {"folds", "own", "candidate"}
        Folds that the parameter gives; a split that the owner makes by itself; or one inside a
        candidate of a search.
    """

    path: str
    owner: Any
    value: Any
    kind: Literal["folds", "own", "candidate"] = "folds"

    @property
    def counted(self) -> int | None:
        """Number of folds where the parameter is that number, or None for scikit-learn's five."""
        known = getattr(self.owner, "_parameter_constraints", {}).get(self.path.split("__")[-1], ())
        if self.kind != "folds" or "cv_object" not in known or isinstance(self.value, bool):
            return None
        if self.value is None:
            # Of these None is a formula for leaving out one sample at a time.
            return None if isinstance(self.owner, RidgeCV | RidgeClassifierCV) else 5
        return int(self.value) if isinstance(self.value, int | np.integer) else None

    def whole(self) -> Any:
        """Splitter that makes as many folds and keeps groups whole."""
        n_splits = self.counted or 5
        if get_tags(self.owner).estimator_type == "segmenter":
            return LesionGroupKFold(n_splits)
        classes = is_classifier(self.owner) or is_classifier(getattr(self.owner, "estimator", None))
        return WholeGroupsKFold(n_splits, stratify=classes)


def inner_splits(model: Any, n_samples: int) -> list[InnerSplit]:
    """Find every place inside an estimator where its `fit` divides samples once more.

    Parameters
    ----------
    model : estimator
    n_samples : int
        How many it will be fitted on, which decides what stops early.

    Examples
    --------
    >>> from hybridus.estimators.hybrid import make_hybrid_classifier
    >>> from hybridus.protocol.routing import inner_splits
    >>> [split.path for split in inner_splits(make_hybrid_classifier(probability=True), 100)]
    ['head__cv']
    """
    return [
        split
        for path, owner in _estimators(model).items()
        for split in _splits_of(owner, f"{path}__" if path else "", n_samples)
    ]


def fit_with_groups(
    model: Any, X: Any, y: ArrayLike, groups: ArrayLike | None, masks: Any = None
) -> Any:
    """Fit `model` on all samples and return it; `groups` and `masks` reach what asks for them.

    Parameters
    ----------
    model : estimator
        Its inner folds keep groups whole where they are given as a number; afterwards its
        parameters are what they were.
    X, y : samples
    groups : array-like of shape (n_samples,), "independent" or None
        With None or "independent" no groups are handed on.
    masks : n_samples masks, default=None
        Of the lesions, for models that learn where they are, such as `LesionFeatures`.

    Warns
    -----
    UngroupedWarning
        Where something inside `model` splits without regard to the groups.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.svm import SVC
    >>> from hybridus.protocol.routing import fit_with_groups
    >>> search = GridSearchCV(SVC(), {"C": [1, 10]}, cv=2)
    >>> X, y, groups = [[0.0], [0.1], [1.0], [1.1]], [0, 0, 1, 1], [0, 1, 2, 3]
    >>> fit_with_groups(search, X, y, groups).best_params_
    {'C': 1}
    """
    group_names(groups, _num_samples(X))
    whole, routing, params = _plan(model, groups, masks)
    before = {path: value for path, value in model.get_params().items() if path in whole}
    model.set_params(**whole)
    try:
        with config_context(enable_metadata_routing=routing):
            return model.fit(X, y, **params)
    finally:
        model.set_params(**before)


def metadata_for_fit(
    model: Any, groups: ArrayLike | None, masks: Any = None
) -> tuple[Any, bool, dict[str, Any]]:
    """Say how a model must be fitted for groups and masks to reach what asks for them.

    Parameters
    ----------
    model : estimator
    groups : array-like of shape (n_samples,), "independent" or None
    masks : n_samples masks, default=None

    Returns
    -------
    model : estimator
        The one given, or a clone whose inner folds keep groups whole.
    routing : bool
        Whether metadata routing must be on for its `fit`.
    params : dict
        What `fit` is given.

    Warns
    -----
    UngroupedWarning
        Where something inside `model` splits without regard to the groups.
    """
    whole, routing, params = _plan(model, groups, masks)
    return clone(model).set_params(**whole) if whole else model, routing, params


def _plan(model: Any, groups: Any, masks: Any) -> tuple[dict[str, Any], bool, dict[str, Any]]:
    """Parameters to set, whether routing must be on, and what `fit` is given."""
    codes = None if groups is None else check_groups(groups, len(groups))
    given = {} if masks is None else {"masks": masks}
    if codes is None:
        routing, params, _ = _who_is_told(model, given)
        return {}, routing, params
    given["groups"] = groups
    before = {split.path: split for split in inner_splits(model, len(groups))}
    whole = {path: split.whole() for path, split in before.items() if split.counted}
    trial = clone(model).set_params(**whole)
    routing, params, told = _who_is_told(trial, given)
    for split in inner_splits(trial, len(groups)):
        if not _heeds(split, trial, told, codes):
            whole.pop(split.path, None)
            warnings.warn(_complaint(before[split.path]), UngroupedWarning, stacklevel=4)
    return whole, routing, params


def _who_is_told(model: Any, given: Mapping[str, Any]) -> tuple[bool, dict[str, Any], list[Any]]:
    """Whether routing must be on, what `fit` is given, and which objects it then tells of groups.

    Routing carries metadata to any depth, but is an error with estimators that do not know it
    (AdaBoost, for one), so it is on only where something asks for them. A search over such
    an estimator takes groups the old way, as an argument of `fit`.
    """
    with config_context(enable_metadata_routing=True):
        try:
            told = {name: consumers(model, name) for name in given}
        except NotImplementedError:
            told = {}
    if any(told.values()):
        params = {name: value for name, value in given.items() if told[name]}
        return True, params, told.get("groups", [])
    if "groups" in given and (
        isinstance(model, BaseSearchCV | RFECV) or has_fit_parameter(model, "groups")
    ):
        folds = getattr(model, "cv", None)
        if hasattr(folds, "get_n_splits") and asks_for(folds, "split", "groups"):
            return False, {"groups": given["groups"]}, [folds]
    return False, {}, []


def _drops_groups(owner: Any) -> bool:
    """Whether this is scikit-learn's calibration that routes groups to its folds and drops them."""
    return (
        isinstance(owner, CalibratedClassifierCV)
        and not isinstance(owner, WholeGroupsCalibration)
        and owner.ensemble is False
        and not asks_for(owner.estimator, "fit", "groups")
    )


def _heeds(split: InnerSplit, model: Any, told: Sequence[Any], codes: NDArray[np.intp]) -> bool:
    ids = {id(one) for one in told}
    if split.kind == "folds":
        reached = id(split.value) in ids and not _drops_groups(split.owner)
        return reached or _keeps_whole(split.value, codes)
    if split.kind == "candidate":
        return False
    if id(split.owner) in ids:
        return True
    # An estimator that is told of groups hands them on by itself to those in it that ask for them.
    above = [
        outer
        for path, outer in _estimators(model).items()
        if not path or split.path.startswith(f"{path}__")
    ]
    return asks_for(split.owner, "fit", "groups") and any(id(outer) in ids for outer in above)


def _keeps_whole(folds: Any, codes: NDArray[np.intp]) -> bool:
    """Whether these are pairs of indices that leave every group on one side."""
    if not isinstance(folds, list | tuple):
        return False
    try:
        return not any(np.isin(codes[train], codes[test]).any() for train, test in folds)
    except (IndexError, TypeError, ValueError):
        return False


def _complaint(split: InnerSplit) -> str:
    owner = type(split.owner).__name__
    setting = f"{split.path}={split.value!r}"
    what = "so what it chooses or learns may rest on duplicates"
    if split.kind == "own":
        return (
            f"the part that {owner} holds out by itself ({setting}) ignores the groups, {what}: "
            "switch that off"
        )
    if split.kind == "candidate":
        return (
            f"groups may not reach the inner folds of {owner}, a candidate ({setting}), {what}: "
            "search each kind of model by itself"
        )
    if _drops_groups(split.owner):
        return (
            f"CalibratedClassifierCV with ensemble=False gives its folds no groups ({setting}), "
            f"{what}: take hybridus.estimators.calibration.WholeGroupsCalibration, or ensemble=True"
        )
    n_splits = getattr(split.value, "n_splits", None) or split.counted or 5
    return (
        f"the inner folds of {owner} ignore the groups ({setting}), {what}: give it "
        f"cv=StratifiedGroupKFold({n_splits}), or, where scikit-learn hands it no groups, the "
        "pairs of indices that this splitter gives"
    )


def _estimators(model: Any) -> dict[str, Any]:
    """`model` and all estimators inside it, by the names of their parameters."""
    parts = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    return {"": model} | {
        path: part
        for path, part in parts.items()
        if hasattr(part, "get_params") and hasattr(part, "fit") and not isinstance(part, type)
    }


def _splits_of(owner: Any, prefix: str, n_samples: int) -> Iterator[InnerSplit]:
    params = owner.get_params(deep=False) if hasattr(owner, "get_params") else {}
    for name, value in params.items():
        if _gives_folds(owner, name, value):
            yield InnerSplit(prefix + name, owner, value)
        elif name in ("param_grid", "param_distributions"):
            for candidate in _candidates(value):
                for split in inner_splits(candidate, n_samples):
                    yield InnerSplit(prefix + name, split.owner, split.value, "candidate")
    stop = params.get("early_stopping", params.get("n_iter_no_change") is not None)
    stops = stop is True or (stop == "auto" and n_samples > _STOPS_EARLY_ABOVE)
    fraction = params.get("validation_fraction")
    if fraction is not None and (stops or asks_for(owner, "fit", "groups")):
        yield InnerSplit(f"{prefix}validation_fraction", owner, fraction, "own")
    if isinstance(owner, SVC | NuSVC) and owner.probability is True:
        yield InnerSplit(f"{prefix}probability", owner, True, "own")


def _gives_folds(owner: Any, name: str, value: Any) -> bool:
    if isinstance(value, str) or hasattr(value, "fit"):
        return False
    if value is None and isinstance(owner, ClassifierChain | RegressorChain):
        return False
    return name == "cv" or hasattr(value, "get_n_splits")


def _candidates(grids: Any) -> Iterator[Any]:
    """Estimators among the values that a search tries."""
    for grid in grids if isinstance(grids, list | tuple) else [grids]:
        for values in grid.values():
            if isinstance(values, list | tuple | np.ndarray):
                yield from (one for one in values if hasattr(one, "get_params"))
