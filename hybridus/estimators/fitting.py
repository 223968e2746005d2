"""Fits that succeed wholly or leave their estimator as it was."""

import functools
from collections.abc import Callable
from typing import Any


def all_or_nothing(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Let `fit` learn on a copy of its estimator, which takes over all of it at the end.

    An estimator whose `fit` fails, or is interrupted, still answers as it did before: it never has
    the classes of one fit and the weights of another. Put it above scikit-learn's `_fit_context`.
    """

    @functools.wraps(fit)
    def fit_a_copy(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        draft = object.__new__(type(estimator))
        draft.__dict__.update(vars(estimator))
        fit(draft, *args, **kwargs)
        estimator.__dict__ = vars(draft)
        return estimator

    return fit_a_copy
