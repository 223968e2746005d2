"""Resampling: weights mean copies, every score is that of scikit-learn on the copied samples."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
    roc_curve,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from hybridus.protocol.folds import repeated_folds
from hybridus.protocol.resampling import (
    Ratio,
    SensitivityOnCurve,
    group_codes,
    percentiles,
    resample,
    score_statistic,
)
from hybridus.protocol.run import run_fold

WEIGHTS = np.random.default_rng(0).integers(0, 4, (7, 60)).astype(float)


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return X[:, :2].round(0), y, repeated_folds(y, n_splits=3)[0]


def copied(values, weights):
    return np.repeat(values, weights.astype(int), axis=0)


def test_scores_of_classes_are_those_of_copied_samples(wine):
    X, y, fold = wine
    result = run_fold(GaussianNB(), X, y, fold)  # two rounded features, so that there are ties
    expected = {
        "accuracy": lambda y, p, s: accuracy_score(y, p),
        "balanced_accuracy": lambda y, p, s: balanced_accuracy_score(y, p),
        "f1_macro": lambda y, p, s: f1_score(y, p, average="macro"),
        "macro_ovr_auc": lambda y, p, s: roc_auc_score(y, s, multi_class="ovr"),
    }
    assert set(result.scores) == set(expected)
    for name, score in expected.items():
        found = score_statistic(result, name)(WEIGHTS)
        for value, weights in zip(found, WEIGHTS, strict=True):
            given = [
                copied(v, weights) for v in (result.truth, result.predictions, result.decisions)
            ]
            assert value == pytest.approx(score(*given)), name


def test_two_classes_are_ranked_by_any_decision(wine):
    X, y, _ = wine
    y = np.array(["ill", "well"])[(y > 0).astype(int)]
    fold = repeated_folds(y, n_splits=3)[0]
    result = run_fold(SVC(), X, y, fold, ["roc_auc", "accuracy"])
    assert result.decisions.ndim == 1
    found = score_statistic(result, "roc_auc")(WEIGHTS)
    for value, weights in zip(found, WEIGHTS, strict=True):
        expected = roc_auc_score(copied(result.truth, weights), copied(result.decisions, weights))
        assert value == pytest.approx(expected)


def test_a_score_of_the_callers_own_is_not_taken_for_a_known_one(wine):
    X, y, fold = wine
    scoring = {"accuracy": lambda model, X, y: model.score(X, y) / 2, "own": "accuracy"}
    result = run_fold(LogisticRegression(max_iter=1000), X, y, fold, scoring)
    assert score_statistic(result, "accuracy") is None
    assert score_statistic(result, "own") is None
    result = run_fold(GaussianNB(), X, y, fold)
    assert score_statistic(result.without_predictions(), "accuracy") is None


def test_an_area_without_a_class_is_not_defined(wine):
    X, y, fold = wine
    result = run_fold(GaussianNB(), X, y, fold)
    weights = np.stack([np.ones(60), (result.truth != 1).astype(float)])
    found = score_statistic(result, "macro_ovr_auc")(weights)
    assert np.isnan(found).tolist() == [False, True]
    balanced = score_statistic(result, "balanced_accuracy")(weights)
    right = [(result.predictions == result.truth)[result.truth == k].mean() for k in (0, 2)]
    assert balanced[1] == pytest.approx(np.mean(right))


def test_sensitivity_is_read_off_the_roc_curve():
    rng = np.random.default_rng(1)
    positive = rng.random(60) < 0.4
    scores = np.round(rng.normal(size=60) + positive, 1)
    for specificity in (0.5, 0.9, 0.99):
        found = SensitivityOnCurve(positive, scores, specificity)(WEIGHTS)
        for value, weights in zip(found, WEIGHTS, strict=True):
            alarms, hits, _ = roc_curve(copied(positive, weights), copied(scores, weights))
            assert value == pytest.approx(hits[alarms <= 1 - specificity + 1e-9].max())
    alone = SensitivityOnCurve(positive, scores, 0.9)(np.stack([positive, ~positive]).astype(float))
    assert np.isnan(alone).all()


def test_groups_are_drawn_and_not_samples():
    right = np.random.default_rng(0).random(200) < 0.7
    share = [(np.arange(200), Ratio(right, np.ones(200)))]
    alone = resample({"a": share}, np.arange(200))["a"]
    assert alone.mean() == pytest.approx(right.mean(), abs=0.003)
    assert alone.std() == pytest.approx(right.std() / np.sqrt(200), rel=0.05)
    copies = [(np.arange(800), Ratio(np.repeat(right, 4), np.ones(800)))]
    grouped = resample({"a": copies}, np.repeat(np.arange(200), 4))["a"]
    np.testing.assert_allclose(grouped, alone)


def test_draws_are_the_same_for_all_and_do_not_depend_on_what_fits_in_memory(monkeypatch):
    from hybridus.protocol import resampling

    parts = {
        name: [(np.arange(50), Ratio(values, np.ones(50)))]
        for name, values in (("a", np.arange(50.0)), ("b", np.arange(50.0) + 1))
    }
    whole = resample(parts, np.arange(50))
    np.testing.assert_allclose(whole["b"] - whole["a"], 1)
    monkeypatch.setattr(resampling, "_MOST_WEIGHTS", 3000)
    np.testing.assert_array_equal(resample(parts, np.arange(50))["a"], whole["a"])


def test_codes_of_groups_are_found_from_any_results(wine):
    X, y, _ = wine
    groups = np.array([f"p{i // 3}" for i in range(len(y))], dtype=object)
    folds = repeated_folds(y, groups, n_splits=3)
    results = [run_fold(GaussianNB(), X, y, fold, groups=groups) for fold in folds[:2]]
    codes = group_codes(results)
    tested = np.concatenate([fold[1] for fold in folds[:2]])
    assert (codes[tested] >= 0).all()
    assert (codes >= 0).sum() == len(tested)
    for code in range(codes.max() + 1):
        assert len(set(groups[: len(codes)][codes == code])) == 1
    alone = group_codes([run_fold(GaussianNB(), X, y, fold) for fold in folds])
    assert sorted(alone) == list(range(len(y)))


def test_intervals_are_wider_where_groups_are_few_and_never_claim_certainty():
    draws = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    low, high = percentiles(draws, 10_000)
    assert (low, high) == pytest.approx((-1.96, 1.96), abs=0.01)
    assert percentiles(draws, 10)[1] == pytest.approx(stats.t.isf(0.025, 9) * np.sqrt(10 / 9), 0.02)
    expected = stats.binomtest(12, 12).proportion_ci()
    assert percentiles(np.ones(2000), 12) == pytest.approx((expected.low, 1))
    assert percentiles(np.zeros(2000), 12) == pytest.approx((0, 1 - expected.low))
    assert np.isnan(percentiles(draws, 1)).all()
    assert np.isnan(percentiles(np.full(5, np.nan), 9)).all()
