"""Folds, comparison and paired tests: duplicates stay together and numbers are those of sklearn."""

import itertools
import json
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import AdaBoostClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from hybridus.exceptions import UngroupedWarning
from hybridus.protocol.model_selection import (
    compare,
    corrected_t_test,
    repeated_folds,
    score_folds,
    summarize,
)
from hybridus.protocol.routing import fit_with_groups


@pytest.fixture(scope="module")
def wine():
    """178 samples of three classes, in 60 groups of two or three of one class."""
    X, y = load_wine(return_X_y=True)
    groups = np.array([f"{label}-{i // 3}" for i, label in enumerate(y)], dtype=object)
    return X, y, groups


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


def quick(**parameters):
    return make_pipeline(StandardScaler(), LogisticRegression(**parameters))


def test_folds_keep_groups_whole_and_test_every_sample_once_per_repeat(wine):
    _, y, groups = wine
    folds = repeated_folds(y, groups, n_splits=4, n_repeats=3, random_state=5)
    assert len(folds) == 12
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == len(y)
        assert set(y[test]) == {0, 1, 2}
    for repeat in range(3):
        tested = np.concatenate([test for _, test in folds[4 * repeat : 4 * repeat + 4]])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(y)))


def test_folds_are_those_of_scikit_learn_with_one_seed_per_repeat(wine):
    _, y, groups = wine
    folds = repeated_folds(y, groups, n_splits=3, n_repeats=2, random_state=7)
    expected = itertools.chain.from_iterable(
        StratifiedGroupKFold(3, shuffle=True, random_state=seed).split(y, y, groups)
        for seed in (7, 8)
    )
    for (train, test), (their_train, their_test) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(test, their_test)


@pytest.mark.parametrize("groups", [None, "independent"])
def test_folds_without_groups_are_stratified_and_silent(wine, groups):
    _, y, _ = wine
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = repeated_folds(y, groups, n_splits=5)
    expected = StratifiedKFold(5, shuffle=True, random_state=0).split(y, y)
    for (_, test), (_, their_test) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(test, their_test)


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (
            ["a"] * 9 + ["b"] * 9,
            [*range(9), 9, 9, 9, 9, 9, 9, 10, 10, 10],
            "class b has only 2 groups, fewer than the 3 folds: take fewer folds",
        ),
        ([0] * 9 + [1] * 2, None, "class 1 has only 2 samples, fewer than the 3 folds"),
        ([0, 1] * 6, [0, 1, None] * 4, r"groups\[2\] is missing \(None\)"),
        ([0, 1] * 6, ["a", "b", float("nan")] * 4, r"groups\[2\] is missing \(nan\)"),
        ([0, 1] * 6, [0, 1], r"groups has shape \(2,\): expected \(12,\)"),
        ([0, 1] * 6, "none", r"groups='none'.*'independent'"),
        ([[0, 1]] * 6, None, r"y has shape \(6, 2\)"),
    ],
)
def test_folds_that_cannot_be_made_say_why_and_what_to_do(y, groups, message):
    with pytest.raises(ValueError, match=message):
        repeated_folds(y, groups, n_splits=3)


def test_folds_that_would_test_no_sample_of_a_class_are_refused():
    # Each class has four groups, but they are of unequal size and two hold both classes.
    y, groups = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 0, 0, 1, 1, 4, 5]
    with pytest.raises(ValueError, match=r"fold 2 tests no sample of class 1.*fewer"):
        repeated_folds(y, groups, n_splits=4, random_state=0)
    for _, test in repeated_folds(y, groups, n_splits=2, random_state=0):
        assert set(np.asarray(y)[test]) == {0, 1}


def test_compare_gives_the_scores_of_scikit_learn_on_its_folds(wine):
    X, y, groups = wine
    table = compare({"logistic": quick()}, X, y, groups=groups, n_splits=4, n_repeats=2)
    folds = repeated_folds(y, groups, n_splits=4, n_repeats=2)
    for metric in ("accuracy", "f1_macro", "balanced_accuracy"):
        scores = cross_val_score(quick(), X, y, cv=folds, scoring=metric)
        assert table.loc["logistic", f"{metric}_mean"] == pytest.approx(scores.mean())
        assert table.loc["logistic", f"{metric}_std"] == pytest.approx(scores.std(ddof=1))
    scores = cross_val_score(quick(), X, y, cv=folds, scoring="roc_auc_ovr")
    assert table.loc["logistic", "macro_ovr_auc_mean"] == pytest.approx(scores.mean())
    assert table.attrs["split"] == "StratifiedGroupKFold, groups kept whole"
    assert 0 < table.loc["logistic", "fit_seconds"] < 10
    rows = pd.DataFrame(table.attrs["folds"])
    assert rows["accuracy"].mean() == pytest.approx(table.loc["logistic", "accuracy_mean"])
    assert rows["repeat"].tolist() == [0] * 4 + [1] * 4
    assert rows["n_test"].sum() == 2 * len(y)


def test_compare_ranks_by_the_first_metric_and_tests_against_the_best(wine):
    X, y, groups = wine
    models = {"dummy": DummyClassifier(), "raw": SVC(), "scaled": quick()}
    table = compare(models, X, y, groups=groups, scoring=["f1_macro", "accuracy"])
    assert table.index.tolist() == ["scaled", "raw", "dummy"]
    assert table.columns[0] == "f1_macro_mean"
    assert table["f1_macro_mean"].is_monotonic_decreasing
    assert np.isnan(table.loc["scaled", "p_value"])
    assert table.loc["scaled", "behind_best"] == 0
    rows = pd.DataFrame(table.attrs["folds"])
    scores = {name: part["f1_macro"].to_numpy() for name, part in rows.groupby("model")}
    behind = scores["scaled"] - scores["raw"]
    assert table.loc["raw", "behind_best"] == pytest.approx(behind.mean())
    share = (rows["n_test"] / rows["n_train"]).mean()
    expected = corrected_t_test(behind, test_share=share)
    assert table.loc["raw", "p_value"] == pytest.approx(expected)
    assert table.loc["dummy", "p_value"] < 1e-4


def test_compare_repeats_itself_and_depends_on_the_seed(wine):
    X, y, groups = wine
    scores = ["accuracy_mean", "accuracy_std", "macro_ovr_auc_mean"]
    first, again, other = (
        compare({"svm": SVC()}, X, y, groups=groups, random_state=seed)[scores]
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert (first["accuracy_std"] != other["accuracy_std"]).all()


def test_processes_change_nothing_but_seconds(wine):
    X, y, groups = wine
    search = GridSearchCV(quick(), {"logisticregression__C": [0.01, 1]}, cv=SplitSpy(3))
    one, two = (
        score_folds({"search": search}, X, y, groups=groups, n_splits=3, n_jobs=n)
        for n in (None, 2)
    )
    same = one.columns.drop(["fit_seconds", "score_seconds"])
    pd.testing.assert_frame_equal(one[same], two[same], check_exact=True)


def test_models_scored_in_several_calls_make_one_table(wine):
    X, y, groups = wine
    settings = {"groups": groups, "n_splits": 3, "n_repeats": 2, "random_state": 4}
    parts = [
        score_folds({"svm": SVC()}, X, y, **settings),
        score_folds({"logistic": quick()}, X, y, **settings),
    ]
    together = compare({"svm": SVC(), "logistic": quick()}, X, y, **settings)
    table = summarize(pd.concat(parts))
    seconds = ["fit_seconds", "score_seconds"]
    pd.testing.assert_frame_equal(table.drop(columns=seconds), together.drop(columns=seconds))
    assert table.attrs["split"] == together.attrs["split"]


@pytest.mark.parametrize("other", [{"random_state": 5}, {"n_splits": 4}, {"n_repeats": 1}])
def test_models_scored_on_other_folds_are_not_compared(wine, other):
    X, y, groups = wine
    settings = {"groups": groups, "n_splits": 3, "n_repeats": 2, "random_state": 4}
    parts = [
        score_folds({"a": DummyClassifier()}, X, y, **settings),
        score_folds({"b": DummyClassifier()}, X, y, **settings | other),
    ]
    with pytest.raises(ValueError, match="on the same folds"):
        summarize(pd.concat(parts))


def test_groups_reach_the_inner_folds_of_a_search(wine):
    X, y, groups = wine
    grid = {"logisticregression__C": [0.01, 1]}
    search = GridSearchCV(quick(), grid, cv=SplitSpy(3), error_score="raise")
    rows = score_folds({"search": search, "plain": quick()}, X, y, groups=groups, n_splits=3)
    best = rows.loc[rows["model"] == "search", "best_params"].map(json.loads)
    assert {params["logisticregression__C"] for params in best} <= {0.01, 1}
    assert rows.loc[rows["model"] == "plain", "best_params"].eq("").all()
    # The same holds where users have switched routing on themselves.
    with sklearn.config_context(enable_metadata_routing=True):
        routed = score_folds({"search": search}, X, y, groups=groups, n_splits=3)
    np.testing.assert_array_equal(routed["accuracy"], rows["accuracy"][:3])


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
def test_groups_reach_everything_that_asks_for_them(wine, model):
    X, y, groups = wine
    codes = pd.factorize(groups, sort=True)[0]
    X = np.column_stack([codes, X])
    rows = score_folds({"model": model}, X, y, groups=codes, n_splits=3)
    assert rows["accuracy"].between(0.3, 1).all()
    assert fit_with_groups(model, X, y, codes).predict(X).shape == y.shape


def test_estimators_that_do_not_know_groups_or_routing_are_fitted_without(wine):
    X, y, groups = wine
    models = {"boosting": AdaBoostClassifier(n_estimators=3), "svm": SVC()}
    table = compare(models, X, y, groups=groups, n_splits=3)
    assert (table["accuracy_mean"] > 0.6).all()


def test_a_search_whose_inner_folds_ignore_the_groups_is_told_of(wine):
    X, y, groups = wine
    search = GridSearchCV(SVC(), {"C": [1, 10]}, cv=StratifiedKFold(3))
    with pytest.warns(UngroupedWarning, match=r"inner folds of GridSearchCV.*StratifiedGr"):
        score_folds({"search": search}, X, y, groups=groups, n_splits=3)


def test_no_groups_is_a_warning_unless_samples_are_said_to_be_independent(wine):
    X, y, _ = wine
    with pytest.warns(UngroupedWarning, match="no groups given: duplicates"):
        unknown = compare({"svm": SVC()}, X, y, n_splits=3)
    assert unknown.attrs["split"] == "StratifiedKFold, groups unknown"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stated = compare({"svm": SVC()}, X, y, groups="independent", n_splits=3)
    assert stated.attrs["split"] == "StratifiedKFold, samples taken as independent"
    assert stated["accuracy_mean"].tolist() == unknown["accuracy_mean"].tolist()
    with pytest.raises(ValueError, match="'independent'"):
        compare({"svm": SVC()}, X, y, groups="none")


def test_duplicates_flatter_random_folds_and_not_grouped_ones():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(60, 5)), 2, axis=0)
    y = np.repeat(rng.integers(0, 2, 60), 2)  # labels that nothing in X tells
    pairs = np.repeat(np.arange(60), 2)
    memory = {"memory": SVC(C=1000, gamma=10)}
    random = compare(memory, X, y, groups="independent", n_repeats=3)
    grouped = compare(memory, X, y, groups=pairs, n_repeats=3)
    assert random.loc["memory", "accuracy_mean"] > 0.85
    assert grouped.loc["memory", "accuracy_mean"] < 0.65


def first_value(X):
    return np.array([[np.asarray(image).ravel()[0]] for image in X])


def length(X):
    return np.array([[len(path)] for path in X])


@pytest.mark.parametrize("form", ["list of ragged images", "stack", "object array", "paths"])
def test_images_come_in_any_form_that_can_be_indexed(form):
    y = np.repeat([0, 1], 12)
    ragged = [np.full((4 + i % 3, 5), label, dtype=np.uint8) for i, label in enumerate(y)]
    X, features = ragged, first_value
    if form == "stack":
        X = np.stack([image[:4] for image in ragged])
    elif form == "object array":
        X = np.empty(len(ragged), dtype=object)
        X[:] = ragged
    elif form == "paths":
        X = np.array(["a/b.png" if label else "c.png" for label in y], dtype=object)
        features = length
    model = make_pipeline(FunctionTransformer(features), LogisticRegression())
    table = compare({"model": model}, X, list(y), groups=list(range(24)), n_splits=3)
    assert table.loc["model", "accuracy_mean"] == 1


def test_callers_arrays_stay_as_they_were(wine):
    X, y, groups = (array.copy() for array in wine)
    for array in (X, y, groups):
        array.flags.writeable = False
    compare({"logistic": quick()}, X, y, groups=groups, n_splits=3)


def test_scoring_takes_a_name_names_or_functions(wine):
    X, y, _ = wine
    settings = {"groups": "independent", "n_splits": 3}

    def half(estimator, X, y):
        return 0.5

    one = score_folds({"svm": SVC()}, X, y, scoring="f1_macro", **settings)
    assert one.columns[6] == "f1_macro"
    mixed = score_folds({"svm": SVC()}, X, y, scoring={"half": half, "acc": "accuracy"}, **settings)
    assert mixed["half"].tolist() == [0.5] * 3
    assert mixed.columns[6:8].tolist() == ["half", "acc"]


def test_a_model_that_fails_ends_the_comparison_with_its_own_error(wine):
    X, y, _ = wine
    with pytest.raises(ValueError, match="no_such_kernel"):
        compare({"svm": SVC(kernel="no_such_kernel")}, X, y, groups="independent")
    with pytest.raises(ValueError, match="models is empty"):
        compare({}, X, y, groups="independent")
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        compare({"svm": SVC()}, X[:-1], y, groups="independent")


def test_corrected_t_test_is_the_formula_of_nadeau_and_bengio():
    differences = np.random.default_rng(3).normal(0.02, 0.03, 15)
    plain = stats.ttest_1samp(differences, 0)
    expected = 2 * stats.t.sf(abs(plain.statistic) / np.sqrt(1 + 15 * 0.25), df=14)
    found = corrected_t_test(differences, test_share=0.25)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > plain.pvalue
    assert corrected_t_test(differences, test_share=0) == pytest.approx(plain.pvalue, rel=1e-12)
    assert corrected_t_test(-differences, test_share=0.25) == pytest.approx(found, rel=1e-12)


def test_corrected_t_test_knows_constant_differences():
    assert corrected_t_test([0, 0, 0], test_share=0.5) == 1
    assert corrected_t_test([0.1, 0.1, 0.1], test_share=0.5) == pytest.approx(0, abs=1e-12)
    assert corrected_t_test([0.5, 0.5], test_share=0.5) == 0
    with pytest.raises(ValueError, match="two folds or more"):
        corrected_t_test([0.1], test_share=0.25)
