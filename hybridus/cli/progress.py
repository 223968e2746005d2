"""Progress: how many folds are done, what one of each model takes, and about what is left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.text import Text

from hybridus.cli.console import NOTES

_LINE_EVERY = 30.0  # seconds, where lines stay: in files and pipes

Row = tuple[str, str]  # a model and the protocol that it is scored by


class Pace:
    """What folds have taken so far, and what that says of those to come.

    Parameters
    ----------
    folds : dict of (str, str) to int
        How many folds each model has under each protocol.
    n_jobs : int, default=1
        Folds that are done at the same time.
    """

    def __init__(self, folds: Mapping[Row, int], n_jobs: int = 1) -> None:
        self.folds = dict(folds)
        self._taken: dict[Row, list[float]] = {name: [] for name in folds}
        self._n_jobs = n_jobs
        self._latest = time.monotonic()

    @property
    def total(self) -> int:
        """Folds to be done in all, but for those of models that failed."""
        return sum(self.folds.values())

    @property
    def done(self) -> int:
        """Folds that are done."""
        return sum(map(len, self._taken.values()))

    def add(self, row: Row, seconds: float) -> None:
        """Note that a fold of a model is done."""
        self._taken[row].append(seconds)
        # Of a model that failed some may have been under way.
        self.folds[row] = max(self.folds[row], len(self._taken[row]))
        self._latest = time.monotonic()

    def drop(self, row: Row) -> None:
        """Note that a model failed: its further folds will not be done."""
        self.folds[row] = len(self._taken[row])

    def seconds_a_fold(self, row: Row) -> float | None:
        """Seconds that a fold of a model takes, None before the first.

        The median, since a first fold may encode images, or build a network, for all.
        """
        return statistics.median_low(self._taken[row]) if self._taken[row] else None

    def seconds_left(self) -> float | None:
        """Seconds until all folds are done, None before the first.

        Of models that have not begun, a fold is taken to last as long as the mean of the others.
        """
        known = {row: self.seconds_a_fold(row) for row in self.folds}
        of_others = [seconds for seconds in known.values() if seconds is not None]
        if not of_others:
            return None
        mean = statistics.mean(of_others)
        to_come = 0.0
        for row, count in self.folds.items():
            seconds = known[row]
            to_come += (count - len(self._taken[row])) * (mean if seconds is None else seconds)
        return max(0.0, to_come / self._n_jobs - (time.monotonic() - self._latest))


class Following:
    """Shows how far the work is: live on a terminal, elsewhere a line every half minute.

    Parameters
    ----------
    pace : Pace
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._told = time.monotonic()
        self._bars = Progress(
            "{task.description}",
            BarColumn(20),
            MofNCompleteColumn(),
            _Said(pace),
            console=NOTES,
            transient=True,
            disable=not NOTES.is_terminal,
        )
        self._rows = {
            row: self._bars.add_task(_name(row), total=count, said="")
            for row, count in pace.folds.items()
        }
        self._all = self._bars.add_task("all", total=pace.total, said=None)

    def __enter__(self) -> Following:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def done(self, row: Row, seconds: float) -> None:
        """Count a fold that is done."""
        self.pace.add(row, seconds)
        said = f"{_say(self.pace.seconds_a_fold(row))} a fold"
        self._bars.update(self._rows[row], advance=1, said=said)
        self._bars.update(self._all, advance=1)
        if NOTES.is_terminal or time.monotonic() - self._told < _LINE_EVERY:
            return
        self._told = time.monotonic()
        left = _say_left(self.pace)
        NOTES.print(f"{self.pace.done} of {self.pace.total} folds; {_name(row)}: {said}; {left}")

    def failed(self, row: Row) -> None:
        """Take the folds of a model that failed out of what is to come."""
        self.pace.drop(row)
        self._bars.update(self._rows[row], said="failed")
        self._bars.update(self._all, total=self.pace.total)


def _name(row: Row) -> str:
    return f"{row[0]} (leaky)" if row[1] == "leaky" else row[0]


class _Said(ProgressColumn):
    """What a fold of a model takes; in the last row, what is left."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        said = task.fields["said"]
        return Text(_say_left(self._pace) if said is None else said)


def _say_left(pace: Pace) -> str:
    """Say how long is left, as roughly as it is known."""
    seconds = pace.seconds_left()
    return "" if seconds is None else f"about {_say(seconds)} left"


def _say(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
