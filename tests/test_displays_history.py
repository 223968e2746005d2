"""Curves of a training: the numbers behind them, and that the marks stand where they should."""

import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hybridus.report import TrainingHistoryDisplay, best_so_far

matplotlib.use("Agg")

numbers = st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf])


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures of one test do not reach the next."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def make_history(n_epochs=6, *, validation=True, rates=None, names=("loss", "accuracy", "f1")):
    rng = np.random.default_rng(n_epochs)
    parts = ("", "val_") if validation else ("",)
    columns = {part + name: rng.random(n_epochs) for part in parts for name in names}
    columns["learning_rate"] = 1e-3 if rates is None else rates
    columns["seconds"] = 2.0
    return pd.DataFrame(columns, index=pd.RangeIndex(1, n_epochs + 1, name="epoch"))


class Trained(ClassifierMixin, BaseEstimator):
    """A classifier that keeps a history, as the trained ones do."""

    def __init__(self, n_epochs=6):
        self.n_epochs = n_epochs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.history_ = make_history(self.n_epochs)
        self.best_epoch_ = self.n_epochs - 2
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


def dashed_at(ax):
    """Epoch of the dashed vertical line."""
    (line,) = [line for line in ax.lines if line.get_linestyle() == "--" and _is_vertical(line)]
    return line.get_xdata()[0]


def dotted_at(ax):
    """Epochs of the dotted vertical lines."""
    return [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]


def _is_vertical(line):
    x, y = line.get_xdata(), line.get_ydata()
    return len(x) == 2 and x[0] == x[1] and list(y) == [0, 1]


def legend_texts(display):
    return [text.get_text() for text in display.legend_.get_texts()]


# best_so_far


@given(st.lists(numbers, min_size=1, max_size=20))
def test_best_so_far_is_the_extreme_of_the_numbers_up_to_each_epoch(values):
    history = pd.DataFrame({"val_loss": values, "val_dice": values, "seconds": values})
    before = history.copy()
    best = best_so_far(history)
    pd.testing.assert_frame_equal(history, before)
    for k in range(len(values)):
        known = [value for value in values[: k + 1] if not np.isnan(value)]
        for name, extreme in (("val_loss", min), ("val_dice", max)):
            expected = extreme(known) if known else np.nan
            found = best[name][k]
            assert found == expected or (np.isnan(found) and np.isnan(expected))


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=20))
def test_best_so_far_never_gets_worse(rows):
    best = best_so_far(pd.DataFrame(rows, columns=["loss", "accuracy"]))
    loss, accuracy = best["loss"].dropna().to_numpy(), best["accuracy"].dropna().to_numpy()
    assert (loss[1:] <= loss[:-1]).all()
    assert (accuracy[1:] >= accuracy[:-1]).all()


def test_best_so_far_keeps_shape_and_what_is_no_metric():
    history = make_history(rates=[1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    best = best_so_far(history)
    assert list(best.columns) == list(history.columns)
    assert best.index.equals(history.index)
    for name in ("learning_rate", "seconds"):
        assert best[name].tolist() == history[name].tolist()


# TrainingHistoryDisplay


def test_curves_are_the_columns():
    history = make_history()
    display = TrainingHistoryDisplay.from_history(history, metrics=["loss", "f1"])
    assert set(display.lines_) == {"loss", "val_loss", "f1", "val_f1"}
    for name, line in display.lines_.items():
        assert line.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
        assert line.get_ydata().tolist() == history[name].tolist()
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss", "f1"]
    assert legend_texts(display) == ["training", "validation"]


def test_bold_curves_are_the_best_so_far_over_the_values():
    history = make_history(8)
    history.loc[3, "val_loss"] = np.nan
    display = TrainingHistoryDisplay.from_history(history, metrics="loss", best_so_far=True)
    bold, best = display.lines_["val_loss"], best_so_far(history)["val_loss"]
    assert bold.get_ydata().tolist() == best.tolist()
    assert (np.diff(bold.get_ydata()) <= 0).all()
    assert bold.get_drawstyle() == "steps-post"
    (pale,) = [
        line
        for line in display.axes_[0].lines
        if np.array_equal(line.get_ydata(), history["val_loss"], equal_nan=True)
    ]
    assert pale.get_linewidth() < bold.get_linewidth()
    assert pale.get_alpha() < 1
    assert "validation, best so far" in legend_texts(display)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("precision", "accuracy", "loss"), ["loss", "accuracy"]),
        (("loss", "dice", "iou"), ["loss", "dice"]),
        (("loss",), ["loss"]),
    ],
)
def test_default_is_the_loss_and_the_first_other_metric(names, expected):
    display = TrainingHistoryDisplay.from_history(make_history(names=names))
    assert [ax.get_ylabel() for ax in display.axes_] == expected


def test_without_validation_the_training_curve_is_marked():
    history = make_history(validation=False)
    display = TrainingHistoryDisplay.from_history(history, best_epoch=5)
    assert set(display.lines_) == {"loss", "accuracy"}
    assert legend_texts(display) == ["training", "restored epoch 5"]
    ring = display.axes_[0].lines[-1]
    assert ring.get_ydata() == [history.loc[5, "loss"]]


def test_restored_epoch_is_marked_on_the_validation_curve():
    history = make_history()
    for as_best in (False, True):
        display = TrainingHistoryDisplay.from_history(history, best_epoch=4, best_so_far=as_best)
        for ax, name in zip(display.axes_, ["val_loss", "val_accuracy"], strict=True):
            assert dashed_at(ax) == 4
            (ring,) = [line for line in ax.lines if line.get_label() == "restored epoch 4"]
            assert (ring.get_xdata(), ring.get_ydata()) == ([4], [history.loc[4, name]])


def test_each_step_of_the_learning_rate_is_marked_at_its_first_epoch():
    rates = np.float32([1e-3] * 10 + [1e-4] * 7 + [5e-5] * 8)
    display = TrainingHistoryDisplay.from_history(make_history(25, rates=rates))
    for ax in display.axes_:
        assert dotted_at(ax) == [11, 18]
        assert [text.get_text() for text in ax.texts] == ["lr 1e-4", "lr 5e-5"]
        assert [text.xy[0] for text in ax.texts] == [11, 18]


def test_labels_of_close_steps_stand_upright_and_do_not_overlap():
    rates = 1e-3 * 0.5 ** np.searchsorted([40, 44, 60, 76, 100], np.arange(200), side="right")
    display = TrainingHistoryDisplay.from_history(make_history(200, rates=rates))
    display.figure_.canvas.draw()
    for ax in display.axes_:
        assert dotted_at(ax) == [41, 45, 61, 77, 101]
        boxes = [text.get_window_extent() for text in ax.texts]
        assert len(boxes) == 4
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
        assert all(box.y0 >= 0 and box.y1 <= display.figure_.bbox.y1 for box in boxes)


@pytest.mark.parametrize(
    "rates",
    [
        1e-3 * (1 + np.cos(np.pi * np.arange(30) / 30)) / 2,
        1e-3 * 0.5 ** np.arange(30),
        np.r_[1e-4, 5e-4, np.full(28, 1e-3)],
        1e-3 * 0.9 ** (np.arange(30) // 2),
    ],
    ids=["cosine", "halved each epoch", "warm-up", "many steps"],
)
def test_a_rate_that_glides_is_an_area_and_no_marks(rates):
    display = TrainingHistoryDisplay.from_history(make_history(30, rates=rates))
    for ax in display.axes_:
        assert dotted_at(ax) == []
        assert len(ax.texts) == 0
        (area,) = ax.collections
        outline = area.get_paths()[0].vertices
        assert outline[:, 1].max() == pytest.approx(0.2)
    assert "learning rate, up to 1e-3" in legend_texts(display)


def test_a_constant_or_absent_rate_is_not_mentioned():
    for history in (make_history(), make_history().drop(columns="learning_rate")):
        display = TrainingHistoryDisplay.from_history(history)
        for ax in display.axes_:
            assert dotted_at(ax) == []
            assert len(ax.collections) == len(ax.texts) == 0


def test_one_epoch_is_visible_on_a_whole_tick():
    display = TrainingHistoryDisplay.from_history(make_history(1), best_epoch=1, best_so_far=True)
    display.figure_.canvas.draw()
    for ax in display.axes_:
        low, high = ax.get_xlim()
        assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [1]
    assert display.lines_["val_loss"].get_marker() == "."


@pytest.mark.parametrize("n_epochs", [2, 7, 30, 200])
def test_ticks_are_whole_epochs(n_epochs):
    display = TrainingHistoryDisplay.from_history(make_history(n_epochs))
    ticks = display.axes_[0].get_xticks()
    assert (ticks == np.round(ticks)).all()


@pytest.mark.parametrize(
    ("n_metrics", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3))]
)
def test_axes_stand_in_rows_of_three_at_most(n_metrics, shape):
    names = ["loss", "accuracy", "precision", "recall", "f1"][:n_metrics]
    display = TrainingHistoryDisplay.from_history(make_history(names=names), metrics=names)
    assert display.axes_.shape == (n_metrics,)
    assert display.axes_[0].get_gridspec().get_geometry() == shape


def test_draws_in_given_axes_without_a_figure_of_its_own():
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    before = dict(matplotlib.rcParams)
    left, right = Figure().subplots(1, 2)
    display = TrainingHistoryDisplay.from_history(make_history(), ax=[left, right])
    assert display.axes_.tolist() == [left, right]
    assert display.figure_ is left.figure
    assert left.get_legend() is display.legend_
    display.plot(left, metrics="f1")
    assert display.axes_.tolist() == [left]
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    TrainingHistoryDisplay.from_history(make_history())
    assert len(plt.get_fignums()) == 1


def test_finds_the_estimator_in_pipelines_and_searches():
    X, y = np.random.default_rng(0).random((12, 3)), np.arange(12) % 2
    plain = Trained(7).fit(X, y)
    pipe = make_pipeline(StandardScaler(), Trained(7)).fit(X, y)
    search = GridSearchCV(make_pipeline(StandardScaler(), Trained()), {"trained__n_epochs": [7]})
    nested = make_pipeline(StandardScaler(), GridSearchCV(Trained(), {"n_epochs": [7]}))
    for fitted in (plain, pipe, search.fit(X, y), nested.fit(X, y)):
        display = TrainingHistoryDisplay.from_estimator(fitted, metrics="loss", best_so_far=True)
        assert display.best_epoch == 5
        assert dashed_at(display.axes_[0]) == 5
        expected = best_so_far(make_history(7))["val_loss"].tolist()
        assert display.lines_["val_loss"].get_ydata().tolist() == expected


@pytest.mark.parametrize(
    "estimator",
    [
        Trained(),
        make_pipeline(StandardScaler(), Trained()),
        GridSearchCV(Trained(), {"n_epochs": [7]}),
        GridSearchCV(Trained(), {"n_epochs": [7]}, refit=False),
    ],
    ids=["plain", "pipeline", "search", "search without refit"],
)
def test_unfitted_estimators_are_refused(estimator):
    with pytest.raises(NotFittedError):
        TrainingHistoryDisplay.from_estimator(estimator)


def test_estimators_without_a_history_are_refused():
    X, y = np.random.default_rng(0).random((12, 3)), np.arange(12) % 2
    with pytest.raises(TypeError, match="LogisticRegression keeps no history_"):
        TrainingHistoryDisplay.from_estimator(LogisticRegression().fit(X, y))
    search = GridSearchCV(Trained(), {"n_epochs": [7]}, refit=False).fit(X, y)
    with pytest.raises(TypeError, match="GridSearchCV with refit=False"):
        TrainingHistoryDisplay.from_estimator(search)


@pytest.mark.parametrize(
    ("history", "options", "error", "message"),
    [
        ({"loss": [1.0]}, {}, TypeError, "history is dict, expected a DataFrame"),
        (make_history()[:0], {}, ValueError, "0 epochs"),
        (make_history()[["seconds"]], {}, ValueError, r"columns \['seconds'\]: there is no metric"),
        (make_history()[::-1], {}, ValueError, r"index \[6, 5, 4, 3, 2\]..., expected increasing"),
        (make_history(), {"best_epoch": 7}, ValueError, "best_epoch=7 is not .* has 1 to 6"),
        (make_history(), {"metrics": "auc"}, ValueError, r"'auc'.* has \['loss', 'accuracy', 'f1'"),
        (make_history(), {"metrics": ["loss", "seconds"]}, ValueError, "'seconds'.* the history"),
        (make_history(), {"metrics": []}, ValueError, r"metrics=\[\]"),
        (
            make_history(),
            {"ax": [None], "metrics": ["loss", "accuracy"]},
            ValueError,
            "1 axes, expected 2",
        ),
    ],
)
def test_history_errors_say_what_was_given_and_expected(history, options, error, message):
    with pytest.raises(error, match=message):
        TrainingHistoryDisplay.from_history(history, **options)


def test_import_leaves_matplotlib_out():
    code = (
        "import sys; from hybridus.report import best_so_far; "
        "print(sorted({'matplotlib', 'skimage', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
