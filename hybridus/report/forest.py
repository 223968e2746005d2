"""Forest plot: the interval of one score of each model, one above the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from hybridus.report.looks import BLUE, DARK, given_or_new, make_plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hybridus.protocol.comparison import Comparison


class ForestDisplay:
    """Mean and 95 % interval of one score, a line for each model, the best on top.

    Make it with `from_comparison`. Intervals that overlap do not say that a difference is open:
    models are compared on the same samples, so see `Comparison.differences`.

    Parameters
    ----------
    intervals : DataFrame
        Indexed by model, best first, with the columns ``mean``, ``low`` and ``high``.
    metric : str
        Name of the score.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus import compare
    >>> from hybridus.report import ForestDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"bayes": GaussianNB()}, X, y, groups="independent")
    >>> ForestDisplay.from_comparison(found).intervals.loc["bayes"].round(2).tolist()
    [0.97, 0.95, 0.99]
    """

    figure_: Figure
    ax_: Axes

    def __init__(self, intervals: pd.DataFrame, metric: str) -> None:
        self.intervals = intervals
        self.metric = metric

    @classmethod
    def from_comparison(
        cls, comparison: Comparison, metric: str | None = None, *, ax: Axes | None = None
    ) -> ForestDisplay:
        """Draw the models of a comparison.

        Parameters
        ----------
        comparison : Comparison
        metric : str, default=None
            One of its ``metrics``; None is the first, which ranks.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        ForestDisplay

        Raises
        ------
        ValueError
            For a score that is not there.
        """
        metric = comparison.metrics[0] if metric is None else metric
        if metric not in comparison.metrics:
            raise ValueError(f"metric={metric!r}: expected one of {comparison.metrics}")
        of_metric = pd.DataFrame(comparison.intervals.xs(metric, level="metric"))
        ranked = of_metric.reindex(comparison.table.index)
        return cls(ranked[["mean", "low", "high"]], metric).plot(ax)

    def plot(self, ax: Axes | None = None) -> ForestDisplay:
        """Draw the intervals, in a figure of their own unless axes are given."""
        n = len(self.intervals)
        ax = given_or_new(ax, (5.2, 0.9 + 0.34 * n))
        places = range(n)
        mean, low, high = (self.intervals[name] for name in ("mean", "low", "high"))
        ax.axvline(mean.iloc[0], color=DARK, lw=0.9, ls="--")
        ax.hlines(places, low, high, color=BLUE, lw=2)
        ax.plot(mean, places, ls="", marker="s", ms=6, color=BLUE)
        ax.set_yticks(places, [str(name) for name in self.intervals.index])
        ax.set_ylim(n - 0.5, -0.5)
        ax.set_xlabel(f"{self.metric.replace('_', ' ')}, mean and 95 % interval")
        make_plain(ax)
        ax.grid(visible=False, axis="y")
        self.ax_, self.figure_ = ax, ax.figure  # type: ignore[assignment]
        return self
