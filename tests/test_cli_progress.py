"""Progress: what is left is told from what folds have taken."""

import io
import re
import time

import pytest
from rich.console import Console

from hybridus.cli import progress
from hybridus.cli.progress import Following, Pace
from hybridus.inputs.heard import tell_progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that have passed, as the test says."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


FAST, SLOW = ("fast", "honest"), ("slow", "honest")


def test_what_is_left_follows_from_what_folds_of_each_model_take(clock):
    pace = Pace({FAST: 5, SLOW: 5})
    assert (pace.done, pace.total, pace.seconds_left()) == (0, 10, None)
    for seconds in (60, 2, 2):  # the first encodes images
        pace.add(FAST, seconds)
    assert pace.seconds_a_fold(FAST) == 2
    assert pace.seconds_a_fold(SLOW) is None
    assert pace.seconds_left() == 2 * 2 + 5 * 2  # what is not known is taken to be like the rest
    pace.add(SLOW, 10)
    assert pace.seconds_left() == 2 * 2 + 4 * 10
    clock[0] += 8  # of the fold that runs
    assert pace.seconds_left() == 2 * 2 + 4 * 10 - 8
    clock[0] += 1000
    assert pace.seconds_left() == 0
    assert (pace.done, pace.total) == (4, 10)


def test_folds_at_the_same_time_and_folds_that_will_not_be_done_leave_less(clock):
    pace = Pace({FAST: 4, SLOW: 4}, n_jobs=2)
    pace.add(FAST, 2)
    pace.add(SLOW, 10)
    assert pace.seconds_left() == (3 * 2 + 3 * 10) / 2
    pace.drop(SLOW)
    assert pace.total == 5
    assert pace.seconds_left() == 3
    pace.add(SLOW, 10)  # was under way
    assert (pace.done, pace.total, pace.seconds_left()) == (3, 6, 3)


def test_a_line_every_half_minute_where_lines_stay(clock, monkeypatch):
    notes = Console(file=io.StringIO(), width=60)
    monkeypatch.setattr(progress, "NOTES", notes)
    with Following(Pace({FAST: 3, ("fast", "leaky"): 200})) as following:
        following.done(FAST, 2)
        assert notes.file.getvalue() == ""
        clock[0] += 31
        following.done(FAST, 2)
        clock[0] += 5
        following.done(FAST, 2)
        clock[0] += 31
        following.done(("fast", "leaky"), 20)
    assert notes.file.getvalue().splitlines() == [
        "2 of 203 folds; fast: 2.0 s a fold; about 7 min left",
        "4 of 203 folds; fast (leaky): 20 s a fold; about 66 min left",
    ]


def test_a_terminal_shows_each_model_from_the_start(monkeypatch):
    notes = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "NOTES", notes)
    with Following(Pace({FAST: 3, SLOW: 3})) as following:
        shown = notes.file.getvalue()
        assert "fast" in shown
        assert "0/6" in shown
        following.done(FAST, 2)
        following.failed(SLOW)
        following._bars.refresh()
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "\n", notes.file.getvalue()).splitlines()
    of_fast = [line for line in last if line.startswith("fast")][-1]
    assert "2.0 s a fold" in of_fast
    assert any("slow" in line and "failed" in line for line in last)
    of_all = [line for line in last if line.startswith("all") and "1/3" in line][-1]
    assert "about 4.0 s left" in of_all


def of_fold(epoch, model="slow"):
    about = {"model": model, "repeat": 0, "fold": 0, "what": "epoch", "of": 30}
    return [{**about, "done": epoch, "seconds": 2.0 * epoch}]


def test_within_a_first_fold_epochs_tell_how_long_is_left(clock, monkeypatch):
    notes = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(progress, "NOTES", notes)
    monkeypatch.setattr(progress, "_LOOK_EVERY", 60)  # looks only when the test does
    under_way = []
    following = Following(Pace({FAST: 2, SLOW: 2}), lambda: under_way)
    with following:
        under_way[:] = of_fold(0)
        following.look()
        assert following.pace.seconds_left() is None
        under_way[:] = of_fold(10) + of_fold(3, "of another study")
        clock[0] += 31
        following.look()
    # A fold takes 60 s, of which 31 are over; nothing is known of the other model.
    assert notes.file.getvalue() == (
        "0 of 4 folds; slow: fold 1, epoch 10 of 30; about 3 min left\n"
    )
    with following:  # for the next task
        following.done(SLOW, 40)
    assert following.pace.seconds_a_fold(SLOW) == 40


def test_a_terminal_shows_epochs_and_the_fit_on_all_images(monkeypatch):
    notes = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "NOTES", notes)
    with Following(Pace({FAST: 3, SLOW: 3}), lambda: of_fold(7)) as following:
        following.look()
        following._bars.refresh()
    assert "epoch 7 of 30" in notes.file.getvalue()
    with following.refitting("slow"):
        tell_progress("epoch", 2, 30)
        time.sleep(0.2)  # until the screen is drawn again
    assert "slow on all images: epoch 2 of 30" in notes.file.getvalue()
