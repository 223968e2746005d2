"""Portable copies of fitted estimators: with networks, without paths and builders of a machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from hybridus.encoders.registry import REGISTERED, EncoderSpec, get_encoder, list_encoders
from hybridus.persistence.card import is_ours, walk
from hybridus.store.rows import FeatureStore


def portable(estimator: Any, *, carry: bool) -> Any:
    """Copy an estimator for a file; arrays are shared, what was given stays as it is.

    Parameters
    ----------
    estimator : estimator
    carry : bool
        Whether the networks go with it.
    """
    return _copy(estimator, carry, {})


def settled(estimator: Any) -> Any:
    """Give what was read from a file its builders back.

    Raises
    ------
    ValueError
        Where an encoder would be built by something else than keras.applications or a builder that
        is registered here, or what was read is no estimator.
    """
    if not isinstance(estimator, BaseEstimator):
        raise ValueError(f"it holds {type(estimator).__name__}, and no estimator")
    for part in walk(estimator):
        if isinstance(part, EncoderSpec):
            _settle(part)
        elif hasattr(part, "tree_"):
            _check_tree(part)
        elif hasattr(part, "_n_support"):
            _check_support(part)
    return estimator


def _copy(value: Any, carry: bool, made: dict[int, Any]) -> Any:
    if id(value) in made:
        return made[id(value)][0]
    copied = value
    if isinstance(value, EncoderSpec):
        copied = value if value.is_application else replace(value, builder=REGISTERED)
    elif isinstance(value, FeatureStore):
        copied = True
    elif isinstance(value, os.PathLike):
        copied = os.fspath(value)
    elif isinstance(value, dict):
        copied = copy(value)  # of its own kind, such as a Bunch
        copied.update({key: _copy(one, carry, made) for key, one in value.items()})
    elif isinstance(value, list):
        copied = [_copy(one, carry, made) for one in value]
    elif isinstance(value, tuple) and type(value) is tuple:
        copied = tuple(_copy(one, carry, made) for one in value)
    elif made and hasattr(value, "best_estimator_"):
        # A search inside another estimator answers as the best does; the rest is its diary.
        copied = _copy(value.best_estimator_, carry, made)
    elif is_ours(value):
        copied = object.__new__(type(value))
        made[id(value)] = copied, value
        known = dict(vars(value))
        if isinstance(known.get("cache"), str | os.PathLike):
            known["cache"] = True
        if hasattr(value, "_carry") and ("frozen_" in known or "variables_" in known):
            known["network_"] = value._carry() if carry else None
        copied.__dict__.update({name: _copy(one, carry, made) for name, one in known.items()})
        return copied
    made[id(value)] = copied, value  # the value too, so that its id is not given away
    return copied


def _settle(spec: EncoderSpec) -> None:
    """Check the builder that a file names, and put the one that is registered here in its place."""
    if spec.builder == REGISTERED:
        if spec.name in list_encoders():
            object.__setattr__(spec, "builder", get_encoder(spec.name).builder)
        return
    plain = isinstance(spec.options, Mapping) and all(
        isinstance(one, str | int | float | bool | type(None) | list | tuple)
        for one in spec.options.values()
    )
    if not (spec.is_application and plain and spec.options.get("weights") is None):
        raise ValueError(f"its encoder {spec.name!r} has the builder {spec.builder!r:.80}")


def _check_tree(estimator: Any) -> None:
    """Raise where a tree leads outside itself: compiled code would follow it there."""
    tree = estimator.tree_
    children = np.stack([tree.children_left, tree.children_right])
    inside = (children >= -1) & (children < tree.node_count)
    later = (children == -1) | (children > np.arange(tree.node_count))
    if not (inside & later).all() or not (tree.feature < tree.n_features).all():
        raise ValueError("its tree has branches that lead nowhere")


def _check_support(estimator: Any) -> None:
    """Raise where a support vector machine does not fit together: compiled code trusts it."""
    n_support, n_classes = int(estimator._n_support.sum()), len(estimator._n_support)
    n_pairs = max(1, n_classes * (n_classes - 1) // 2)
    vectors, intercepts = estimator.support_vectors_, np.ravel(estimator._intercept_)
    fits = (
        (estimator._n_support >= 0).all()
        and n_support == vectors.shape[0] == len(estimator.support_)
        and estimator._dual_coef_.shape == (max(1, n_classes - 1), n_support)
        and len(intercepts) == n_pairs
        and vectors.shape[1] == estimator.shape_fit_[1]
        and len(estimator._probA) in (0, n_pairs)
        and len(estimator._probB) in (0, n_pairs)
    )
    if not fits:
        raise ValueError("its support vectors are not as many as it says")
