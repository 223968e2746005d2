"""Progress: how many folds are done, how far those under way are, and about what is left.

Within a fold epochs, or images encoded, tell it, which the processes at work note in the study.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text

from hybridus.cli.console import NOTES

_LINE_EVERY = 30.0  # seconds, where lines stay: in files and pipes
_LOOK_EVERY = 1.0

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
        self._expected: dict[Row, float] = {}
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

    def count(self, row: Row) -> int:
        """Folds of a model that are done."""
        return len(self._taken[row])

    def add(self, row: Row, seconds: float) -> None:
        """Note that a fold of a model is done."""
        self._taken[row].append(seconds)
        # Of a model that failed some may have been under way.
        self.folds[row] = max(self.folds[row], len(self._taken[row]))
        self._latest = time.monotonic()

    def drop(self, row: Row) -> None:
        """Note that a model failed: its further folds will not be done."""
        self.folds[row] = len(self._taken[row])

    def expect(self, row: Row, seconds: float) -> None:
        """Say what a fold of a model will take, as far as the one under way tells."""
        self._expected[row] = seconds

    def seconds_a_fold(self, row: Row) -> float | None:
        """Seconds that a fold of a model takes, None before anything tells.

        The median, since a first fold may encode images, or build a network, for all; before that
        what is expected of the one under way.
        """
        if self._taken[row]:
            return statistics.median_low(self._taken[row])
        return self._expected.get(row)

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

    It may be entered again, for the next task.

    Parameters
    ----------
    pace : Pace
    under_way : callable, optional
        Tells of the folds that are under way, as `hybridus.protocol.study.Study.under_way`.
    """

    def __init__(
        self, pace: Pace, under_way: Callable[[], list[dict[str, Any]]] = lambda: []
    ) -> None:
        self.pace = pace
        self._under_way = under_way
        self._way = "honest"
        self._told = time.monotonic()
        self._left = threading.Event()
        self._watch: threading.Thread | None = None
        self._bars = self._new_bars()

    def __enter__(self) -> Following:
        self._left.clear()
        self._bars = self._new_bars()
        self._bars.start()
        self._watch = threading.Thread(target=self._keep_looking, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._left.set()
        if self._watch is not None:
            self._watch.join()
        self._bars.stop()

    def at(self, way: str) -> None:
        """Say under which protocol folds are done from now on."""
        self._way = way

    def done(self, row: Row, seconds: float) -> None:
        """Count a fold that is done."""
        self.pace.add(row, seconds)
        self._show(row, self._of_fold(row))
        self._tell(f"{_name(row)}: {self._of_fold(row)}")

    def failed(self, row: Row) -> None:
        """Take the folds of a model that failed out of what is to come."""
        self.pace.drop(row)
        self._show(row, "failed")

    @contextmanager
    def refitting(self, model: str) -> Iterator[None]:
        """Show how far the fit of a model on all images is."""
        from hybridus.inputs.heard import heard_by

        what = f"{model} on all images"
        self._told = time.monotonic()
        with NOTES.status(what) as status:  # nothing where there is no terminal

            def hear(counted: str, done: int, of: int) -> None:
                said = f"{what}: {counted} {done} of {of}"
                status.update(said)
                self._tell_after_a_while(said)

            with heard_by(hear):
                yield

    def look(self) -> None:
        """Look how far the folds under way are, and show it."""
        notes = {(one["model"], self._way): one for one in self._under_way()}
        for row, one in notes.items():
            if row not in self.pace.folds:  # of another comparison that shares the study
                continue
            share = one["done"] / one["of"] if one["of"] else 0
            # Images are encoded once, for all folds; epochs come again in each.
            if one["what"] == "epoch" and share:
                self.pace.expect(row, one["seconds"] / share)
            said = f"{one['what']} {one['done']} of {one['of']}"
            self._show(row, said, share)
            self._tell(f"{_name(row)}: fold {one['fold'] + 1}, {said}")

    def _keep_looking(self) -> None:
        while not self._left.wait(_LOOK_EVERY):
            self.look()

    def _new_bars(self) -> Progress:
        bars = Progress(
            "{task.description}",
            BarColumn(12),
            MofNCompleteColumn(),
            _Said(self.pace),
            console=NOTES,
            transient=True,
            disable=not NOTES.is_terminal,
        )
        self._rows = {
            row: bars.add_task(
                _name(row), total=total, completed=self.pace.count(row), said=self._of_fold(row)
            )
            for row, total in self.pace.folds.items()
        }
        self._all = bars.add_task("all", total=self.pace.total, completed=self.pace.done, said=None)
        return bars

    def _show(self, row: Row, said: str, share: float = 0) -> None:
        done = self.pace.count(row) + share
        self._bars.update(self._rows[row], completed=done, said=said)
        self._bars.update(self._all, completed=self.pace.done, total=self.pace.total)

    def _of_fold(self, row: Row) -> str:
        seconds = self.pace.seconds_a_fold(row)
        return "" if seconds is None else f"{_say(seconds)} a fold"

    def _tell(self, said: str) -> None:
        left = _say_left(self.pace)
        counted = f"{self.pace.done} of {self.pace.total} folds; {said}"
        self._tell_after_a_while(counted + f"; {left}" * bool(left))

    def _tell_after_a_while(self, line: str) -> None:
        """Print a line where lines stay, unless the last one is not old yet."""
        if NOTES.is_terminal or time.monotonic() - self._told < _LINE_EVERY:
            return
        self._told = time.monotonic()
        NOTES.print(line)


@contextmanager
def counting(total: int) -> Iterator[Callable[[int], None]]:
    """Show how far images are: a bar on a terminal, elsewhere a line every half minute.

    What is given is called with the number of images that are done since the last call.
    """
    done, begun = 0, time.monotonic()
    told = begun
    bar = Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=NOTES,
        transient=True,
        disable=not NOTES.is_terminal,
    )
    task = bar.add_task("images", total=total)

    def count(more: int) -> None:
        nonlocal done, told
        done += more
        bar.update(task, completed=done)
        now = time.monotonic()
        if not NOTES.is_terminal and now - told >= _LINE_EVERY:
            told, rate = now, done / (now - begun)
            left = (total - done) / rate
            NOTES.print(f"{done} of {total} images; {rate:.0f} a second; {left:.0f} s left")

    with bar:
        yield count


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
