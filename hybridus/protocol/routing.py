"""Groups on their way through an estimator: to inner folds and to whatever else asks for them."""

from __future__ import annotations

import warnings
from typing import Any

from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.utils.metadata_routing import get_routing_for_object

from hybridus.exceptions import UngroupedWarning

SEARCHES = (GridSearchCV, RandomizedSearchCV)


def fit_with_groups(model: Any, X: Any, y: ArrayLike, groups: ArrayLike | None) -> Any:
    """Fit `model` on all samples and return it; `groups` reach what asks for them.

    The parameters and the routing are those of `compare`; with None no groups are handed on.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    >>> from sklearn.svm import SVC
    >>> from hybridus.protocol.routing import fit_with_groups
    >>> search = GridSearchCV(SVC(), {"C": [1, 10]}, cv=StratifiedGroupKFold(2))
    >>> X, y, groups = [[0.0], [0.1], [1.0], [1.1]], [0, 0, 1, 1], [0, 1, 2, 3]
    >>> fit_with_groups(search, X, y, groups).best_params_
    {'C': 1}
    """
    routing, params = groups_for_fit(model, groups)
    with config_context(enable_metadata_routing=routing):
        return model.fit(X, y, **params)


def groups_for_fit(model: BaseEstimator, groups: ArrayLike | None) -> tuple[bool, dict]:
    """Whether metadata routing must be on for `model`, and what its `fit` is given.

    Routing carries groups to any depth, but is an error with estimators that do not know it
    (AdaBoost, for one), so it is on only where something asks for the groups. A search over such
    an estimator takes them the old way, as an argument of `fit`.
    """
    if groups is None:
        return False, {}
    is_search = isinstance(model, SEARCHES)
    with config_context(enable_metadata_routing=True):
        try:
            asks = bool(get_routing_for_object(model).consumes("fit", ["groups"]))
        except NotImplementedError:
            return False, {"groups": groups} if is_search else {}
    if is_search and not asks:
        message = (
            f"the inner folds of {type(model).__name__} ignore the groups (cv={model.cv!r}), so "
            "its choice may rest on duplicates: give it cv=StratifiedGroupKFold(3)"
        )
        warnings.warn(message, UngroupedWarning, stacklevel=3)
    return asks, {"groups": groups} if asks else {}
