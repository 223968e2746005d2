"""The command line: ``hybridus COMMAND``, one module for each command.

Only light modules are imported at the top, so that help and mistyped options answer at once.
"""

from typing import Annotated

import typer

from hybridus._version import __version__
from hybridus.cli import (
    audit,
    cache,
    compare,
    encoders,
    export,
    extract,
    info,
    models,
    predict,
    train,
)
from hybridus.cli.console import SCREEN, Commands

app = typer.Typer(
    name="hybridus",
    cls=Commands,
    help="Find out which kind of image model serves you: honestly, on your own images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command(help=compare.HELP)(compare.compare)
app.command()(audit.audit)
app.command()(train.train)
app.command()(predict.predict)
app.command()(extract.extract)
app.command()(info.info)
app.command()(export.export)
app.command()(models.models)
app.command()(encoders.encoders)
app.add_typer(cache.app, name="cache", no_args_is_help=True)


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        SCREEN.print(f"hybridus {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass
