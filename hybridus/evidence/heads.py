"""Heads: how much each feature counts for each class, exactly for linear ones, else by gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, NuSVC

from hybridus._sklearn import svc_gamma
from hybridus.exceptions import CannotExplainError

_KNOWN = (
    "linear classifiers (coef_ and intercept_), SVC, NuSVC, MLPClassifier, and searches and "
    "calibrations of these"
)


class Slopes(NamedTuple):
    """What a head says of rows, and how that changes with each feature.

    Attributes
    ----------
    scores : array of shape (n_samples, n_classes)
    weights : array of shape (n_samples, n_classes, n_features)
        Slopes of the scores: of linear heads the same for all samples.
    """

    scores: NDArray[np.float64]
    weights: NDArray[np.float64]


def head_slopes(head: Any, rows: NDArray[np.float64]) -> Slopes:
    """Tell the scores of a fitted head, and their slopes.

    The score of a class is: of linear heads the decision value; of a multi-layer perceptron its
    output before the softmax; of `SVC` the mean of its decision values against each other class. Of
    two classes the first has the negative of the second's. Probabilities that were calibrated
    afterwards rank as these scores do.

    Parameters
    ----------
    head : fitted classifier
    rows : array of shape (n_samples, n_features)
        As the head is given them.

    Raises
    ------
    CannotExplainError
        For heads of another kind.
    """
    head = _behind(head)
    if isinstance(head, SVC | NuSVC):
        return _of_svc(head, rows)
    if isinstance(head, MLPClassifier):
        layers = list(zip(head.coefs_, head.intercepts_, strict=True))
        return _two_sided(layered_slopes(rows, layers, head.activation))
    if hasattr(head, "coef_") and hasattr(head, "intercept_"):
        slopes = np.atleast_2d(_dense(head.coef_))
        scores = rows @ slopes.T + np.atleast_1d(head.intercept_)
        weights = np.broadcast_to(slopes, (len(rows), *slopes.shape))
        return _two_sided(Slopes(scores, weights))
    raise CannotExplainError(
        f"the head {type(head).__name__} cannot be explained; expected one of {_KNOWN}"
    )


def layered_slopes(
    rows: NDArray[np.float64],
    layers: list[tuple[NDArray, NDArray]],
    activation: str,
) -> Slopes:
    """Propagate rows through dense layers, and the slopes of the last one's outputs back.

    Parameters
    ----------
    rows : array of shape (n_samples, n_features)
    layers : list of (weights, biases)
        The last one is linear.
    activation : {"relu", "tanh", "logistic", "identity"}
        Of the others.
    """
    value, passed = rows, []
    for weights, bias in layers[:-1]:
        before = value @ weights + bias
        value, slope = _ACTIVATIONS[activation](before)
        passed.append(slope)
    weights, bias = layers[-1]
    scores = value @ weights + bias
    back = np.broadcast_to(weights.T, (len(rows), weights.shape[1], weights.shape[0]))
    for (weights, _), slope in zip(reversed(layers[:-1]), reversed(passed), strict=True):
        back = (back * slope[:, np.newaxis]) @ weights.T
    return Slopes(scores, back)


def through_step(step: Any, weights: NDArray, n_features: int) -> NDArray:
    """Bring slopes from behind a step of a pipeline to before it.

    Parameters
    ----------
    step : fitted transformer that is affine, or "passthrough"
    weights : array of shape (n_samples, n_classes, n_behind)
    n_features : int
        Before the step.

    Raises
    ------
    CannotExplainError
        For steps that are not affine.
    """
    if step in (None, "passthrough"):
        return weights
    if isinstance(step, StandardScaler | MaxAbsScaler):
        return weights / (step.scale_ if step.scale_ is not None else 1.0)
    if isinstance(step, RobustScaler):
        return weights / (step.scale_ if step.with_scaling else 1.0)
    if isinstance(step, MinMaxScaler) and not step.clip:
        return weights * step.scale_
    if isinstance(step, PCA):
        components = step.components_
        if step.whiten:
            components = components / np.sqrt(step.explained_variance_)[:, np.newaxis]
        return weights @ components
    if isinstance(step, SelectorMixin):
        spread = np.zeros((*weights.shape[:2], n_features))
        spread[..., step.get_support()] = weights
        return spread
    raise CannotExplainError(
        f"the step {type(step).__name__} cannot be explained; expected a linear scaler, PCA or a "
        "selection of features between features and head"
    )


def _behind(head: Any) -> Any:
    """Return the classifier that decides: of a search the best, of a calibration what it is of."""
    while True:
        if hasattr(head, "best_estimator_"):
            head = head.best_estimator_
        elif isinstance(head, CalibratedClassifierCV):
            fitted = head.calibrated_classifiers_
            if len(fitted) > 1:
                raise CannotExplainError(
                    f"the head is calibrated as an ensemble of {len(fitted)} classifiers, which "
                    "cannot be explained: calibrate with ensemble=False"
                )
            head = fitted[0].estimator
        elif isinstance(head, FrozenEstimator):
            head = head.estimator
        else:
            return head


def _two_sided(slopes: Slopes) -> Slopes:
    if slopes.scores.shape[1] > 1:
        return slopes
    return Slopes(
        np.concatenate([-slopes.scores, slopes.scores], axis=1),
        np.concatenate([-slopes.weights, slopes.weights], axis=1),
    )


def _of_svc(head: Any, rows: NDArray[np.float64]) -> Slopes:
    """Scores by one against one: kernel sums of each pair of classes."""
    if head.kernel not in ("linear", "rbf", "poly", "sigmoid"):
        raise CannotExplainError(
            f"SVC with kernel={head.kernel!r:.40} cannot be explained; expected 'linear', 'rbf', "
            "'poly' or 'sigmoid'"
        )
    vectors, n_of = _dense(head.support_vectors_), head.n_support_
    starts = np.concatenate([[0], np.cumsum(n_of)])
    n_classes = len(head.classes_)
    kernels, slopes = _kernels(head, rows, vectors)
    coefficients, intercepts = _dense(head._dual_coef_), head._intercept_
    scores = np.zeros((len(rows), n_classes))
    weights = np.zeros((len(rows), n_classes, rows.shape[1]))
    pair = 0
    for i in range(n_classes):
        for j in range(i + 1, n_classes):
            shares = np.zeros(len(vectors))
            shares[starts[i] : starts[i + 1]] = coefficients[j - 1, starts[i] : starts[i + 1]]
            shares[starts[j] : starts[j + 1]] = coefficients[i, starts[j] : starts[j + 1]]
            decision = kernels @ shares + intercepts[pair]
            slope = slopes(shares)
            for one, sign in ((i, 1), (j, -1)):
                scores[:, one] += sign * decision / (n_classes - 1)
                weights[:, one] += sign * slope / (n_classes - 1)
            pair += 1
    return Slopes(scores, weights)


def _kernels(head: Any, rows: NDArray, vectors: NDArray) -> tuple[NDArray, Any]:
    """Kernel of rows and support vectors, and the slope of a weighted sum of its columns."""
    products = rows @ vectors.T
    if head.kernel == "linear":
        return products, lambda shares: np.broadcast_to(shares @ vectors, rows.shape)
    gamma = svc_gamma(head)
    if head.kernel == "rbf":
        squares = (rows**2).sum(1)[:, np.newaxis] + (vectors**2).sum(1) - 2 * products
        kernel = np.exp(-gamma * np.maximum(squares, 0))

        def slope(shares: NDArray) -> NDArray:
            shared = kernel * shares
            return 2 * gamma * (shared @ vectors - shared.sum(1)[:, np.newaxis] * rows)

        return kernel, slope
    inner = gamma * products + head.coef0
    if head.kernel == "poly":
        kernel, outer = inner**head.degree, head.degree * inner ** (head.degree - 1) * gamma
    else:
        kernel = np.tanh(inner)
        outer = (1 - kernel**2) * gamma
    return kernel, lambda shares: (outer * shares) @ vectors


def _dense(array: Any) -> NDArray:
    return np.asarray(array.toarray() if hasattr(array, "toarray") else array)


def _relu(x: NDArray) -> tuple[NDArray, NDArray]:
    return np.maximum(x, 0), (x > 0).astype(float)


def _tanh(x: NDArray) -> tuple[NDArray, NDArray]:
    value = np.tanh(x)
    return value, 1 - value**2


def _logistic(x: NDArray) -> tuple[NDArray, NDArray]:
    value = 0.5 * (1 + np.tanh(x / 2))
    return value, value * (1 - value)


_ACTIVATIONS: dict[str, Any] = {
    "relu": _relu,
    "tanh": _tanh,
    "logistic": _logistic,
    "identity": lambda x: (x, np.ones_like(x)),
}
