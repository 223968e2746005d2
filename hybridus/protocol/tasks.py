"""Tasks: what models do, find classes or masks, read from scikit-learn's tags."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image
from sklearn.utils import get_tags

Task = Literal["classify", "segment"]

_TASKS: dict[str, Task] = {"classifier": "classify", "segmenter": "segment"}


def check_models(models: Any) -> dict[str, Any]:
    """Return models by name.

    Raises
    ------
    TypeError
        Where `models` is no dict of names to estimators.
    ValueError
        Where it is empty.
    """
    if not isinstance(models, Mapping):
        raise TypeError(
            f"models is {_say(models)}: expected a dict of names to estimators, such as "
            "{'svm': SVC()}; the names stand in the table"
        )
    if not models:
        raise ValueError("models is empty: give at least one, such as {'svm': SVC()}")
    for name, model in models.items():
        if not isinstance(name, str):
            raise TypeError(f"models has the name {name!r}: expected text")
        if inspect.isclass(model):
            raise TypeError(f"models[{name!r}] is the class {model.__name__}: give {_call(model)}")
        if not (hasattr(model, "fit") and hasattr(model, "get_params")):
            raise TypeError(
                f"models[{name!r}] is {_say(model)}: expected an estimator of scikit-learn's kind, "
                "with fit and get_params"
            )
    return dict(models)


def task_of(models: Mapping[str, Any], y: Any) -> Task:
    """Tell what all models do from their tags; where none tells, from what `y` looks like.

    The tag is ``estimator_type``: "classifier", or "segmenter" for ours. Pipelines and searches
    have that of what they hold. It decides, and not `y`, since paths of masks and names of classes
    are both texts.

    Parameters
    ----------
    models : dict of str to estimator
    y : classes or masks
        Where no model has a tag, one dimension of numbers or texts means classes, anything else
        masks.

    Raises
    ------
    ValueError
        Where models do different things, or neither of the two, or classifiers are given masks.
    """
    found: dict[str, str] = {}
    for name, model in models.items():
        kind = get_tags(model).estimator_type
        if kind is None:
            continue
        if kind not in _TASKS:
            raise ValueError(
                f"models[{name!r}] is a {kind} ({_say(model)}): expected classifiers or segmenters"
            )
        found.setdefault(kind, name)
    if len(found) > 1:
        raise ValueError(
            f"models[{found['classifier']!r}] is a classifier and models[{found['segmenter']!r}] "
            "a segmenter: compare those that find classes and those that find masks in two calls"
        )
    if not found:
        return "segment" if _looks_like_masks(y) else "classify"
    kind, name = next(iter(found.items()))
    if kind == "classifier" and _looks_like_masks(y):
        raise ValueError(
            f"models[{name!r}] is a classifier, but y looks like masks: expected one class for "
            "each sample; masks are found by segmenters, such as UNetSegmenter()"
        )
    return _TASKS[kind]


def _looks_like_masks(y: Any) -> bool:
    if hasattr(y, "iloc"):
        y = y.to_numpy()
    if isinstance(y, np.ndarray) and y.ndim > 1:
        return y.ndim > 2 or y.shape[1] > 1
    first: Any = y[0] if len(y) else None
    if isinstance(first, list | tuple):
        return len(first) != 1
    return isinstance(first, os.PathLike | Image.Image) or np.ndim(first) >= 2


def _say(thing: Any) -> str:
    return f"{type(thing).__name__} {thing!r:.60}"


def _call(model: type) -> str:
    return f"{model.__name__}()"
