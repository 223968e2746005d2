"""Running folds: groups reach what asks for them, models are asked once, nothing is swallowed."""

import json
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import AdaBoostClassifier
from sklearn.linear_model import Perceptron
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from hybridus.exceptions import UngroupedWarning
from hybridus.protocol.folds import repeated_folds
from hybridus.protocol.routing import fit_with_groups
from hybridus.protocol.run import run_fold
from hybridus.protocol.schedule import run_folds
from hybridus.training.interrupts import fitted_directly


@pytest.fixture(scope="module")
def wine():
    """178 samples of three classes, in 60 groups of two or three of one class."""
    X, y = load_wine(return_X_y=True)
    return X, y, np.array([f"{label}-{i // 3}" for i, label in enumerate(y)], dtype=object)


class GroupSpy(ClassifierMixin, BaseEstimator):
    """Classifier that asks for groups and refuses to be fitted without one for each sample."""

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  scikit-learn's own spelling

    def __init__(self, strength=1):
        self.strength = strength

    def fit(self, X, y, groups=None):
        if groups is None or len(groups) != len(X):
            raise RuntimeError(f"groups={groups!r} for {len(X)} samples")
        # The first column of X names the group: both must have been cut alike.
        np.testing.assert_array_equal(np.asarray(X)[:, 0].astype(int), groups)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))

    def predict_proba(self, X):
        return np.tile(np.eye(len(self.classes_))[0], (len(X), 1))


class SplitSpy(StratifiedGroupKFold):
    """Splitter that checks that no group stands on both sides, and that it was given groups."""

    def split(self, X, y=None, groups=None):
        if groups is None or len(groups) != len(X):
            raise RuntimeError(f"groups={groups!r} for {len(X)} samples")
        for train, test in super().split(X, y, groups):
            assert not set(np.asarray(groups)[train]) & set(np.asarray(groups)[test])
            yield train, test


class Counting(DummyClassifier):
    """Notes how often it is asked."""

    asked: list = []  # noqa: RUF012  of all instances, since they are cloned

    def predict(self, X):
        self.asked.append("predict")
        return super().predict(X)

    def predict_proba(self, X):
        self.asked.append("predict_proba")
        return super().predict_proba(X)


def test_scores_and_predictions_are_those_of_scikit_learn(wine):
    X, y, _ = wine
    fold = repeated_folds(y, n_splits=3)[1]
    result = run_fold(SVC(), X, y, fold, ["accuracy", "f1_macro"])
    expected = cross_validate(
        SVC(), X, y, cv=[fold], scoring=["accuracy", "f1_macro"], return_estimator=True
    )
    assert result.scores == {
        "accuracy": expected["test_accuracy"][0],
        "f1_macro": expected["test_f1_macro"][0],
    }
    (fitted,) = expected["estimator"]
    np.testing.assert_array_equal(result.predictions, fitted.predict(X[fold[1]]))
    np.testing.assert_array_equal(result.decisions, fitted.decision_function(X[fold[1]]))
    assert result.classes.tolist() == [0, 1, 2]
    assert result.test.tolist() == fold[1].tolist()
    assert result.fit_seconds > 0
    assert result.score_seconds > 0


def test_a_result_holds_what_is_true_and_which_samples_belong_together(wine):
    X, y, groups = wine
    names = np.array(["one", "two", "three"])[y]
    fold = repeated_folds(names, groups, n_splits=3)[1]
    results = [
        run_fold(SVC(), X, names, fold, groups=groups),
        next(iter(run_folds({"svm": SVC()}, X, pd.Series(names), [fold], groups=groups))),
    ]
    for result in results:
        assert result.truth.tolist() == names[fold[1]].tolist()
        assert result.groups.tolist() == groups[fold[1]].tolist()
        assert result.decided_by == "decision_function"
        kept = result.without_predictions()
        assert (kept.truth is result.truth, kept.predictions) == (True, None)
    alone = run_fold(GaussianNB(), X, y, fold, groups="independent")
    assert (alone.groups, alone.decided_by, alone.by_sample) == (None, "predict_proba", None)


def test_decisions_are_probabilities_where_there_are_any(wine):
    X, y, _ = wine
    fold = repeated_folds(y, n_splits=3)[0]
    result = run_fold(GaussianNB(), X, y, fold)
    np.testing.assert_allclose(result.decisions.sum(axis=1), 1)
    np.testing.assert_array_equal(result.decisions.argmax(axis=1), result.predictions)


class Deciding(ClassifierMixin, BaseEstimator):
    """Neither probabilities nor a decision function."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[1], len(X))


def test_a_model_that_only_decides_is_no_error(wine):
    X, y, _ = wine
    result = run_fold(Deciding(), X, y, repeated_folds(y, n_splits=3)[0], "accuracy")
    assert result.decisions is None
    assert result.decided_by is None
    assert result.classes is None
    assert set(result.predictions) == {1}


def test_a_model_is_asked_once_for_all_scores_and_predictions(wine, monkeypatch):
    monkeypatch.setattr(Counting, "asked", [])
    X, y, _ = wine
    run_fold(Counting(), X, y, repeated_folds(y, n_splits=3)[0])
    assert sorted(Counting.asked) == ["predict", "predict_proba"]


def test_scorers_of_scikit_learn_take_what_they_are_given(wine):
    X, y, _ = wine
    names = ("neg_log_loss", "roc_auc_ovr", "top_k_accuracy", "matthews_corrcoef")
    fold = repeated_folds(y, n_splits=3)[0]
    found = run_fold(
        GaussianNB(), X, y, fold, {**{n: n for n in names}, "own": get_scorer("f1_macro")}
    )
    fitted = GaussianNB().fit(X[fold[0]], y[fold[0]])
    for name, value in found.scores.items():
        scorer = get_scorer("f1_macro" if name == "own" else name)
        assert value == pytest.approx(scorer(fitted, X[fold[1]], y[fold[1]]), rel=1e-12)


def test_kernel_matrices_are_cut_in_both_directions(wine):
    X, y, _ = wine
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    fold = repeated_folds(y, n_splits=3)[0]
    direct = run_fold(SVC(kernel="linear"), X, y, fold, "accuracy")
    cut = run_fold(SVC(kernel="precomputed"), X @ X.T, y, fold, "accuracy")
    assert cut.scores == direct.scores


def test_results_come_in_order_as_they_are_done_and_lazily(wine):
    X, y, _ = wine
    fits = []

    class Noting(DummyClassifier):
        def fit(self, X, y):
            fits.append(len(X))
            return super().fit(X, y)

    folds = repeated_folds(y, n_splits=3, n_repeats=2)
    results = run_folds({"a": Noting(), "b": DummyClassifier()}, X, y, folds, scoring="accuracy")
    assert fits == []
    first = next(results)
    assert (first.model, first.repeat, first.fold, fits) == ("a", 0, 0, [len(folds[0][0])])
    rest = [(result.model, result.repeat, result.fold) for result in results]
    every = [(name, r, f) for name in "ab" for r in range(2) for f in range(3)]
    assert rest == every[1:]
    assert fits == [len(train) for train, _ in folds]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_change_nothing_but_seconds(wine, backend):
    X, y, groups = wine
    codes = pd.factorize(groups, sort=True)[0]
    search = GridSearchCV(
        DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3]}, cv=SplitSpy(3)
    )
    folds = repeated_folds(y, groups, n_splits=3)
    with joblib.parallel_config(backend=backend):
        one, two = (
            list(run_folds({"search": search}, X, y, folds, groups=codes, n_jobs=n))
            for n in (None, 2)
        )
    for single, parallel in zip(one, two, strict=True):
        assert parallel.scores == single.scores
        assert parallel.best_params == single.best_params
        np.testing.assert_array_equal(parallel.decisions, single.decisions)


def test_groups_reach_the_inner_folds_of_a_search(wine):
    X, y, groups = wine
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-1]}, cv=SplitSpy(3))
    codes = pd.factorize(groups, sort=True)[0]
    folds = repeated_folds(y, groups, n_splits=3)
    models = {"search": search, "plain": GaussianNB()}
    rows = [result.row() for result in run_folds(models, X, y, folds, groups=codes)]
    assert {json.loads(row["best_params"])["var_smoothing"] for row in rows[:3]} <= {1e-9, 1e-1}
    assert [row["best_params"] for row in rows[3:]] == [""] * 3
    assert not hasattr(search, "best_params_")
    # The same holds where users have switched routing on themselves.
    with sklearn.config_context(enable_metadata_routing=True):
        routed = list(run_folds({"search": search}, X, y, folds, groups=codes))
    assert [result.scores["accuracy"] for result in routed] == [row["accuracy"] for row in rows[:3]]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            make_pipeline(StandardScaler(), GridSearchCV(SVC(), {"C": [1, 9]}, cv=SplitSpy(3))),
            id="search inside a pipeline",
        ),
        pytest.param(
            CalibratedClassifierCV(LinearSVC(), cv=SplitSpy(3)), id="folds of a calibration"
        ),
        pytest.param(
            GridSearchCV(
                AdaBoostClassifier(n_estimators=2), {"learning_rate": [0.1, 1]}, cv=SplitSpy(3)
            ),
            id="search over an estimator that does not know routing",
        ),
        pytest.param(GroupSpy(), id="fit of an estimator"),
        pytest.param(
            make_pipeline(FunctionTransformer(), GroupSpy()), id="fit at the end of a pipeline"
        ),
        pytest.param(
            GridSearchCV(
                make_pipeline(FunctionTransformer(), GroupSpy()),
                {"groupspy__strength": [1, 2]},
                cv=SplitSpy(3),
                error_score="raise",
            ),
            id="fit inside a search",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")
def test_groups_reach_everything_that_asks_for_them(wine, model):
    _, y, groups = wine
    codes = pd.factorize(groups, sort=True)[0]
    X = np.column_stack([codes, y + np.random.default_rng(0).normal(size=len(y))])
    for fold in repeated_folds(y, groups, n_splits=3)[:1]:
        assert 0.3 < run_fold(model, X, y, fold, groups=codes).scores["accuracy"] <= 1
    assert fit_with_groups(model, X, y, codes).predict(X).shape == y.shape


def test_estimators_that_do_not_know_groups_or_routing_are_fitted_without(wine):
    X, y, groups = wine
    codes = pd.factorize(groups, sort=True)[0]
    fold = repeated_folds(y, groups, n_splits=3)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (AdaBoostClassifier(n_estimators=3), SVC()):
            assert run_fold(model, X, y, fold, groups=codes).scores["accuracy"] > 0.6


def test_a_search_whose_inner_folds_ignore_the_groups_is_told_of_once(wine):
    X, y, groups = wine
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]}, cv=StratifiedKFold(3))
    codes = pd.factorize(groups, sort=True)[0]
    folds = repeated_folds(y, groups, n_splits=3)
    with pytest.warns(UngroupedWarning, match="StratifiedGroupKFold") as told:
        list(run_folds({"search": search}, X, y, folds, groups=codes))
    assert len(told) == 1


class Interrupted(DummyClassifier):
    """A fit that Ctrl-C reaches; ours keep what they learned where a user called them directly."""

    fits: list = []  # noqa: RUF012  of all instances, since they are cloned

    def fit(self, X, y):
        self.fits.append(fitted_directly())
        if len(self.fits) == 2:
            raise KeyboardInterrupt
        return super().fit(X, y)


def test_an_interrupt_ends_the_work_and_its_fold_does_not_count(wine, monkeypatch):
    monkeypatch.setattr(Interrupted, "fits", [])
    X, y, _ = wine
    finished = []
    results = run_folds({"a": Interrupted()}, X, y, repeated_folds(y, n_splits=3))
    with pytest.raises(KeyboardInterrupt):
        finished.extend(result.fold for result in results)
    assert finished == [0]
    # Not one that a training loop may swallow to keep its weights.
    assert Interrupted.fits == [False, False]


def test_results_can_be_told_without_predictions(wine):
    X, y, _ = wine
    result = run_fold(Perceptron(), X, y, repeated_folds(y, n_splits=3)[0], "accuracy")
    short = result.without_predictions()
    assert short.predictions is None
    assert short.decisions is None
    assert short.row() == result.row()
    assert list(result.row()) == [
        *("model", "repeat", "fold", "n_train", "n_test", "test_set", "accuracy"),
        *("fit_seconds", "score_seconds", "best_params"),
    ]
