"""Calibration and referral: scikit-learn's figures on all out-of-fold probabilities, and sense."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_wine
from sklearn.metrics import brier_score_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from hybridus.protocol.compare import compare


class Saying(ClassifierMixin, BaseEstimator):
    """Says the first column of X, raised to a power, as the probability of class 1."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        odds = (np.asarray(X)[:, 0] / (1 - np.asarray(X)[:, 0])) ** self.power
        return np.column_stack([1 / (1 + odds), odds / (1 + odds)])

    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)]


@pytest.fixture(scope="module")
def said():
    """1000 samples whose class comes true as often as their only feature says."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0.01, 0.99, (1000, 1))
    y = (rng.random(1000) < X[:, 0]).astype(int)
    models = {"right": Saying(), "sure": Saying(3)}
    return X[:, 0], y, compare(models, X, y, groups="independent", scoring="accuracy")


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    models = {"bayes": GaussianNB(), "svm": SVC()}
    return y, compare(models, X[:, :3], y, groups="independent", scoring="accuracy", n_repeats=2)


def pooled(found, model):
    results = [result for result in found.results if result.model == model]
    return [
        np.concatenate([getattr(one, name) for one in results]) for name in ("truth", "decisions")
    ]


def test_brier_is_that_of_scikit_learn(said, wine):
    X, y, found = said
    truth, proba = pooled(found, "sure")
    table = found.calibration
    assert table.loc["sure", "brier"] == pytest.approx(2 * brier_score_loss(truth, proba[:, 1]))
    assert table.loc["right", "brier"] == pytest.approx(2 * brier_score_loss(y, X))
    squares = 2 * (X - y) ** 2
    low, high = stats.t.interval(0.95, 999, squares.mean(), stats.sem(squares))
    assert table.loc["right", ["brier_low", "brier_high"]].tolist() == pytest.approx(
        [low, high], abs=0.004
    )
    _, found = wine
    truth, proba = pooled(found, "bayes")
    expected = brier_score_loss(truth, proba, labels=[0, 1, 2], scale_by_half=False)
    assert found.calibration.loc["bayes", "brier"] == pytest.approx(expected)


def test_the_calibration_error_is_a_mean_gap_over_bins(said):
    _, _, found = said
    truth, proba = pooled(found, "sure")
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == truth
    share, mean = calibration_curve(right, confidence, n_bins=10)
    n, _ = np.histogram(confidence, np.linspace(0, 1, 11))
    expected = (np.abs(share - mean) * n[n > 0]).sum() / 1000
    row = found.calibration.loc["sure"]
    assert row["calibration_error"] == pytest.approx(expected)
    assert row["calibration_error_low"] < expected < row["calibration_error_high"]
    assert row["confidence"] == pytest.approx(confidence.mean())
    assert row["accuracy"] == pytest.approx(right.mean())


def test_too_sure_a_model_is_told_from_a_calibrated_one(said):
    table = said[2].calibration
    assert table.loc["right", "calibration_error"] < 2 * table.loc["right", "error_if_calibrated"]
    assert table.loc["sure", "calibration_error_low"] > 2 * table.loc["sure", "error_if_calibrated"]
    assert table.loc["sure", "confidence"] > table.loc["sure", "accuracy"] + 0.1
    assert table.loc["right", "brier"] < table.loc["sure", "brier"]


def test_reliability_is_that_of_scikit_learn(said):
    _, _, found = said
    truth, proba = pooled(found, "sure")
    share, mean = calibration_curve(truth, proba[:, 1], n_bins=10)
    bins = found.reliability(positive=1).loc["sure"]
    assert bins["share"].tolist() == pytest.approx(share.tolist())
    assert bins["probability"].tolist() == pytest.approx(mean.tolist())
    assert bins["n"].sum() == 1000
    assert ((bins["low"] <= bins["share"]) & (bins["share"] <= bins["high"])).all()
    row = bins.iloc[3]
    n, k = round(row["n"]), round(row["n"] * row["share"])
    wilson = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert [row["low"], row["high"]] == pytest.approx([wilson.low, wilson.high], abs=0.05)
    likely = found.reliability()
    assert likely.loc["right"].index.get_level_values("from").min() == 0.5
    with pytest.raises(ValueError, match=r"positive=7: expected one of \[0, 1\]"):
        found.reliability(7)


def test_repeats_count_once(wine):
    y, found = wine
    bins = found.reliability()
    assert bins["n"].sum() == len(y)
    assert bins.index.get_level_values("model").unique().tolist() == ["bayes"]
    assert (bins["n_groups"] <= len(y)).all()


def test_models_without_probabilities_are_named_and_still_refer(wine):
    _, found = wine
    table = found.calibration
    assert table["probabilities"].tolist() == [True, False]
    assert table.loc["svm"].drop("probabilities").isna().all()
    referred = found.referral.loc["svm"]
    assert referred.loc[0.0, "accuracy"] == pytest.approx(
        found.table.loc["svm", "accuracy_mean"], abs=0.01
    )


def test_the_least_sure_are_referred_first(said):
    _, _, found = said
    table = found.referral.loc["right"]
    assert table.index.tolist() == pytest.approx(np.arange(11) / 20)
    np.testing.assert_allclose(table["referred_share"], table.index)
    kept = []
    for one in (result for result in found.results if result.model == "right"):
        sure = np.argsort(np.abs(one.decisions[:, 1] - 0.5))[60:]  # 30 % of 200 are referred
        kept.append((one.truth == one.predictions)[sure])
    kept = np.concatenate(kept)
    assert table.loc[0.3, "accuracy"] == pytest.approx(kept.mean())
    n_wrong = 1000 * (1 - table.loc[0.0, "accuracy"])
    assert table.loc[0.3, "errors_caught"] == pytest.approx(1 - (~kept).sum() / n_wrong)
    wilson = stats.binomtest(int(kept.sum()), 700).proportion_ci(method="wilson")
    assert table.loc[0.3, ["low", "high"]].tolist() == pytest.approx([*wilson], abs=0.01)
    assert table["accuracy"].iloc[-1] > table["accuracy"].iloc[0] + 0.1
