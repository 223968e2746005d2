"""How the command line speaks: results to standard output, notes and errors to standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

SCREEN = Console(highlight=False)
NOTES = Console(stderr=True, highlight=False)


def tell(text: str) -> None:
    """Print prose: wrapped at words on a terminal, whole lines into files and pipes."""
    SCREEN.print(text, soft_wrap=not SCREEN.is_terminal)


def warn(text: str) -> None:
    """Print a warning: the work goes on, but the reader should know."""
    NOTES.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=not NOTES.is_terminal)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what users can put right into one message and exit code 2.

    To be put around reading and checking only: elsewhere a ValueError is a mistake in the program
    and keeps its traceback. WeightsNotFoundError is an OSError.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        NOTES.print(f"[bold red]error:[/] [red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(2) from error
