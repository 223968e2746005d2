"""Announcements: what `hybridus compare` tells its reader before the work, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from hybridus.cli.console import tell
from hybridus.cli.tables import MASK_SIZE
from hybridus.presets import INNER_FOLDS, Preset

if TYPE_CHECKING:
    from hybridus.cli.data import Data
    from hybridus.cli.settings import Settings


def tell_models(all_settings: Sequence[Settings], *, unsure: bool = False) -> None:
    """Say what is compared, before anything is read.

    Parameters
    ----------
    all_settings : sequence of Settings
        One for each task.
    unsure : bool, default=False
        Whether only the data tell which of the tasks can be done.
    """
    for settings in all_settings:
        headings = iter([f"{settings.task:8}"])
        for preset in settings.presets:
            tell(f"{next(headings, ' ' * 8)} {preset.name}: {escape(preset.note)}")
        if unsure and settings.segments:
            tell(f"{' ' * 8} where there are masks")
    presets = [preset for settings in all_settings for preset in settings.presets]
    notes = []
    if any(preset.search for preset in presets):
        notes.append(f"heads are searched on {INNER_FOLDS} inner folds")
    if any(_trains(preset) for preset in presets):
        notes.append("networks hold out a part of what they are trained on, to stop in time")
    for note in notes:
        tell(f"{' ' * 8} {note}")
    slow = [preset.name for preset in presets if preset.speed == "tens of minutes"]
    if slow:
        tell(f"slow     {', '.join(slow)}: tens of minutes a fold on two cores")
    first = all_settings[0]
    tell(
        f"folds    {first.folds} x {first.repeats} outer folds, the same for all models of a task"
        + "; leaky ones too, for comparison" * any(one.leaky for one in all_settings)
    )
    if any(preset.encoders for preset in presets):
        untrained = ": untrained features, so expect low scores" * (first.weights == "random")
        tell(f"weights  {escape(first.weights)}{untrained}")
    sizes = {
        preset.input_size(settings.image_size)
        for settings in all_settings
        for preset in settings.presets
    }
    judged = f"; masks are judged at {MASK_SIZE} x {MASK_SIZE}"
    judged *= any(one.segments for one in all_settings)
    tell(f"input    {' or '.join(f'{h} x {w}' for h, w in sorted(sizes))} pixels{judged}")
    if first.value_range is not None:
        low, high = first.value_range
        tell(f"values   {low:.10g} is black and {high:.10g} white")


def _trains(preset: Preset) -> bool:
    """Whether a network is trained, and stopped in time."""
    return preset.estimator not in ("make_hybrid_classifier", "PixelSegmenter")


def tell_data(dataset: Data) -> None:
    """Say what images there are."""
    tell(f"data     {escape(dataset.name)}: {_counts(dataset)}")
    for note in dataset.notes:
        tell(f"         {note}")
    if dataset.groups is not None:
        from hybridus.datasets.groups import describe_groups

        tell(f"groups   {describe_groups(dataset.groups)}; each stays on one side of every split")


def tell_chosen(dataset: Data, chosen: Data) -> None:
    """Say which of the images are segmented, where that needs saying."""
    headings = iter(["masks   "])
    if len(chosen.target) < len(dataset.target):
        tell(f"{next(headings)} {_counts(chosen)}")
    for note in chosen.notes[len(dataset.notes) :]:
        tell(f"{next(headings, ' ' * 8)} {note}")


def _counts(dataset: Data) -> str:
    counts = ", ".join(
        f"{name} ({label}) {int((dataset.target == label).sum())}"
        for label, name in enumerate(dataset.target_names)
    )
    return f"{len(dataset.target)} images; {escape(counts)}"


def tell_study(settings: Settings) -> None:
    """Say where finished folds are kept."""
    tell(
        f"study    {escape(str(settings.study))}: finished folds are kept there, and the same "
        "command goes on where it stopped"
    )
