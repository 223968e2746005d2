"""The command ``hybridus encoders``: which networks have names, their sizes, what is here."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hybridus.cli.console import NOTES, SCREEN, tell, user_errors

_SECONDS = 2.0  # for which the speed of a network is measured
_TOGETHER = 16  # images


def encoders(
    pattern: Annotated[
        str,
        typer.Argument(help="Names to list, such as 'efficientnet*'.", show_default="all"),
    ] = "*",
    speed: Annotated[
        bool,
        typer.Option("--speed", help="Measure how many images a second each encodes here."),
    ] = False,
) -> None:
    """List the networks that every `encoder=` knows by name, or tell all about one of them.

    Parameters in millions, and billions of multiplications and additions for an image of the
    network's own size (GMACs), without the top. "Weights here" are those that need no download.
    """
    from hybridus.encoders.catalog import CATALOG
    from hybridus.encoders.registry import get_encoder, list_encoders
    from hybridus.encoders.weights import imagenet_file

    rows = {row.name: row for row in CATALOG}
    names = sorted(list_encoders(pattern), key=list(rows).index)
    if not names:
        with user_errors():
            get_encoder(pattern)  # says which there are
    if len(names) == 1:
        _tell_all(rows[names[0]])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("encoder", "parameters", "GMACs", "pixels", "licence", "weights here"):
        right = column in ("parameters", "GMACs", "pixels")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    if speed:
        table.add_column("images/s", justify="right", min_width=8)
    for name in names:
        spec, row = get_encoder(name), rows[name]
        here = ["bundled"] * (spec.bundled is not None)
        here += ["imagenet"] * (imagenet_file(spec) is not None)
        measured = [f"{_images_per_second(name):.1f}"] if speed else []
        table.add_row(
            name,
            f"{row.parameters / 1e6:.1f} M",
            f"{row.gmacs:.2f}",
            str(row.image_size),
            row.licence,
            ", ".join(here) or "-",
            *measured,
        )
    SCREEN.print(table)


def _tell_all(row: object) -> None:
    from dataclasses import asdict

    for name, value in asdict(row).items():  # type: ignore[call-overload]
        if value not in (None, (), {}):
            told = ", ".join(value) if isinstance(value, tuple) else str(value)
            tell(f"[bold]{name.replace('_', ' ')}[/]  {escape(told)}")
    tell("")


def _images_per_second(name: str) -> float:
    """Images that a frozen network encodes in a second here, once it is compiled."""
    import numpy as np

    from hybridus.estimators.features import DeepFeatureExtractor

    extractor = DeepFeatureExtractor(name, weights="random", layers="last", cache=False)
    side = extractor.fit(np.zeros((1, 32, 32), np.uint8)).frozen_.image_size[0]
    images = np.random.default_rng(0).integers(0, 256, (_TOGETHER, side, side), dtype=np.uint8)
    NOTES.print(f"measuring {name} ...")
    extractor.transform(images)  # compiles
    started, done = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < _SECONDS:
        extractor.transform(images)
        done += len(images)
    return done / seconds
