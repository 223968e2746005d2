"""Curves of a training history, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hybridus.report.learning_rate import draw_learning_rate
from hybridus.report.looks import BLUE, DARK, VERMILION, make_plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

    from hybridus.protocol.comparison import Comparison

# Columns of a history that describe the epoch rather than score it.
_NOT_METRICS = ("learning_rate", "seconds")

# Prefix of the columns, name and colour of each part of the data.
_PARTS = (("", "training", BLUE), ("val_", "validation", VERMILION))


def best_so_far(history: pd.DataFrame) -> pd.DataFrame:
    """Best value of each metric up to each epoch: a loss never rises, other metrics never fall.

    Parameters
    ----------
    history : DataFrame of shape (n_epochs, n_columns)
        A row for each epoch in order, as in ``estimator.history_``. Columns whose names end in
        "loss" are losses, `learning_rate` and `seconds` are no metrics, all others are better
        when higher.

    Returns
    -------
    DataFrame of shape (n_epochs, n_columns)
        The running minimum of losses and the running maximum of other metrics. An epoch without
        a number (NaN) keeps the best before it; before the first number there is NaN.
        `learning_rate` and `seconds` are as they were, and so is `history`.

    Examples
    --------
    >>> import pandas as pd
    >>> from hybridus.report import best_so_far
    >>> best_so_far(pd.DataFrame({"loss": [0.7, 0.9, 0.5], "accuracy": [0.6, None, 0.5]}))
       loss  accuracy
    0   0.7       0.6
    1   0.7       0.6
    2   0.5       0.6
    """
    best = history.copy()
    for name in history.columns.difference(list(_NOT_METRICS)):
        column = history[name]
        best[name] = (column.cummin() if name.endswith("loss") else column.cummax()).ffill()
    return best


class TrainingHistoryDisplay:
    """Training and validation curves of a fit, epoch by epoch.

    Make it with `from_estimator` or `from_history`. Each metric has its own axes. The epoch whose
    weights were restored is marked, and so is each step of the learning rate; a learning rate that
    changes smoothly is a grey area at the foot of the axes, on a scale of its own.

    Parameters
    ----------
    history : DataFrame of shape (n_epochs, n_columns)
        Indexed by epoch, with columns such as `loss` and `accuracy`, the same with the prefix
        `val_` where there was a validation part, `learning_rate` and `seconds`.
    best_epoch : int, optional
        The epoch whose weights were restored, a label of the index.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of shape (n_metrics,) of matplotlib Axes
        In the order of the metrics.
    lines_ : dict of str to matplotlib Line2D
        The curve of each column drawn; with `best_so_far`, the bold one.
    legend_ : matplotlib Legend

    Raises
    ------
    TypeError
        If `history` is no DataFrame.
    ValueError
        If `history` has no epoch or no metric, its index is not made of increasing numbers, or
        `best_epoch` is not in it.

    Examples
    --------
    >>> import pandas as pd
    >>> from hybridus.report import TrainingHistoryDisplay
    >>> history = pd.DataFrame(
    ...     {"loss": [0.7, 0.5, 0.3], "val_loss": [0.8, 0.6, 0.7]}, index=[1, 2, 3]
    ... )
    >>> display = TrainingHistoryDisplay.from_history(history, best_epoch=2)
    >>> display.lines_["val_loss"].get_ydata().tolist()
    [0.8, 0.6, 0.7]
    """

    figure_: Figure
    axes_: NDArray
    lines_: dict[str, Line2D]
    legend_: Legend

    def __init__(self, history: pd.DataFrame, *, best_epoch: int | None = None) -> None:
        _check_history(history, best_epoch)
        self.history = history
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        metrics: str | Sequence[str] | None = None,
        best_so_far: bool = False,
        ax: Any = None,
    ) -> TrainingHistoryDisplay:
        """Draw the curves of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            With `history_` and, where an epoch was restored, `best_epoch_`; or a Pipeline that
            ends in one, or a search such as GridSearchCV whose best estimator is one.
        metrics, best_so_far, ax
            See `plot`.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it keeps no history, or is a search with ``refit=False``.
        ValueError
            See `plot`.
        """
        model = _last_estimator(estimator)
        check_is_fitted(model)
        if not hasattr(model, "history_"):
            raise TypeError(
                f"{type(model).__name__} keeps no history_: expected an estimator that is trained "
                "epoch by epoch, a Pipeline that ends in one, or a search over one"
            )
        display = cls(model.history_, best_epoch=getattr(model, "best_epoch_", None))
        return display.plot(ax, metrics=metrics, best_so_far=best_so_far)

    @classmethod
    def from_history(
        cls,
        history: pd.DataFrame,
        *,
        best_epoch: int | None = None,
        metrics: str | Sequence[str] | None = None,
        best_so_far: bool = False,
        ax: Any = None,
    ) -> TrainingHistoryDisplay:
        """Draw the curves of a history.

        Parameters
        ----------
        history, best_epoch
            See `TrainingHistoryDisplay`.
        metrics, best_so_far, ax
            See `plot`.

        Returns
        -------
        TrainingHistoryDisplay
        """
        display = cls(history, best_epoch=best_epoch)
        return display.plot(ax, metrics=metrics, best_so_far=best_so_far)

    @classmethod
    def from_comparison(
        cls,
        comparison: Comparison,
        model: str | None = None,
        *,
        repeat: int = 0,
        fold: int = 0,
        metrics: str | Sequence[str] | None = None,
        best_so_far: bool = False,
        ax: Any = None,
    ) -> TrainingHistoryDisplay:
        """Draw the curves of a network in one fold of a comparison.

        Parameters
        ----------
        comparison : Comparison
        model : str, default=None
            None is the best of those that were trained by epochs.
        repeat, fold : int, default=0
        metrics, best_so_far, ax
            See `plot`.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        ValueError
            If there is no such history.
        """
        kept = {
            (one.model, one.repeat, one.fold): one
            for one in comparison.results
            if one.history is not None
        }
        trained = [name for name in comparison.table.index if (name, repeat, fold) in kept]
        model = trained[0] if model is None and trained else model
        result = kept.get((str(model), repeat, fold))
        if result is None:
            raise ValueError(
                f"model={model!r}, repeat={repeat}, fold={fold}: no history of such a fold; "
                f"networks that were trained: {', '.join(trained) or 'none'}"
            )
        history = pd.DataFrame(result.history).set_index("epoch")
        best_epoch = result.best_epoch
        display = cls(history, best_epoch=best_epoch)
        return display.plot(ax, metrics=metrics, best_so_far=best_so_far)

    def plot(
        self,
        ax: Any = None,
        *,
        metrics: str | Sequence[str] | None = None,
        best_so_far: bool = False,
    ) -> TrainingHistoryDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, optional
            Axes to draw in, one for each metric. None makes a figure, with three axes a row at
            most.
        metrics : str or list of str, optional
            What to draw, without the prefix `val_`. None is `loss` and `accuracy`, or the first
            other metric where there is no accuracy; in a single axis that is given, `loss` alone.
        best_so_far : bool, default=False
            Draw the best value up to each epoch as bold steps and the values themselves thin and
            pale; see the function `best_so_far`.

        Returns
        -------
        TrainingHistoryDisplay
            This display.

        Raises
        ------
        ValueError
            If a metric is not in the history, or the number of axes is not that of the metrics.
        """
        names = _chosen_metrics(self.history, metrics)
        if metrics is None and ax is not None:
            names = names[: np.size(ax)]
        self.axes_ = _grid_of_axes(len(names)) if ax is None else _given_axes(ax, len(names))
        self.figure_ = self.axes_[0].figure
        self.lines_ = {}
        for name, panel in zip(names, self.axes_, strict=True):
            self._draw_metric(panel, name, as_best=best_so_far)
            draw_learning_rate(panel, self.history)
            self._mark_restored_epoch(panel, name)
            _dress_epochs(panel, self.history.index, name)
        self.legend_ = _legend_below(self.axes_) if ax is None else _legend_inside(self.axes_)
        return self

    def _draw_metric(self, ax: Axes, name: str, *, as_best: bool) -> None:
        draw = _draw_best_so_far if as_best else _draw_curve
        for prefix, part, colour in _PARTS:
            column = prefix + name
            if column in self.history:
                self.lines_[column] = draw(ax, self.history[column], part, colour)
        if as_best:
            ax.plot([], [], color="0.5", lw=0.8, alpha=0.6, label="each epoch")

    def _mark_restored_epoch(self, ax: Axes, name: str) -> None:
        if self.best_epoch is None:
            return
        column = f"val_{name}" if f"val_{name}" in self.history else name
        dashed: dict[str, Any] = {"color": DARK, "lw": 0.9, "ls": "--"}
        ax.axvline(self.best_epoch, zorder=1, **dashed)
        # One point has no dashes: they are for the entry in the legend.
        ax.plot(
            [self.best_epoch],
            [self.history[column][self.best_epoch]],
            marker="o",
            ms=8,
            mfc="none",
            mew=1.4,
            zorder=4,
            label=f"restored epoch {self.best_epoch}",
            **dashed,
        )


def _draw_curve(ax: Axes, values: pd.Series, part: str, colour: str) -> Line2D:
    (line,) = ax.plot(
        values.index, values, color=colour, lw=1.5, marker=_marker(values), label=part
    )
    return line


def _draw_best_so_far(ax: Axes, values: pd.Series, part: str, colour: str) -> Line2D:
    """Draw the best values as bold steps and the values themselves thin and pale."""
    marker = _marker(values)
    ax.plot(values.index, values, color=colour, lw=0.8, alpha=0.4, marker=marker)
    (line,) = ax.plot(
        values.index,
        best_so_far(values.to_frame()),
        color=colour,
        lw=2.2,
        drawstyle="steps-post",
        marker=marker,
        label=f"{part}, best so far",
    )
    return line


def _marker(values: pd.Series) -> str:
    """Dots where they are few: a line hides where they are, and through one there is none."""
    return "." if len(values) <= 12 else ""


def _check_history(history: Any, best_epoch: int | None) -> None:
    if not isinstance(history, pd.DataFrame):
        raise TypeError(
            f"history is {type(history).__name__}, expected a DataFrame with a row for each epoch"
        )
    if history.empty or not _metric_names(history):
        raise ValueError(
            f"history has {len(history)} epochs and the columns {list(history.columns)}: there is "
            "no metric to draw"
        )
    index = history.index
    if not (
        pd.api.types.is_numeric_dtype(index) and index.is_monotonic_increasing and index.is_unique
    ):
        raise ValueError(
            f"history has the index {index.tolist()[:5]}..., expected increasing epochs 1, 2, ..."
        )
    if best_epoch is not None and best_epoch not in index:
        raise ValueError(
            f"best_epoch={best_epoch!r} is not an epoch of the history, which has {index[0]} to "
            f"{index[-1]}"
        )


def _last_estimator(estimator: Any) -> Any:
    """Look into searches and pipelines, in whichever order they are nested."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        elif getattr(estimator, "refit", True) is False and hasattr(estimator, "cv_results_"):
            raise TypeError(
                f"{type(estimator).__name__} with refit=False keeps no fitted estimator: search "
                "with refit=True"
            )
        else:
            return estimator


def _metric_names(history: pd.DataFrame) -> list[str]:
    names = (str(name).removeprefix("val_") for name in history.columns if name not in _NOT_METRICS)
    return list(dict.fromkeys(names))


def _chosen_metrics(history: pd.DataFrame, metrics: str | Sequence[str] | None) -> list[str]:
    available = _metric_names(history)
    if metrics is None:
        # The stable sort puts the loss first and accuracy before other metrics.
        rank = {"loss": 0, "accuracy": 1}
        return sorted(available, key=lambda name: rank.get(name, 2))[:2]
    chosen = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [name for name in chosen if name not in available]
    if unknown or not chosen:
        raise ValueError(f"metrics={metrics!r}: the history has {available}, each drawn with val_")
    return chosen


def _grid_of_axes(n_axes: int) -> NDArray:
    """Axes of a new figure in rows of at most three, filled evenly."""
    import matplotlib.pyplot as plt

    n_rows = ceil(n_axes / 3)
    n_columns = ceil(n_axes / n_rows)
    figure = plt.figure(figsize=(3.9 * n_columns, 3.0 * n_rows + 0.3), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for spare in axes[n_axes:]:
        spare.remove()
    return axes[:n_axes]


def _given_axes(ax: Any, n_axes: int) -> NDArray:
    axes = np.asarray(ax, dtype=object).ravel()
    if len(axes) != n_axes:
        raise ValueError(f"ax holds {len(axes)} axes, expected {n_axes}, one for each metric")
    return axes


def _dress_epochs(ax: Axes, epochs: pd.Index, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.set_ylabel(name.replace("_", " "))
    margin = max(0.5, 0.02 * (epochs[-1] - epochs[0]))
    ax.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    ax.xaxis.set_major_locator(
        MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    make_plain(ax)


def _legend_below(axes: NDArray) -> Legend:
    handles, labels = _legend_entries(axes)
    n_rows = ceil(len(labels) / (2 * axes[0].get_gridspec().ncols))
    return axes[0].figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=ceil(len(labels) / n_rows),
        frameon=False,
        fontsize="small",
    )


def _legend_inside(axes: NDArray) -> Legend:
    return axes[0].legend(*_legend_entries(axes), fontsize="small", framealpha=0.9)


def _legend_entries(axes: NDArray) -> tuple[list[Any], list[str]]:
    """Collect handles and labels from all axes, since a metric may lack a curve another has."""
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)
