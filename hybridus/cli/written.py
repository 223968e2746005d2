"""Written: tables that a command leaves behind, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def table_whole(file: Path, columns: list[str]) -> Iterator[Any]:
    """Give a table to be written row by row, which is there once it is whole."""
    from hybridus.inputs.files import replacing

    with (
        replacing(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened,
    ):
        writer = csv.writer(opened)
        writer.writerow(columns)
        yield writer


def write_unreadable(file: Path, unreadable: list[tuple[str, str]]) -> None:
    """List what could not be read; a list of an earlier run goes."""
    file.unlink(missing_ok=True)
    if unreadable:
        with table_whole(file, ["file", "reason"]) as table:
            table.writerows(unreadable)
