"""The learning rate under curves: a mark at each step, or an area where it glides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More changes than this are drawn as an area rather than as marks.
_MOST_STEPS = 8

# Distances between labels as shares of the range of epochs: closer ones stand upright, and of
# those that are too close even then only the first is written.
_UPRIGHT, _TOO_CLOSE = 0.16, 0.05


def draw_learning_rate(ax: Axes, history: pd.DataFrame) -> None:
    """Draw how the learning rate changes; one that is constant or unknown is not mentioned."""
    if "learning_rate" not in history:
        return
    rates = history["learning_rate"].dropna().astype(float)
    changed = ~np.isclose(rates.iloc[1:], rates.iloc[:-1], rtol=1e-3, atol=0)
    if _glides(changed):
        _draw_area(ax, rates)
    else:
        span = max(1, history.index[-1] - history.index[0])
        _mark_steps(ax, rates.iloc[1:][changed], span)


def _glides(changed: NDArray[np.bool_]) -> bool:
    """Whether a rate glides rather than steps, given where it differs from the epoch before.

    A step stands between two stretches of constant rate. Where the rate changes at one epoch and
    again at the next, as in a cosine schedule or a warm-up, or changes often, it glides.
    """
    return bool((changed[1:] & changed[:-1]).any() or changed.sum() > _MOST_STEPS)


def _draw_area(ax: Axes, rates: pd.Series) -> None:
    ax.fill_between(
        rates.index,
        0.2 * rates / rates.max(),
        color="0.88",
        lw=0,
        zorder=0.5,
        # x in epochs, y as a share of the height of the axes.
        transform=ax.get_xaxis_transform(),
        label=f"learning rate, up to {_short(rates.max())}",
    )


def _mark_steps(ax: Axes, steps: pd.Series, span: float) -> None:
    """Mark the first epoch at each new rate."""
    upright = bool((np.diff(steps.index) < _UPRIGHT * span).any())
    labelled = -np.inf
    for epoch, rate in zip(steps.index.tolist(), steps.tolist(), strict=True):
        ax.axvline(epoch, color="0.6", lw=0.9, ls=":", zorder=1)
        if epoch - labelled >= _TOO_CLOSE * span:
            _write_above(ax, epoch, f"lr {_short(rate)}", rotation=90 if upright else 0)
            labelled = epoch


def _write_above(ax: Axes, epoch: float, text: str, *, rotation: float) -> None:
    ax.annotate(
        text,
        (epoch, 1),
        xycoords=ax.get_xaxis_transform(),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        rotation=rotation,
        fontsize=7,
        color="0.35",
    )


def _short(rate: float) -> str:
    """1e-4 rather than 0.0001 or 1e-04."""
    if rate >= 0.01 or rate == 0:
        return f"{rate:.2g}"
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
