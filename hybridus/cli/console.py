"""Screen: results to standard output, notes and errors to standard error, and how commands end."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from hybridus.exceptions import WeightsNotFoundError

SCREEN = Console(highlight=False)
NOTES = Console(stderr=True, highlight=False)
WITHOUT_NETWORK = (
    "models named mobilenet_v2_0.35-... need no network, such as --models mobilenet_v2_0.35-svm,"
    "mobilenet_v2_0.35-logreg --weights bundled (of hybridus train: --model)"
)
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended


class Commands(TyperGroup):
    """Commands that can be interrupted, and that print names in any encoding."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C ends it with one line and exit code 130."""
        for stream in (sys.stdout, sys.stderr):
            # File names need not be text, nor the terminal able to show all of it.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            with told_warnings():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            NOTES.print("[bold red]stopped[/] by Ctrl-C; what was finished is kept")
            raise typer.Exit(INTERRUPTED) from None


def tell(text: str) -> None:
    """Print prose: wrapped at words on a terminal, whole lines into files and pipes."""
    SCREEN.print(text, soft_wrap=not SCREEN.is_terminal)


def warn(text: str) -> None:
    """Print a warning: the work goes on, but the reader should know."""
    NOTES.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=not NOTES.is_terminal)


@contextmanager
def told_warnings(of: str = "") -> Iterator[None]:
    """Print warnings as `warn` does, each once, with what they are of in front."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: warn(f"{of}{message}")
        yield


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what users can put right into one message and exit code 2.

    To be put around reading and checking only: elsewhere a ValueError is a mistake in the program
    and keeps its traceback. WeightsNotFoundError is an OSError.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        # What the library calls value_range=(0, 4095) is an option here.
        said = re.sub(r"value_range=\((\S+), (\S+)\)", r"--value-range \1,\2", str(error))
        if isinstance(error, WeightsNotFoundError):
            said += f". Here: {WITHOUT_NETWORK}"
        NOTES.print(f"[bold red]error:[/] [red]{escape(said)}[/]", soft_wrap=True)
        raise typer.Exit(2) from error
