"""Figures of a page: Matplotlib's drawings as SVG that takes on the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Marks and frames follow the page, light or dark; colours of data stay what they are.
_OF_THE_PAGE = {
    "#000000": "currentColor",
    "#262626": "currentColor",
    "#404040": "currentColor",  # looks.DARK
    "#ebebeb": "var(--line)",  # the grid
}


@contextmanager
def plainly_drawn(salt: str) -> Iterator[None]:
    """Draw by Matplotlib's own defaults, whatever the user has set, and read no name as formula."""
    import matplotlib.style

    settings = {
        "svg.fonttype": "none",  # text stays text: small, sharp, and found by a search
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.size": 9.0,
    }
    with matplotlib.style.context(["default", settings]):
        yield


def inline_svg(draw: Callable[[Axes], object], size: tuple[float, float], what: str) -> Markup:
    """Draw into axes and return the figure as an element of a page.

    Parameters
    ----------
    draw : callable
        Is given the axes.
    size : (width, height)
        Inches.
    what : str
        What the figure shows, for those who cannot see it; no two figures of a page share it.

    Returns
    -------
    Markup
        Whatever stands in the figure is text in it.
    """
    with plainly_drawn(what):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        ax = figure.subplots()
        ax.set_facecolor("none")
        draw(ax)
        written = io.StringIO()
        # Not savefig, which draws all of it twice.
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None})
    svg = written.getvalue()
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="\w+">', "<g>", body)
    for color, of_page in _OF_THE_PAGE.items():
        body = body.replace(color, of_page)
    width, height = (72 * inches for inches in size)
    opened = (
        f'<svg role="img" aria-label="{escape(what)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{width * 4 / 3:.0f}px">'
    )
    return Markup(opened + body)
