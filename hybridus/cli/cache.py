"""``hybridus cache``: what is kept on disk between runs, and how to be rid of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hybridus.cli.console import SCREEN, user_errors

app = typer.Typer(help="What is kept on disk between runs: feature rows and networks.")

Folder = Annotated[
    Path | None,
    typer.Option(
        help="The cache folder.", show_default="HYBRIDUS_CACHE, else the user's cache folder"
    ),
]


@app.command()
def info(folder: Folder = None) -> None:
    """Show where rows are kept, how many there are, and of which encoders."""
    from hybridus.encoders.kept import kept_networks
    from hybridus.store.rows import FeatureStore

    store = FeatureStore(folder)
    about = store.info()
    SCREEN.print(f"folder    {escape(about['folder'])}", soft_wrap=True)
    SCREEN.print(
        f"rows      {about['rows']} in {_size(about['bytes'])} of at most "
        f"{_size(about['max_bytes'])}; {about['files']} files known by size and time"
    )
    n_networks, n_bytes = kept_networks(store.location)
    SCREEN.print(f"networks  {n_networks} in {_size(n_bytes)}")
    for encoder in about["fingerprints"]:
        used = datetime.fromtimestamp(encoder["last_use"]).isoformat(" ", "minutes")
        SCREEN.print(
            f"  {encoder['fingerprint'][:16]}  {encoder['rows']} rows of {encoder['width']} "
            f"values, last used {used}"
        )


@app.command()
def clear(
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="Beginning of a fingerprint, as `info` shows it: only its rows go. Without it, "
            "all rows and all networks go.",
        ),
    ] = None,
    folder: Folder = None,
) -> None:
    """Delete what is kept. It is made again when it is needed.

    Nothing but what hybridus has written goes, whatever else lies in the folder.
    """
    from hybridus.encoders.kept import clear_networks
    from hybridus.store.rows import FeatureStore

    store = FeatureStore(folder)
    if fingerprint is None:
        count = store.clear()
        n_networks, freed, left = clear_networks(store.location)
        SCREEN.print(
            f"{count} rows and {n_networks} networks of {_size(freed)} deleted in "
            f"{escape(str(store.location))}",
            soft_wrap=True,
        )
        for path in left:
            SCREEN.print(f"left, since it is not ours: {escape(str(path))}", soft_wrap=True)
        return
    with user_errors():
        known = [one["fingerprint"] for one in store.info()["fingerprints"]]
        matching = [one for one in known if one.startswith(fingerprint)]
        if len(matching) != 1:
            raise ValueError(
                f"--fingerprint {fingerprint}: begins {len(matching)} fingerprints, expected one; "
                f"known are {', '.join(one[:16] for one in known) or 'none'}"
            )
    SCREEN.print(f"{store.clear(matching[0])} rows deleted")


@app.command()
def verify(folder: Folder = None) -> None:
    """Check every row against its checksum; bad ones are removed. Exit code 1 if there were any."""
    from hybridus.store.rows import FeatureStore

    report = FeatureStore(folder).verify()
    SCREEN.print(f"{report['rows']} rows checked, {report['bad']} bad ones removed")
    if report["bad"]:
        raise typer.Exit(1)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
