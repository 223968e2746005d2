"""Classical heads as operations: what scikit-learn's scalers and classifiers do to a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from hybridus._sklearn import svc_gamma
from hybridus.exporting.graph import affine, concat, constant, ops, take


class Answer(NamedTuple):
    """What a classifier says of a row, as operations.

    Attributes
    ----------
    scores : operation or None
        As `decision_function` gives them: (n,) for two classes, else (n, n_classes).
    probabilities : operation or None
        As `predict_proba` gives them, (n, n_classes).
    label : operation
        Position of the class that `predict` names, int64 (n,).
    """

    scores: Any
    probabilities: Any
    label: Any


def append_transformer(x: Any, transformer: Any, name: str) -> Any:
    """Put a fitted scaler or projection behind rows.

    Raises
    ------
    TypeError
        For a transformer that has no such form.
    """
    if transformer in (None, "passthrough"):
        return x
    if isinstance(transformer, StandardScaler):
        if transformer.mean_ is not None and transformer.with_mean:
            x = ops().subtract(x, constant(transformer.mean_))
        if transformer.scale_ is not None:
            x = ops().multiply(x, constant(1 / transformer.scale_))
        return x
    if isinstance(transformer, PCA):
        components = transformer.components_.T
        if transformer.whiten:
            components = components / np.sqrt(transformer.explained_variance_)
        return affine(ops().subtract(x, constant(transformer.mean_)), components)
    raise TypeError(
        f"step {name!r} is {type(transformer).__name__}, which cannot be exported; expected "
        "FeatureScaler, StandardScaler or PCA between the features and the head"
    )


def append_head(x: Any, head: Any) -> Answer:
    """Put a fitted classifier behind rows.

    Raises
    ------
    TypeError
        For a classifier that has no such form.
    """
    for kind, build in _HEADS.items():
        if isinstance(head, kind):
            return build(x, head)
    raise TypeError(
        f"the head is {type(head).__name__}, which cannot be exported; expected SVC, LinearSVC, "
        "LogisticRegression, MLPClassifier, RidgeClassifier, SGDClassifier or one of these in "
        "CalibratedClassifierCV"
    )


def first_of_largest(values: Any) -> Any:
    """Position of the largest value of each row, int64 (n,)."""
    # The first of equal ones, as NumPy has it.
    largest = ops().topk(values, constant(1, np.int64), 1, "max", "value", "i64", stable=True)
    return ops().squeeze(largest.output(1), constant([1], np.int64))


def _flat(x: Any) -> Any:
    return ops().squeeze(x, constant([1], np.int64))


def _positive(scores: Any) -> Any:
    return ops().convert(ops().greater(scores, constant(0.0)), "i64")


def _pair(positive: Any) -> Any:
    """Probabilities of two classes, from that of the second, (n, 1)."""
    return concat([ops().subtract(constant(1.0), positive), positive])


def _linear(x: Any, head: Any) -> Any:
    return affine(x, np.atleast_2d(head.coef_).T, np.atleast_1d(head.intercept_))


def _linear_classifier(x: Any, head: Any) -> Answer:
    scores = _linear(x, head)
    if len(head.classes_) == 2:
        return Answer(_flat(scores), None, _positive(_flat(scores)))
    return Answer(scores, None, first_of_largest(scores))


def _logistic_regression(x: Any, head: LogisticRegression) -> Answer:
    scores = _linear(x, head)
    if len(head.classes_) == 2:
        probabilities = _pair(ops().sigmoid(scores))
        return Answer(_flat(scores), probabilities, _positive(_flat(scores)))
    return Answer(scores, ops().softmax(scores, 1), first_of_largest(scores))


_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "logistic": lambda x: ops().sigmoid(x),
    "tanh": lambda x: ops().tanh(x),
    "relu": lambda x: ops().relu(x),
}


def _mlp(x: Any, head: MLPClassifier) -> Answer:
    layers = list(zip(head.coefs_, head.intercepts_, strict=True))
    for weights, offset in layers[:-1]:
        x = _ACTIVATIONS[head.activation](affine(x, weights, offset))
    x = affine(x, *layers[-1])
    if len(head.classes_) == 2:
        positive = ops().sigmoid(x)
        # MLPClassifier asks whether the probability is above one half.
        return Answer(None, _pair(positive), _positive(_flat(x)))
    return Answer(None, ops().softmax(x, 1), first_of_largest(x))


def _svc(x: Any, head: SVC) -> Answer:
    o = ops()
    if callable(head.kernel) or head.kernel == "precomputed":
        raise TypeError(f"the head is SVC with kernel={head.kernel!r}, which cannot be exported")
    vectors = np.asarray(_dense(head.support_vectors_), dtype=np.float64)
    products = affine(x, vectors.T)
    gamma = svc_gamma(head)
    if head.kernel == "rbf":
        of_rows = o.reduce_sum(o.multiply(x, x), constant([1], np.int64), True)
        apart = o.add(
            o.subtract(of_rows, o.multiply(products, constant(2.0))),
            constant((vectors**2).sum(axis=1)),
        )
        kernel = o.exp(o.multiply(o.relu(apart), constant(-gamma)))
    elif head.kernel == "linear":
        kernel = products
    else:
        kernel = o.add(o.multiply(products, constant(gamma)), constant(head.coef0))
        kernel = o.tanh(kernel) if head.kernel == "sigmoid" else _power(kernel, head.degree)
    coefficients = np.asarray(_dense(head.dual_coef_), dtype=np.float64)
    n_classes = len(head.classes_)
    if n_classes == 2:
        scores = _flat(affine(kernel, coefficients.T, head.intercept_))
        return Answer(scores, None, _positive(scores))
    pairs = affine(kernel, _pairwise(head, coefficients), head.intercept_)
    return _one_against_one(pairs, n_classes, head)


def _dense(values: Any) -> NDArray:
    return values.toarray() if hasattr(values, "toarray") else values


def _power(x: Any, degree: float) -> Any:
    return ops().power(x, constant(float(degree)))


def _pairwise(head: SVC, coefficients: NDArray) -> NDArray:
    """Coefficients of each support vector in each duel of two classes, (n_vectors, n_duels)."""
    ends = np.cumsum(head.n_support_)
    spans = [slice(end - count, end) for end, count in zip(ends, head.n_support_, strict=True)]
    columns = []
    for i in range(len(spans)):
        for j in range(i + 1, len(spans)):
            column = np.zeros(coefficients.shape[1])
            column[spans[i]] = coefficients[j - 1, spans[i]]
            column[spans[j]] = coefficients[i, spans[j]]
            columns.append(column)
    return np.stack(columns, axis=1)


def _one_against_one(pairs: Any, n_classes: int, head: SVC) -> Answer:
    """Votes of all duels, and scores as scikit-learn makes them of votes and confidences."""
    o = ops()
    duels = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    for_first, for_second, signs = (np.zeros((len(duels), n_classes)) for _ in range(3))
    for k, (i, j) in enumerate(duels):
        for_first[k, i] = for_second[k, j] = 1
        signs[k, i], signs[k, j] = 1, -1
    # libsvm gives a duel of 0 to the second class, scikit-learn's scores to the first.
    zero = constant(0.0)
    won = o.convert(o.greater(pairs, zero), "f32")
    votes = o.add(affine(won, for_first), affine(o.subtract(constant(1.0), won), for_second))
    held = o.convert(o.greater_equal(pairs, zero), "f32")
    counted = o.add(affine(held, for_first), affine(o.subtract(constant(1.0), held), for_second))
    sums = affine(pairs, signs)
    shrunk = o.divide(sums, o.multiply(o.add(o.abs(sums), constant(1.0)), constant(3.0)))
    scores = o.add(counted, shrunk)
    if head.decision_function_shape == "ovo":
        return Answer(pairs, None, first_of_largest(votes))
    return Answer(scores, None, first_of_largest(scores if head.break_ties else votes))


def append_calibration(answers: Sequence[Answer], head: CalibratedClassifierCV) -> Answer:
    """Put calibrations behind what the classifiers say that they were fitted on: their mean.

    Raises
    ------
    TypeError
        For a method that has no such form.
    """
    o, n_classes = ops(), len(head.classes_)
    parts = []
    for answer, fitted in zip(answers, head.calibrated_classifiers_, strict=True):
        if fitted.method not in _CALIBRATIONS:
            raise TypeError(
                f"the head is calibrated with method={fitted.method!r}, which cannot be exported; "
                f"expected one of {', '.join(map(repr, _CALIBRATIONS))}"
            )
        if len(fitted.estimator.classes_) != n_classes:
            raise TypeError("the head has a calibrated part that lacks a class")
        parts.append(_CALIBRATIONS[fitted.method](answer, fitted.calibrators, n_classes))
    mean = parts[0]
    for part in parts[1:]:
        mean = o.add(mean, part)
    mean = o.divide(mean, constant(float(len(parts)))) if len(parts) > 1 else mean
    return Answer(None, mean, first_of_largest(mean))


def _by_sigmoids(answer: Answer, calibrators: Sequence[Any], n_classes: int) -> Any:
    o, scores = ops(), answer.scores
    if scores is None:
        scores = answer.probabilities
        scores = take(scores, [1], 1) if n_classes == 2 else scores
    elif n_classes == 2:
        scores = o.unsqueeze(scores, constant(1, np.int64))
    slopes = np.array([one.a_ for one in calibrators])
    offsets = np.array([one.b_ for one in calibrators])
    found = o.sigmoid(o.add(o.multiply(scores, constant(-slopes)), constant(-offsets)))
    if n_classes == 2:
        return _pair(found)
    return o.divide(found, o.reduce_sum(found, constant([1], np.int64), True))


def _by_temperature(answer: Answer, calibrators: Sequence[Any], n_classes: int) -> Any:
    o, logits = ops(), answer.scores
    if logits is None:
        logits = o.log(o.add(answer.probabilities, constant(_SMALLEST)))
    elif n_classes == 2:
        logits = o.unsqueeze(logits, constant(1, np.int64))
        logits = concat([o.negative(logits), logits])
    return o.softmax(o.multiply(logits, constant(float(calibrators[0].beta_))), 1)


_SMALLEST = 1e-12  # what scikit-learn adds to a probability before it takes the logarithm
_CALIBRATIONS = {"sigmoid": _by_sigmoids, "temperature": _by_temperature}


def _calibrated(x: Any, head: CalibratedClassifierCV) -> Answer:
    answers = [append_head(x, fitted.estimator) for fitted in head.calibrated_classifiers_]
    return append_calibration(answers, head)


_HEADS: dict[type, Callable[[Any, Any], Answer]] = {
    CalibratedClassifierCV: _calibrated,
    LogisticRegression: _logistic_regression,
    MLPClassifier: _mlp,
    SVC: _svc,
    LinearSVC: _linear_classifier,
    RidgeClassifier: _linear_classifier,
    SGDClassifier: _linear_classifier,
}
