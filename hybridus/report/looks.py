"""Looks that all displays share: colours that everyone can tell apart, and plain axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From the palette of Okabe and Ito (2008), told apart by all common forms of colour vision.
BLUE, VERMILION = "#0072B2", "#D55E00"
# Its lighter colours, for what is drawn on dark scans.
SKY_BLUE, YELLOW = "#56B4E9", "#F0E442"
# Curves of several models, told apart by their marks too.
LINES: tuple[dict[str, Any], ...] = tuple(
    {"color": color, "marker": marker, "ms": 4, "lw": 1.4}
    for color, marker in (
        *((BLUE, "o"), (VERMILION, "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v")),
        *((SKY_BLUE, "P"), ("#000000", "X")),
    )
)
# Marks and frames, which are no data.
DARK = "0.25"


def given_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Axes that a caller gave, or those of a new figure of so many inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def make_plain(ax: Axes, *, grid: Literal["both", "y"] = "both") -> None:
    """Leave the left and the bottom spine and a pale grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="0.92", lw=0.8)
    ax.set_axisbelow(True)
