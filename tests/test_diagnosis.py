"""One class against the rest: counts and curves by hand; thresholds do not see what they judge."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_wine
from sklearn.metrics import recall_score, roc_auc_score, roc_curve
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from tiny_images import discs

from hybridus.protocol.compare import Comparison, compare


class Deciding(ClassifierMixin, BaseEstimator):
    """Neither probabilities nor a decision function; always right."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[np.asarray(X)[:, 0]]


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    names = np.array(["normal", "malignant", "benign"])[y]
    settings = {"groups": np.arange(len(y)) // 2, "n_repeats": 2, "scoring": "accuracy"}
    return names, compare({"bayes": GaussianNB(), "svm": SVC()}, X[:, :2], names, **settings)


def parts(found, model):
    return [result for result in found.results if result.model == model]


def test_sensitivity_and_specificity_are_those_of_all_predictions(wine):
    y, found = wine
    table = found.one_against_rest("malignant")
    for model in ("bayes", "svm"):
        said = [found.predictions[model][repeat] == "malignant" for repeat in (0, 1)]
        ill = y == "malignant"
        sensitivity = np.mean([recall_score(ill, one) for one in said])
        specificity = np.mean([recall_score(~ill, ~one) for one in said])
        assert table.loc[(model, "sensitivity"), "value"] == pytest.approx(sensitivity)
        assert table.loc[(model, "specificity"), "value"] == pytest.approx(specificity)
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()


def test_curves_are_those_of_each_fold(wine):
    _, found = wine
    table = found.one_against_rest("malignant", specificity=0.8)
    areas, read = [], []
    for one in parts(found, "svm"):
        column = one.decisions[:, one.classes.tolist().index("malignant")]
        ill = one.truth == "malignant"
        areas.append(roc_auc_score(ill, column))
        alarms, hits, _ = roc_curve(ill, column)
        read.append(hits[alarms <= 0.2 + 1e-9].max())
    assert table.loc[("svm", "auc"), "value"] == pytest.approx(np.mean(areas))
    on_curve = table.loc[("svm", "sensitivity_on_curve_at_80"), "value"]
    assert on_curve == pytest.approx(np.mean(read))


def test_a_threshold_is_chosen_on_the_other_folds(wine):
    _, found = wine
    table = found.one_against_rest("malignant")
    rates = []
    for repeat in (0, 1):
        folds = [one for one in parts(found, "bayes") if one.repeat == repeat]
        ranked = [
            (one.decisions[:, one.classes == "malignant"][:, 0], one.truth == "malignant")
            for one in folds
        ]
        said = []
        for i, (scores, _) in enumerate(ranked):
            others = [s[~ill] for j, (s, ill) in enumerate(ranked) if j != i]
            threshold = np.quantile(np.concatenate(others), 0.9, method="inverted_cdf")
            said.append(scores > threshold)
        said, ill = np.concatenate(said), np.concatenate([ill for _, ill in ranked])
        rates.append([said[ill].mean(), 1 - said[~ill].mean()])
    expected = np.mean(rates, axis=0)
    found_at = [
        table.loc[("bayes", f"{name}_at_90"), "value"] for name in ("sensitivity", "specificity")
    ]
    assert found_at == pytest.approx(expected.tolist(), abs=0.01)
    assert found_at[1] == pytest.approx(0.9, abs=0.04)


def test_models_that_only_decide_have_no_curve_and_no_certainty(wine):
    y, _ = wine
    codes = np.unique(y, return_inverse=True)[1]
    groups = np.arange(len(y)) // 2
    found = compare({"deciding": Deciding()}, codes[:, None], y, groups=groups, scoring="accuracy")
    table = found.one_against_rest("malignant").loc["deciding"]
    assert table.loc[["sensitivity", "specificity"], "value"].tolist() == [1, 1]
    assert table.drop(["sensitivity", "specificity"]).isna().all(axis=None)
    n_groups = len(set(groups[y == "malignant"]))
    expected = stats.binomtest(n_groups, n_groups).proportion_ci().low
    assert table.loc["sensitivity", "low"] == pytest.approx(expected)


def test_thresholds_on_noise_find_nothing_above_chance():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1], 300))
    found = compare({"bayes": GaussianNB()}, rng.normal(size=(600, 4)), y, groups="independent")
    table = found.one_against_rest(1).loc["bayes"]
    assert table.loc["sensitivity_at_90", "value"] == pytest.approx(0.1, abs=0.05)
    assert table.loc["specificity_at_90", "value"] == pytest.approx(0.9, abs=0.03)
    assert table.loc["auc", "low"] < 0.5 < table.loc["auc", "high"]


def test_what_cannot_be_read_so_is_told(wine):
    _, found = wine
    with pytest.raises(ValueError, match=r"positive='ill': expected one of the classes \['benign'"):
        found.one_against_rest("ill")
    with pytest.raises(ValueError, match="specificity=90: expected a share"):
        found.one_against_rest("benign", specificity=90)
    dropped = Comparison([result.without_predictions() for result in found.results])
    with pytest.raises(
        ValueError, match="model 'bayes' has no predicted classes: expected results"
    ):
        dropped.one_against_rest("benign")
    images, masks = discs(12, seed=3)

    class Nothing(BaseEstimator):
        def fit(self, X, y):
            return self

        def predict(self, X):
            return np.zeros(X.shape, dtype=np.uint8)

    segmented = compare({"none": Nothing()}, images, masks, groups="independent", n_splits=2)
    with pytest.raises(ValueError, match="model 'none' has no predicted classes"):
        segmented.one_against_rest(1)
