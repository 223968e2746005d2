"""Referral: how right a model is on what it keeps, where it may hand scans to a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from hybridus.report.looks import LINES, given_or_new, make_plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from hybridus.protocol.comparison import Comparison


class ReferralDisplay:
    """Curve of each model: accuracy on the scans it keeps, against the share it refers to a person.

    Make it with `from_comparison`. Those that a model is least sure of are referred first; the band
    is the 95 % interval over groups.

    Parameters
    ----------
    referral : DataFrame
        `Comparison.referral`.
    models : sequence of str, default=None
        Order of colours; None is that of the table.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    lines_ : dict of str to matplotlib Line2D

    Raises
    ------
    ValueError
        If no model says how sure it is.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus import compare
    >>> from hybridus.report import ReferralDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"bayes": GaussianNB()}, X[:, :4], y, groups="independent")
    >>> line = ReferralDisplay.from_comparison(found).lines_["bayes"]
    >>> line.get_ydata()[[0, -1]].round(2).tolist()
    [0.85, 0.98]
    """

    figure_: Figure
    ax_: Axes
    lines_: dict[str, Line2D]

    def __init__(self, referral: pd.DataFrame, *, models: Sequence[str] | None = None) -> None:
        if referral.empty:
            raise ValueError("no model says how sure it is: nothing to draw")
        self.referral = referral
        self.models = models

    @classmethod
    def from_comparison(cls, comparison: Comparison, *, ax: Axes | None = None) -> ReferralDisplay:
        """Draw the classifiers of a comparison that say how sure they are.

        Parameters
        ----------
        comparison : Comparison
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        ReferralDisplay
        """
        return cls(comparison.referral, models=comparison.table.index.tolist()).plot(ax)

    def plot(self, ax: Axes | None = None) -> ReferralDisplay:
        """Draw the curves, in a figure of their own unless axes are given."""
        from matplotlib.ticker import PercentFormatter

        ax = given_or_new(ax, (5.6, 4.0))
        self.lines_ = {}
        there = self.referral.index.get_level_values("model").unique().tolist()
        for number, model in enumerate(self.models or there):
            if model not in there:  # it keeps its colour in other displays
                continue
            rows = self.referral.loc[model]
            look = LINES[number % len(LINES)]
            (line,) = ax.plot(rows["referred_share"], rows["accuracy"], label=model, **look)
            ax.fill_between(
                rows["referred_share"], rows["low"], rows["high"], color=look["color"], alpha=0.12
            )
            self.lines_[model] = line
        ax.set(xlabel="scans referred to a person", ylabel="accuracy on the others")
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.legend(fontsize="small", frameon=False)
        make_plain(ax)
        self.ax_, self.figure_ = ax, ax.figure  # type: ignore[assignment]
        return self
