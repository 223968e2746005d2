"""Reliability: how often what a model says with a probability comes true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from hybridus.report.looks import DARK, LINES, given_or_new, make_plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure

    from hybridus.protocol.comparison import Comparison


class ReliabilityDisplay:
    """Curve of each model: how often it was right, against how often it said it would be.

    Make it with `from_comparison`. Each mark is a bin of probabilities, with its 95 % interval over
    groups; on the diagonal a probability means what it says, below it the model is too sure.

    Parameters
    ----------
    reliability : DataFrame
        What `Comparison.reliability` returns.
    positive : class, default=None
        The class whose probability is meant; None is the most probable one.
    models : sequence of str, default=None
        Order of colours; None is that of the table.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    curves_ : dict of str to matplotlib ErrorbarContainer

    Raises
    ------
    ValueError
        If no model gives probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus import compare
    >>> from hybridus.report import ReliabilityDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"bayes": GaussianNB()}, X, y, groups="independent")
    >>> display = ReliabilityDisplay.from_comparison(found, positive=1)
    >>> display.ax_.get_ylabel()
    'share of scans that are 1'
    """

    figure_: Figure
    ax_: Axes
    curves_: dict[str, ErrorbarContainer]

    def __init__(
        self,
        reliability: pd.DataFrame,
        *,
        positive: Any = None,
        models: Sequence[str] | None = None,
    ) -> None:
        if reliability.empty:
            raise ValueError("no model gives probabilities: nothing to draw")
        self.reliability = reliability
        self.positive = positive
        self.models = models

    @classmethod
    def from_comparison(
        cls, comparison: Comparison, *, positive: Any = None, ax: Axes | None = None
    ) -> ReliabilityDisplay:
        """Draw the classifiers of a comparison that give probabilities.

        Parameters
        ----------
        comparison : Comparison
        positive : class, default=None
            See `Comparison.reliability`, whose errors are passed on.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        ReliabilityDisplay
        """
        table = comparison.reliability(positive)
        return cls(table, positive=positive, models=comparison.table.index.tolist()).plot(ax)

    def plot(self, ax: Axes | None = None) -> ReliabilityDisplay:
        """Draw the curves, in a figure of their own unless axes are given."""
        ax = given_or_new(ax, (4.8, 4.6))
        ax.plot([0, 1], [0, 1], color=DARK, lw=0.9, ls="--", label="as said")
        self.curves_ = {}
        there = self.reliability.index.get_level_values("model").unique().tolist()
        for number, model in enumerate(self.models or there):
            if model not in there:  # it keeps its colour in other displays
                continue
            rows = self.reliability.loc[model]
            errors = [rows["share"] - rows["low"], rows["high"] - rows["share"]]
            self.curves_[model] = ax.errorbar(
                rows["probability"],
                rows["share"],
                yerr=[error.clip(lower=0).fillna(0) for error in errors],
                label=model,
                elinewidth=0.8,
                **LINES[number % len(LINES)],
            )
        of = "the most probable class" if self.positive is None else str(self.positive)
        true = "that are of it" if self.positive is None else f"that are {self.positive}"
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.set(xlabel=f"probability of {of}", ylabel=f"share of scans {true}")
        ax.legend(fontsize="small", frameon=False, loc="upper left")
        make_plain(ax)
        self.ax_, self.figure_ = ax, ax.figure  # type: ignore[assignment]
        return self
