"""Differences and intervals of a comparison: the right unit, the right numbers, plain words."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from tiny_images import discs

from hybridus.metrics import dice
from hybridus.protocol.compare import Comparison, compare
from hybridus.protocol.statistics import corrected_t_test, delong_test


class Bright(BaseEstimator):
    """What is brighter than a level is lesion."""

    def __init__(self, level=100):
        self.level = level

    def fit(self, X, y):
        return self

    def predict(self, X):
        return (self.level < X).astype(np.uint8)


class Told(ClassifierMixin, BaseEstimator):
    """Right wherever a column of X is 1; X[:, 0] is the class."""

    def __init__(self, column):
        self.column = column

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        X = np.asarray(X, dtype=int)
        return np.where(X[:, self.column] == 1, X[:, 0], 1 - X[:, 0])


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    models = {"svm": SVC(), "bayes": GaussianNB(), "tree": DecisionTreeClassifier(random_state=0)}
    return y, compare(models, X, y, groups="independent")


@pytest.fixture(scope="module")
def told():
    """100 samples: one model errs on 0 to 4, the other on 2 to 21."""
    y = np.arange(100) % 2
    X = np.column_stack([y, np.arange(100) >= 5, (np.arange(100) < 2) | (np.arange(100) >= 22)])
    return X, y


def test_intervals_are_those_of_out_of_fold_predictions(cancer):
    y, found = cancer
    accuracy = found.intervals.loc[("bayes", "accuracy")]
    assert accuracy["mean"] == pytest.approx(found.table.loc["bayes", "accuracy_mean"])
    assert accuracy["std"] == pytest.approx(found.table.loc["bayes", "accuracy_std"])
    wilson = stats.binomtest(round(accuracy["mean"] * 569), 569).proportion_ci(method="wilson")
    assert accuracy[["low", "high"]].tolist() == pytest.approx([*wilson], abs=0.004)
    assert set(found.intervals["over"]) == {"groups"}
    # The other scores, drawn and calculated one at a time.
    said = found.predictions["tree"][0].to_numpy().astype(int)
    rng = np.random.default_rng(7)
    drawn = [rng.integers(0, 569, 569) for _ in range(300)]
    for name, score in (
        ("f1_macro", lambda y, p: f1_score(y, p, average="macro")),
        ("balanced_accuracy", balanced_accuracy_score),
    ):
        pooled = np.quantile([score(y[i], said[i]) for i in drawn], [0.025, 0.975])
        row = found.intervals.loc[("tree", name)]
        assert row[["low", "high"]].tolist() == pytest.approx(pooled.tolist(), abs=0.01), name


def test_copies_and_repeats_are_no_more_data():
    X, y = load_wine(return_X_y=True)
    X, models = X[:, :3], {"bayes": GaussianNB(), "tree": DecisionTreeClassifier(max_depth=2)}
    alone = compare(models, X, y, groups="independent", scoring="accuracy")
    groups = np.repeat(np.arange(len(y)), 3)
    settings = {"groups": groups, "scoring": "accuracy", "n_repeats": 2}
    copied = compare(models, X[groups], y[groups], **settings)
    widths = [(one.intervals["high"] - one.intervals["low"]).mean() for one in (alone, copied)]
    assert widths[1] == pytest.approx(widths[0], rel=0.25)
    independent = compare(models, X[groups], y[groups], **settings | {"groups": "independent"})
    narrow = (independent.intervals["high"] - independent.intervals["low"]).mean()
    assert narrow < 0.75 * widths[0]
    detectable = [one.differences["detectable"].item() for one in (alone, copied, independent)]
    assert detectable[1] == pytest.approx(detectable[0], rel=0.35)
    assert detectable[2] < 0.75 * detectable[1]


def test_the_test_that_decides_is_a_corrected_t_test_over_groups(told):
    X, y = told
    found = compare({"a": Told(1), "b": Told(2)}, X, y, groups="independent", scoring="accuracy")
    row = found.differences.loc[("a", "b")]
    differ = X[:, 1] - X[:, 2].astype(float)
    assert row["difference"] == pytest.approx(0.15)
    error = 1.5 * stats.sem(differ)
    assert row["p"] == pytest.approx(2 * stats.t.sf(0.15 / error, 99), rel=0.15)
    assert row["p_holm"] == row["p"]
    reach = stats.t.isf(0.025, 99) * error
    assert [row["low"], row["high"]] == pytest.approx([0.15 - reach, 0.15 + reach], abs=0.003)
    detectable = (stats.t.isf(0.025, 99) + stats.t.isf(0.2, 99)) * error
    assert row["detectable"] == pytest.approx(detectable, rel=0.03)
    assert row["p_mcnemar"] == pytest.approx(stats.binomtest(2, 19).pvalue)
    assert row["p_bootstrap"] < row["p"]
    assert np.isnan(row["p_delong"])
    folds = found.folds.pivot_table(index="fold", columns="model", values="accuracy")
    expected = corrected_t_test(folds["a"] - folds["b"], test_share=0.25)
    assert row["p_folds"] == pytest.approx(expected)


def test_groups_vote_once_in_mcnemars_test(told):
    X, y = told
    groups = np.arange(100) // 2  # one sample of each class
    found = compare({"a": Told(1), "b": Told(2)}, X, y, groups=groups, scoring="accuracy")
    # Samples 0 and 1 speak for b, 5 to 21 for a: groups 0, and 2 to 10.
    assert found.differences["p_mcnemar"].item() == pytest.approx(stats.binomtest(1, 10).pvalue)


def test_holm_corrects_for_all_pairs_and_words_follow(cancer):
    _, found = cancer
    table = found.differences
    best, second, third = found.table.index
    assert table.index.tolist() == [(best, second), (best, third), (second, third)]
    order = np.sort(table["p"].to_numpy())
    assert table["p_holm"].min() == pytest.approx(min(1, 3 * order[0]))
    assert (table["verdict"] == np.where(table["p_holm"] < 0.05, "settled", "open")).all()
    opened = table[table["verdict"] == "open"]
    needed = 569 * ((opened["detectable"] / opened["difference"]) ** 2 - 1)
    assert opened["more_groups"].tolist() == np.ceil(needed).tolist()
    assert table.loc[table["verdict"] == "settled", "more_groups"].isna().all()
    lines = found.conclusions
    assert len(lines) == 4
    assert all(line.split(":")[0] in ("settled", "open") for line in lines[:2])
    assert lines[2].startswith(f"pairs without {best}: ")
    assert "569 samples show with a power of 80 %, after Holm's correction over 3 pairs" in lines[3]
    assert all(line in repr(found) and line in found._repr_html_() for line in lines)


def test_words_say_what_holms_correction_undoes(told):
    X, y = told
    noise = np.random.default_rng(0).random((100, 3)) < 0.9
    X = np.column_stack([X, noise])
    models = {f"noise {i}": Told(i) for i in range(3, 6)} | {"a": Told(1), "b": Told(2)}
    found = compare(models, X, y, groups="independent", scoring="accuracy")
    row = found.differences.loc[("a", "b")]
    assert row["p"] < 0.05 < row["p_holm"]
    (line,) = (line for line in found.conclusions if line.startswith("open: a and b differ"))
    assert "which settles nothing, after Holm's correction; some " in line
    assert line.endswith(" more samples would, if it stays as large")


def test_areas_of_two_classes_are_tested_by_delong(cancer):
    _, found = cancer
    table = found.differences_in("macro_ovr_auc")
    tests = []
    for one, other in zip(
        *(
            [result for result in found.results if result.model == name]
            for name in ("bayes", "svm")
        ),
        strict=True,
    ):
        tests.append(delong_test(one.truth == 1, one.decisions[:, 1], other.decisions))
    z = np.mean([np.subtract(*t.areas) for t in tests]) / np.sqrt(
        sum(t.variance for t in tests) / 25
    )
    pair = next(pair for pair in table.index if "tree" not in pair)
    assert table.loc[pair, "p_delong"] == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert table["p_mcnemar"].isna().all()
    # The error of the deciding test, without its correction, is DeLong's.
    error = (table.loc[pair, "high"] - table.loc[pair, "low"]) / 2 / stats.t.isf(0.025, 568) / 1.5
    assert error == pytest.approx(np.sqrt(sum(t.variance for t in tests) / 25), rel=0.1)
    with pytest.raises(ValueError, match=r"metric='dice': expected one of \['accuracy'"):
        found.differences_in("dice")


def test_segmenters_are_compared_image_by_image_through_the_same_door():
    images, masks = discs(48, seed=3)
    groups = np.repeat(np.arange(24), 2)
    models = {"a": Bright(140), "b": Bright(120)}
    found = compare(models, images, masks, groups=groups, n_splits=3)
    row = found.differences.loc[("a", "b")]
    scores = [dice(masks, model.predict(images), average=None) for model in models.values()]
    each = np.subtract(*scores)
    by_group = each.reshape(24, 2).mean(axis=1)
    assert row["difference"] == pytest.approx(each.mean())
    error = stats.sem(by_group) * np.sqrt(1 + 3 * 0.5)
    reach = stats.t.isf(0.025, 23) * error
    assert row["high"] - row["difference"] == pytest.approx(reach, rel=0.1)
    assert row["verdict"] == "settled"
    assert row[["p_mcnemar", "p_delong"]].isna().all()
    dropped = Comparison([result.without_predictions() for result in found.results])
    pd.testing.assert_frame_equal(dropped.differences, found.differences)
    assert set(found.intervals.loc["a"]["over"]) == {"groups"}
    for method in ("calibration", "referral"):
        with pytest.raises(ValueError, match="model 'a' has no predicted classes"):
            getattr(found, method)


def test_scores_of_ones_own_are_judged_over_folds(cancer):
    y, _ = cancer
    X = load_breast_cancer(return_X_y=True)[0]
    scoring = {"own": lambda model, X, y: model.score(X, y) ** 2}
    models = {"bayes": GaussianNB(), "svm": SVC()}
    found = compare(models, X, y, groups="independent", scoring=scoring)
    row = found.differences.iloc[0]
    assert row["over"] == "folds"
    assert row["p"] == row["p_folds"] == found.table["p_value"].iloc[1]
    assert np.isnan(row["p_bootstrap"])
    of_folds = found.folds.loc[found.folds["model"] == "bayes", "own"]
    reach = stats.t.isf(0.025, 4) * np.sqrt((1 / 5 + 0.25) * of_folds.var())
    interval = found.intervals.loc[("bayes", "own")]
    assert interval["high"] == pytest.approx(of_folds.mean() + reach, rel=1e-3)
    part = compare(
        models, X, y, groups="independent", scoring=scoring, folds=[(range(400), range(400, 569))]
    )
    assert part.differences[["low", "p", "detectable"]].isna().all(axis=None)
    assert part.intervals["low"].isna().all()
    assert part.conclusions[0].startswith("open: ")


def test_one_fold_is_tested_over_its_groups(told):
    X, y = told
    models = {"a": Told(1), "b": Told(2)}
    folds = [(np.arange(1, 100, 3), np.setdiff1d(np.arange(100), np.arange(1, 100, 3)))]
    found = compare(models, X, y, groups="independent", scoring="accuracy", folds=folds)
    row = found.differences.iloc[0]
    assert np.isnan(row["p_folds"])
    assert row["over"] == "groups"
    assert 0 < row["p"] < 1
    assert "67 samples show" in found.conclusions[-1]


def test_models_that_never_differ_are_not_called_equal(told):
    X, y = told
    found = compare({"a": Told(1), "b": Told(1)}, X, y, groups="independent", scoring="accuracy")
    row = found.differences.iloc[0]
    assert (row["difference"], row["p"], row["verdict"]) == (0, 1, "open")
    assert row[["low", "high", "detectable", "more_groups"]].isna().all()
    assert found.conclusions == ["open: a and b differ by 0.000, which settles nothing"]
    single = compare({"a": Told(1)}, X, y, groups="independent", scoring="accuracy")
    assert single.differences.empty
    assert single.conclusions == []
    assert "more_groups" in single.differences.columns


def test_samples_tell_what_was_said_of_each(cancer):
    y, found = cancer
    table = found.samples
    assert len(table) == 3 * 569
    of_tree = table[table["model"] == "tree"].set_index("sample").sort_index()
    np.testing.assert_array_equal(of_tree["truth"], y)
    np.testing.assert_array_equal(of_tree["predicted"], found.predictions["tree"][0])
    np.testing.assert_array_equal(of_tree["score_1"] > 0.5, of_tree["predicted"])
    assert of_tree["group"].isna().all()
    by = table.groupby("model")["scored_by"].unique().str[0].to_dict()
    assert by == {"svm": "decision_function", "bayes": "predict_proba", "tree": "predict_proba"}
    of_svm = table[table["model"] == "svm"]
    np.testing.assert_array_equal(of_svm["score_1"] > 0, of_svm["predicted"] == 1)


def test_scores_that_no_fold_defines_stay_undefined_in_silence(told):
    X, y = told
    folds = [
        (np.r_[0:20, 40:100], np.arange(21, 40, 2)),
        (np.r_[0:60, 80:100], np.arange(61, 80, 2)),
    ]
    models = {"bayes": GaussianNB(), "tree": DecisionTreeClassifier()}
    scoring = {"accuracy": "accuracy", "macro_ovr_auc": lambda model, X, y: float("nan")}
    found = compare(models, X, y, groups="independent", folds=folds, scoring=scoring)
    for table in (
        found.differences_in("macro_ovr_auc"),
        found.intervals.xs("macro_ovr_auc", level=1),
    ):
        assert table.select_dtypes("number").isna().all(axis=None)
    images, masks = discs(12, seed=3)
    segmented = compare(
        {"a": Bright(), "b": Bright(140)}, images, masks, groups="independent", n_splits=2
    )
    assert segmented.differences_in("false_positive_rate")["p"].isna().all()  # no normals
    assert segmented.differences_in("false_positive_rate")["over"].tolist() == ["groups"]


def test_a_study_that_is_read_again_says_the_same(tmp_path):
    X, y = load_wine(return_X_y=True)
    names = np.array(["normal", "benign", "malignant"], dtype=object)[y]
    groups = np.array([f"p{i // 2}" for i in range(len(y))], dtype=object)
    models = {"bayes": GaussianNB(), "svm": SVC()}
    first, again = (
        compare(models, X[:, :3], names, groups=groups, n_splits=3, study=tmp_path)
        for _ in range(2)
    )
    for table in ("intervals", "differences", "calibration", "referral", "samples"):
        pd.testing.assert_frame_equal(getattr(first, table), getattr(again, table))
    assert again.conclusions == first.conclusions
