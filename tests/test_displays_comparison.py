"""Pictures of a comparison: what is drawn is what its tables say."""

import dataclasses

import matplotlib
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import Perceptron
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hybridus import (
    ConfusionDisplay,
    FeatureMapDisplay,
    ForestDisplay,
    PrecisionRecallDisplay,
    RocDisplay,
    TrainingHistoryDisplay,
    compare,
)
from hybridus.protocol.comparison import Comparison
from hybridus.report.feature_map import lay_out

matplotlib.use("Agg")
NAMES = ["normal", "malignant", "benign"]


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures of one test do not reach the next."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return X[:, :3], y


@pytest.fixture(scope="module")
def found(wine):
    """Three models, one of which gives probabilities."""
    models = {"svm": SVC(), "bayes": GaussianNB(), "line": Perceptron()}
    return compare(models, *wine, groups="independent", n_splits=3, n_repeats=2)


def test_intervals_stand_in_the_order_of_the_table(found):
    display = ForestDisplay.from_comparison(found, "f1_macro")
    table = found.intervals.xs("f1_macro", level="metric").loc[found.table.index]
    np.testing.assert_allclose(display.intervals, table[["mean", "low", "high"]])
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == found.table.index.tolist()
    top, bottom = display.ax_.get_ylim()
    assert top > bottom  # row 0, the best, on top
    lines = display.ax_.collections[0].get_segments()
    np.testing.assert_allclose([line[:, 0] for line in lines], table[["low", "high"]])
    with pytest.raises(ValueError, match="metric='auc': expected one of"):
        ForestDisplay.from_comparison(found, "auc")


def test_each_sample_counts_once_in_a_confusion_matrix(found, wine):
    display = ConfusionDisplay.from_comparison(found, "bayes", class_names=NAMES)
    counts = display.matrix
    assert counts.index.tolist() == counts.columns.tolist() == NAMES
    np.testing.assert_allclose(counts.sum(axis=1), np.bincount(wine[1]))
    right = found.table.loc["bayes", "accuracy_mean"]
    assert np.trace(counts) / len(wine[1]) == pytest.approx(right, abs=0.002)
    shown = [text.get_text() for text in display.ax_.texts]
    assert shown[0] == f"{counts.iloc[0, 0]:.0f}\n{100 * counts.iloc[0, 0] / 59:.0f} %"
    with pytest.raises(ValueError, match="model='x': expected a classifier"):
        ConfusionDisplay.from_comparison(found, "x")


def test_areas_are_those_of_one_class_against_the_rest(found):
    display = RocDisplay.from_comparison(found, positive=1)
    told = found.one_against_rest(1)["value"].xs("auc", level="measure")
    assert list(display.areas) == found.table.index.tolist()
    for model, area in display.areas.items():
        assert area == pytest.approx(told[model])
        assert np.trapezoid(display.curves[model], dx=1 / 200) == pytest.approx(area, abs=0.005)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0] == f"{found.table.index[0]} (AUC {next(iter(display.areas.values())):.3f})"
    macro = RocDisplay.from_comparison(found)
    of_table = found.table["macro_ovr_auc_mean"].dropna()
    for model, area in of_table.items():
        assert macro.areas[model] == pytest.approx(area)


def test_precision_falls_by_steps_whose_area_is_average_precision(found):
    display = PrecisionRecallDisplay.from_comparison(found, positive=2)
    for model, curve in display.curves.items():
        assert np.mean(curve) == pytest.approx(display.areas[model], abs=0.01)
    assert display.share == pytest.approx(48 / 178)
    with pytest.raises(ValueError, match=r"positive=7: expected one of the classes \[0, 1, 2\]"):
        PrecisionRecallDisplay.from_comparison(found, positive=7)


def test_of_two_classes_the_second_is_looked_for_and_models_without_ranking_are_left_out(wine):
    X, y = wine
    bayes = GaussianNB()
    both = compare({"bayes": bayes}, X, y == 1, groups="independent", n_splits=2)
    display = RocDisplay.from_comparison(both)
    by_hand = [roc_auc_score(y[one.test] == 1, one.decisions[:, 1]) for one in both.results]
    assert display.areas["bayes"] == pytest.approx(np.mean(by_hand))
    silent = Comparison([dataclasses.replace(one, decisions=None) for one in both.results])
    with pytest.raises(ValueError, match="no model ranks samples: nothing to draw"):
        RocDisplay.from_comparison(silent)


def test_one_fold_of_a_network_is_drawn_and_one_axis_takes_one_metric(found):
    from matplotlib.figure import Figure

    epochs = np.arange(1, 5)
    history = {"epoch": epochs, "loss": 1 / epochs, "accuracy": epochs / 5}
    trained = Comparison(
        [
            dataclasses.replace(one, history=history, best_epoch=3) if one.model == "svm" else one
            for one in found.results
        ]
    )
    ax = Figure().subplots()
    display = TrainingHistoryDisplay.from_comparison(trained, fold=1, ax=ax)
    assert list(display.lines_) == ["loss"]
    assert display.axes_.tolist() == [ax]
    assert display.best_epoch == 3
    np.testing.assert_array_equal(display.lines_["loss"].get_ydata(), 1 / epochs)
    both = TrainingHistoryDisplay.from_comparison(trained, "svm")
    assert list(both.lines_) == ["loss", "accuracy"]
    with pytest.raises(ValueError, match="model='bayes', repeat=0, fold=0: no history .*: svm"):
        TrainingHistoryDisplay.from_comparison(trained, "bayes")
    with pytest.raises(ValueError, match="that were trained: none"):
        TrainingHistoryDisplay.from_comparison(found)


def test_like_images_lie_together_and_errors_are_ringed(wine):
    X, y = wine
    scaled = make_pipeline(StandardScaler()).fit_transform(load_wine(return_X_y=True)[0])
    places = lay_out(scaled)
    np.testing.assert_array_equal(places, lay_out(scaled))
    nearest = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(len(y))
    assert (y[nearest.argmin(axis=1)] == y).mean() > 0.9
    display = FeatureMapDisplay(places, y, errors=[3, 4], pairs=[[0, 1]], class_names=NAMES).plot()
    line, *dots, rings = display.ax_.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), places[[0, 1]])
    np.testing.assert_array_equal(rings.get_xydata(), places[[3, 4]])
    assert [len(dot.get_xdata()) for dot in dots] == np.bincount(y).tolist()
    with pytest.raises(ValueError, match=r"y has shape \(2,\), expected \(178,\)"):
        FeatureMapDisplay(places, [0, 1])
    assert lay_out(X[:3]).shape == lay_out(X[:3, :1]).shape == (3, 2)
