"""Settings of a comparison: what the user asked for, of each task, and what cannot be meant.

Options that belong to one task are refused only where no model of that task is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hybridus.inputs.names import did_you_mean
from hybridus.presets import PRESETS, Preset

PHANTOM_INPUT = 128  # pixels, to classify; the encoder's own 224 would take three times as long


class Task(StrEnum):
    """What models are compared at."""

    classify = "classify"
    segment = "segment"


class Protocol(StrEnum):
    """How models are scored."""

    honest = "honest"
    leaky = "leaky"


@dataclass(frozen=True)
class Settings:
    """What the user asked for at one task."""

    task: Task
    presets: list[Preset]
    folds: int
    repeats: int
    seed: int
    weights: str
    image_size: int | None
    value_range: tuple[float, float] | None
    cache: bool
    n_jobs: int
    leaky: bool
    positive: str | None
    out: Path
    study: Path
    external: tuple[tuple[str, Path], ...] = ()
    frame: str | None = None  # of DICOM files, in the external sets too
    crop: str | None = None

    @property
    def segments(self) -> bool:
        """Whether masks are found, and not classes."""
        return self.task is Task.segment

    @property
    def n_folds(self) -> dict[str, int]:
        """How many folds each model has under each protocol."""
        leaky = {"leaky": self.repeats} if self.leaky else {}
        return {"honest": self.repeats * self.folds} | leaky

    @property
    def table_file(self) -> Path:
        """Where the table lies."""
        return self.out / f"{self._noun}.csv"

    @property
    def folds_file(self) -> Path:
        """Where the finished folds lie."""
        return self.out / f"{self._noun}_folds.csv"

    @property
    def samples_file(self) -> Path:
        """Where it lies what was said of each image."""
        return self.out / f"{self._noun}_predictions.csv"

    @property
    def differences_file(self) -> Path:
        """Where the tests of all pairs lie."""
        return self.out / f"{self._noun}_differences.csv"

    @property
    def diagnosis_file(self) -> Path:
        """Where it lies how well one class is told from the rest."""
        return self.out / f"{self._noun}_{self.positive}.csv"

    def external_file(self, name: str) -> Path:
        """Where it lies what models are worth on a set that nothing is fitted on."""
        return self.out / f"{self._noun}_on_{name}.csv"

    def overlay_file(self, model: str) -> Path:
        """Where the masks of a model are drawn."""
        return self.out / f"{self._noun}_{model}.png"

    def model_file(self, model: str) -> Path:
        """Where a model lies that was fitted on all images."""
        return self.out / "models" / f"{model}.hybridus"

    @property
    def _noun(self) -> str:
        return {Task.classify: "classification", Task.segment: "segmentation"}[self.task]


def choose(
    named: list[str] | None, task: Task | None, *, offline: bool, with_masks: bool
) -> dict[Task, list[Preset]]:
    """Find the presets named, or those that are compared where none is, of each task.

    Parameters
    ----------
    named : list of str or None
        Names of presets, also several in one text, by commas.
    task : Task or None
        None takes both; with a folder of masks alone, which tells no classes, segmenters.
    offline : bool
        Whether phantoms are compared on.
    with_masks : bool
        Whether a folder of masks was given.

    Raises
    ------
    ValueError
        For a name that is not there, and for models of another task than the one given.
    """
    if not named:
        where = "phantoms" if offline else "scans"
        both = [Task.segment] if with_masks else list(Task)
        tasks = both if task is None else [task]
        compared = {at: [p for p in PRESETS.values() if _is(p, at, where)] for at in tasks}
        return {at: presets for at, presets in compared.items() if presets}
    names = list(dict.fromkeys(name.strip() for text in named for name in text.split(",")))
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        known = [name for name, preset in PRESETS.items() if task in (None, preset.task)]
        raise ValueError(
            f"--models {', '.join(unknown) or repr('')}: no such model"
            f"{did_you_mean(unknown[0], known)}; choose of {', '.join(known)}"
        )
    presets = [PRESETS[name] for name in names]
    others = [preset.name for preset in presets if task not in (None, preset.task)]
    if others:
        raise ValueError(
            f"--models {', '.join(others)}: made to {PRESETS[others[0]].task}, where --task says "
            f"{task}: leave --task out to compare models of both"
        )
    found = {at: [preset for preset in presets if preset.task == at] for at in Task}
    return {at: of_task for at, of_task in found.items() if of_task}


def _is(preset: Preset, task: Task, where: str) -> bool:
    return (preset.task, preset.compared) == (task, where)


def refuse_idle_options(
    compared: dict[Task, list[Preset]],
    *,
    weights: str | None,
    cache: bool,
    protocol: Protocol,
    lesions_only: bool | None,
    positive: str | None,
) -> None:
    """Refuse what none of the models, or no task that is compared at, has a use for.

    Raises
    ------
    ValueError
    """
    presets = [preset for of_task in compared.values() for preset in of_task]
    names = ", ".join(preset.name for preset in presets)
    if Task.segment not in compared and lesions_only is not None:
        raise ValueError("--lesions-only and --with-normals are for segmenters: none is compared")
    if Task.classify not in compared and protocol is not Protocol.honest:
        raise ValueError(
            f"--protocol {protocol}: for classifiers, and none is compared; segmenters are scored "
            "as is"
        )
    if Task.classify not in compared and positive is not None:
        raise ValueError(f"--positive {positive}: for classifiers, and none is compared")
    if weights is not None and not any(preset.encoders for preset in presets):
        raise ValueError(f"--weights {weights}: no encoder in {names}")
    if not cache and not any(preset.keeps_rows for preset in presets):
        raise ValueError(f"--no-cache: {names} keep nothing that could be left out")


def refuse_what_describes_scans(**given: object) -> None:
    """Refuse, without DATA, options that describe real images.

    Raises
    ------
    ValueError
    """
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if named:
        described = "describes" if len(named) == 1 else "describe"
        raise ValueError(f"{' and '.join(named)} {described} real images: give their folder DATA")
