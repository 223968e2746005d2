"""`macro_ovr_auc` against scikit-learn's own, and where scikit-learn has none."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_validate
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from hybridus.metrics import macro_ovr_auc, macro_ovr_auc_scorer


@pytest.fixture(scope="module")
def scored():
    """Labels of three classes with probabilities that know a little about them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    logits = rng.normal(size=(200, 3)) + 1.2 * np.eye(3)[y]
    odds = np.exp(logits)
    return y, odds / odds.sum(axis=1, keepdims=True)


def test_equals_scikit_learn_on_probabilities(scored):
    y, probabilities = scored
    expected = roc_auc_score(y, probabilities, multi_class="ovr", average="macro")
    assert 0.7 < expected < 0.9
    assert macro_ovr_auc(y, probabilities, labels=[0, 1, 2]) == pytest.approx(expected, abs=1e-15)


def test_depends_on_the_order_in_each_column_only(scored):
    y, probabilities = scored
    stretched = np.column_stack(
        [1000 * probabilities[:, 0], probabilities[:, 1] - 7, np.log(probabilities[:, 2])]
    )
    expected = macro_ovr_auc(y, probabilities, labels=[0, 1, 2])
    assert macro_ovr_auc(y, stretched, labels=[0, 1, 2]) == expected


def test_columns_stand_in_the_order_of_labels(scored):
    y, probabilities = scored
    names = np.array(["normal", "malignant", "benign"])
    expected = macro_ovr_auc(y, probabilities, labels=[0, 1, 2])
    assert macro_ovr_auc(names[y], probabilities, labels=names) == expected
    swapped = macro_ovr_auc(names[y], probabilities, labels=names[[1, 0, 2]])
    assert swapped < expected - 0.1


def test_two_classes_in_one_or_two_columns_are_the_plain_area(scored):
    y, probabilities = scored
    y, ranking = (y == 2).astype(int), probabilities[:, 2]
    expected = roc_auc_score(y, ranking)
    assert macro_ovr_auc(y, ranking, labels=[0, 1]) == pytest.approx(expected, abs=1e-15)
    both = np.column_stack([1 - ranking, ranking])
    assert macro_ovr_auc(y, both, labels=[0, 1]) == pytest.approx(expected, abs=1e-15)
    assert macro_ovr_auc(y, ranking, labels=[1, 0]) == pytest.approx(1 - expected, abs=1e-15)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_is_nan_as_in_scikit_learn_where_a_class_is_absent(scored):
    y, probabilities = scored
    some = y != 2
    theirs = roc_auc_score(y[some], probabilities[some], multi_class="ovr", labels=[0, 1, 2])
    assert np.isnan(theirs)
    assert np.isnan(macro_ovr_auc(y[some], probabilities[some], labels=[0, 1, 2]))
    with pytest.warns(UndefinedMetricWarning):
        macro_ovr_auc(y[some], probabilities[some], labels=[0, 1, 2])
    assert np.isnan(macro_ovr_auc([1, 1], [0.2, 0.3], labels=[0, 1]))


@pytest.mark.parametrize(
    ("y", "scores", "labels", "message"),
    [
        ([0, 1, 3], np.eye(3), [0, 1, 2], r"y_true holds \[3\], which labels=\[0, 1, 2\] lacks"),
        ([0, 1, 2], np.eye(3)[:, :2], [0, 1, 2], r"shape \(3, 2\): expected \(3, 3\)"),
        ([0, 1, 2], [0.1, 0.2, 0.3], [0, 1, 2], r"shape \(3,\): expected \(3, 3\)"),
        ([0, 1], [0.1, 0.2, 0.3], [0, 1], r"shape \(3, 2\): expected \(2, 2\)"),
        ([[0, 1]], [[0.1, 0.2]], [0, 1], r"y_true has shape \(1, 2\)"),
        ([0, 0], [0.1, 0.2], [0], "two or more different classes"),
        ([0, 1], [[0.1, 0.2], [0.3, 0.4]], [0, 0], "two or more different classes"),
        ([0, 1], [0.1, np.nan], [0, 1], "NaN"),
    ],
)
def test_errors_say_what_was_given_and_expected(y, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        macro_ovr_auc(y, scores, labels=labels)


def test_arrays_of_the_caller_stay_as_they_were(scored):
    y, probabilities = (array.copy() for array in scored)
    y.flags.writeable = probabilities.flags.writeable = False
    macro_ovr_auc(y, probabilities, labels=[0, 1, 2])


def test_scorer_ranks_by_probabilities_then_by_decision():
    X, y = load_iris(return_X_y=True)
    X = X[:, :2]
    logistic = LogisticRegression().fit(X, y)
    expected = roc_auc_score(y, logistic.predict_proba(X), multi_class="ovr")
    assert macro_ovr_auc_scorer(logistic, X, y) == pytest.approx(expected, abs=1e-15)
    svm = SVC().fit(X, y)
    expected = macro_ovr_auc(y, svm.decision_function(X), labels=[0, 1, 2])
    assert macro_ovr_auc_scorer(svm, X, y) == expected
    assert 0.8 < expected < 1


def test_scorer_serves_two_classes_and_named_classes():
    X, y = load_iris(return_X_y=True)
    X, y = X[y > 0], np.array(["setosa", "versicolor", "virginica"])[y[y > 0]]
    for model in (LogisticRegression(), RidgeClassifier(), SVC()):
        model.fit(X[:, :2], y)
        ranking = model.decision_function(X[:, :2])
        expected = roc_auc_score(y == "virginica", ranking)
        assert macro_ovr_auc_scorer(model, X[:, :2], y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_scorer_works_in_cross_validate_with_processes():
    X, y = load_iris(return_X_y=True)
    models = {"tree": DecisionTreeClassifier(max_depth=1), "svm": SVC()}
    scores = {
        name: cross_validate(model, X, y, cv=3, scoring=macro_ovr_auc_scorer, n_jobs=2)
        for name, model in models.items()
    }
    np.testing.assert_allclose(scores["svm"]["test_score"], 1, atol=0.02)
    np.testing.assert_allclose(scores["tree"]["test_score"], 5 / 6, atol=0.04)
    assert pickle.loads(pickle.dumps(macro_ovr_auc_scorer)) is macro_ovr_auc_scorer


def test_scorer_refuses_a_model_that_does_not_rank():
    class Decider:
        classes_ = np.array([0, 1])

        def predict(self, X):
            return np.zeros(len(X))

    with pytest.raises(TypeError, match="Decider has neither predict_proba nor decision_function"):
        macro_ovr_auc_scorer(Decider(), [[0], [1]], [0, 1])
    X, y = load_iris(return_X_y=True)
    assert 0.9 < macro_ovr_auc_scorer(NearestCentroid().fit(X, y), X, y) <= 1
