"""Pictures of what classifiers say: the numbers of the comparison stand where they should."""

import matplotlib
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from hybridus import ReferralDisplay, ReliabilityDisplay
from hybridus.protocol.compare import compare

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures of one test do not reach the next."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture(scope="module")
def found():
    X, y = load_wine(return_X_y=True)
    names = np.array(["normal", "malignant", "benign"])[y]
    models = {"bayes": GaussianNB(), "svm": SVC()}
    return compare(models, X[:, :3], names, groups="independent", scoring="accuracy")


def test_bins_of_models_with_probabilities_are_drawn(found):
    display = ReliabilityDisplay.from_comparison(found, positive="malignant")
    bins = found.reliability("malignant").loc["bayes"]
    assert list(display.curves_) == ["bayes"]
    points, _, (bars,) = display.curves_["bayes"].lines
    np.testing.assert_allclose(points.get_xdata().astype(float), bins["probability"])
    np.testing.assert_allclose(points.get_ydata().astype(float), bins["share"])
    drawn = np.array([line[:, 1] for line in bars.get_segments()], dtype=float)
    np.testing.assert_allclose(drawn, bins[["low", "high"]])
    assert display.ax_.get_xlabel() == "probability of malignant"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["as said", "bayes"]
    likely = ReliabilityDisplay.from_comparison(found)
    assert likely.ax_.get_xlabel() == "probability of the most probable class"


def test_accuracy_rises_from_that_of_all_scans(found):
    display = ReferralDisplay.from_comparison(found)
    assert list(display.lines_) == found.table.index.tolist()
    for model, line in display.lines_.items():
        rows = found.referral.loc[model]
        np.testing.assert_allclose(line.get_xdata(), rows["referred_share"])
        np.testing.assert_allclose(line.get_ydata(), rows["accuracy"])
    assert display.ax_.get_xticklabels()[0].get_text().endswith("%")


def test_axes_that_are_given_are_drawn_into(found):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2)
    assert ReliabilityDisplay.from_comparison(found, ax=axes[0]).ax_ is axes[0]
    assert ReferralDisplay.from_comparison(found, ax=axes[1]).figure_ is figure


def test_nothing_to_draw_is_told(found):
    X, y = load_wine(return_X_y=True)
    svm = compare({"svm": SVC()}, X, y, groups="independent", scoring="accuracy", n_splits=2)
    with pytest.raises(ValueError, match="no model gives probabilities: nothing to draw"):
        ReliabilityDisplay.from_comparison(svm)
    with pytest.raises(ValueError, match="no model says how sure it is"):
        ReferralDisplay(found.referral.iloc[:0])
