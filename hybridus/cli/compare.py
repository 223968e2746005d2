"""The command ``hybridus compare``: from presets and images to table, folds, pictures and a model.

One way for both tasks: presets, estimators, what can fail at once, folds, comparison, and the best
fitted on all. Only light modules are imported at the top: help and mistyped options answer at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridus.cli import data as reading, results, tables
from hybridus.cli.console import tell, told_warnings, user_errors
from hybridus.cli.options import (
    DEFAULT_OUT,
    MasksFolder,
    OutFolder,
    ValueRangeText,
    read_range,
)
from hybridus.presets import PRESETS, Preset

if TYPE_CHECKING:
    from hybridus.cli.data import Data
    from hybridus.protocol.run import FoldResult
    from hybridus.protocol.schedule import FoldFailure
    from hybridus.protocol.study import Study

PHANTOM_INPUT = 96  # pixels; the encoders' own 224 would take five times as long


class Task(StrEnum):
    """What the models are compared at."""

    classify = "classify"
    segment = "segment"


class Protocol(StrEnum):
    """How models are scored."""

    honest = "honest"
    leaky = "leaky"


@dataclass(frozen=True)
class Settings:
    """What the user asked for."""

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

    def overlay_file(self, model: str) -> Path:
        """Where the masks of a model are drawn."""
        return self.out / f"{self._noun}_{model}.png"

    @property
    def _noun(self) -> str:
        return {Task.classify: "classification", Task.segment: "segmentation"}[self.task]


def compare(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of class folders, BUSI with its masks, or images with masks. Without it: "
            "simulated phantoms.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(
            help="What to compare the models at.",
            show_default="that of the models named, else classify; segment with --masks",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Models by name (`hybridus models`), by commas or repeated.",
            show_default="see above",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often folds are drawn anew.")] = 1,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="`leaky` scores each classifier a second time, as much published work does: "
            "images are augmented first and split at random afterwards, once for each of "
            "--repeats, so copies of test images are trained on. It shows how inflated such "
            "figures are."
        ),
    ] = Protocol.honest,
    masks: MasksFolder = None,
    curation: Annotated[
        Path | None,
        typer.Option(help="BUSI: table (CSV) of duplicates and objections; gives the groups."),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="Table (CSV) with columns filename and group: which images (duplicates, one "
            "patient) stay on one side of a split; 'none' splits without regard to groups.",
            show_default="duplicates that are found by their pixels",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="imagenet, bundled, random or a weights file.",
            show_default="imagenet; bundled without DATA",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Height and width in pixels of what the models look at. Fine-tuning takes three "
            "times as long at 224 as at 128.",
            show_default="each model's own (`hybridus models`); classifiers without DATA "
            f"{PHANTOM_INPUT}",
        ),
    ] = None,
    value_range: ValueRangeText = None,
    n_jobs: Annotated[
        int,
        typer.Option(
            help="Outer folds fitted at the same time, each in a process with its own networks; "
            "pays for slow heads, since a network uses all cores by itself. -1: one for each core."
        ),
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides folds, heads, training and phantoms.")
    ] = 0,
    cache: Annotated[
        bool,
        typer.Option(
            help="Keep feature rows on disk (`hybridus cache info`), so that each image is encoded "
            "once. They derive from the images. --no-cache keeps no activations either while a "
            "network is fine-tuned, or a decoder trained: frozen layers run in every epoch."
        ),
    ] = True,
    lesions_only: Annotated[
        bool | None,
        typer.Option(
            "--lesions-only/--with-normals",
            help="Segment images with a lesion alone, or those without one too, on which false "
            "positives are counted.",
            show_default="with normals, where there are any",
        ),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Read the classifiers as tests for a class, such as malignant: sensitivity, "
            "specificity and AUC, with intervals, are printed and written to "
            "OUT/classification_CLASS.csv.",
            show_default=False,
        ),
    ] = None,
    out: OutFolder = DEFAULT_OUT,
    study: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which each finished fold is kept, predictions too. The same command "
            "goes on where it stopped, whatever stopped it, and several may share a study.",
            show_default="OUT/study",
        ),
    ] = None,
) -> None:
    """Compare models: the command; `HELP` is what users read."""
    started = time.perf_counter()
    offline = data is None
    with user_errors():
        if masks is not None and not models:
            task = task or Task.segment
        at, presets = choose(models, task, offline=offline)
        _refuse_idle_options(at, presets, weights, cache, protocol, lesions_only, positive)
        if n_jobs == 0 or n_jobs < -1:
            raise ValueError(
                f"--n-jobs {n_jobs}: expected 1 or more processes, or -1 for all cores"
            )
        if offline and (curation or groups or masks or value_range is not None):
            raise ValueError(
                "--curation, --groups, --value-range and --masks describe real images: give their "
                "folder DATA"
            )
        declared = None if value_range is None else read_range(value_range)
        if masks is not None and (curation is not None or at is Task.classify):
            raise ValueError(
                "--masks are for --task segment and other images than BUSI, whose masks lie beside "
                "its scans: leave --masks out, or --curation"
            )
    settings = Settings(
        task=at,
        presets=presets,
        folds=folds,
        repeats=repeats,
        seed=seed,
        weights=weights or ("bundled" if offline else "imagenet"),
        image_size=image_size or (PHANTOM_INPUT if offline and at is Task.classify else None),
        value_range=declared,
        cache=cache,
        n_jobs=n_jobs,
        leaky=protocol is Protocol.leaky,
        positive=positive,
        out=out,
        study=study or out / "study",
    )
    tables.tell_models(settings)
    with user_errors():
        scans = (
            reading.read_phantoms(at, seed)
            if data is None
            else reading.read_folder(data, curation, groups, masks, declared)
        )
        if at is Task.segment:
            scans = reading.choose_scans(scans, lesions_only)
        if positive is not None and positive not in scans.target_names:
            classes = ", ".join(scans.target_names)
            raise ValueError(f"--positive {positive}: no such class; choose of {classes}")
    tables.tell_data(scans)
    with results.calm(), results.room_for_activations(n_jobs):
        all_compared = _compare(scans, settings)
    tell(f"Finished in {time.perf_counter() - started:.0f} s. Not a medical device.")
    if not all_compared:
        raise typer.Exit(1)


def _names(compared: str) -> str:
    """Names of the presets that are compared under a condition, by task."""
    of_task = {
        task: [p.name for p in PRESETS.values() if (p.task, p.compared) == (task, compared)]
        for task in Task
    }
    return "; ".join(f"to {task} {', '.join(names)}" for task, names in of_task.items())


HELP = f"""Compare frozen deep features with classical heads, fine-tuned networks, or segmenters.

All are scored on the same outer folds. A hybrid is a grid search over its head on inner folds,
fitted anew inside every outer fold; a network has fixed settings and holds out part of what it is
fitted on, to stop in time. Prints a table, says which differences are settled, and writes
OUT/classification.csv, OUT/classification_folds.csv (a row as soon as a fold is done), the tests of
all pairs as OUT/classification_differences.csv, what each model said of each image while it was not
trained on it as OUT/classification_predictions.csv, and the best model, refitted on all images, as
OUT/models/NAME.joblib. For research; not a medical device.

Each finished fold is kept in OUT/study (--study), so the same command goes on where it stopped, and
computes again only what other images, settings, weights or versions decide anew. A model that fails
is left out, and the exit code is 1.

Segmenters need masks: those of BUSI, or --masks. Dice, IoU and HD95 are those of images with a
lesion, beside the false positives on images without. Writes the same as OUT/segmentation*.csv, and
of each model's first fold the best, median and worst masks as OUT/segmentation_NAME.png.

Models compared on DATA unless others are named: {_names("scans")}.

Without DATA: {_names("phantoms")}.

Only where named, since they are slow or for comparison with what was reported: {_names("named")}.

`hybridus models` says what each is.
"""


def choose(
    named: list[str] | None, task: Task | None, *, offline: bool
) -> tuple[Task, list[Preset]]:
    """Find the presets named, or those that are compared where none is, and their task.

    Raises
    ------
    ValueError
        For a name that is not there, and for models of two tasks.
    """
    if not named:
        at = task or Task.classify
        where = "phantoms" if offline else "scans"
        return at, [p for p in PRESETS.values() if (p.task, p.compared) == (at, where)]
    names = list(dict.fromkeys(name.strip() for text in named for name in text.split(",")))
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        known = [name for name, preset in PRESETS.items() if task in (None, preset.task)]
        raise ValueError(
            f"--models {', '.join(unknown) or repr('')}: no such model; choose of "
            f"{', '.join(known)}"
        )
    presets = [PRESETS[name] for name in names]
    at = task or Task(presets[0].task)
    others = [preset.name for preset in presets if preset.task != at]
    if others:
        raise ValueError(
            f"--models {', '.join(others)}: made to {PRESETS[others[0]].task}, where the task is "
            f"to {at}; compare them in a run of their own"
        )
    return at, presets


def _refuse_idle_options(
    task: Task,
    presets: list[Preset],
    weights: str | None,
    cache: bool,
    protocol: Protocol,
    lesions_only: bool | None,
    positive: str | None,
) -> None:
    """Refuse what the task or none of the models has a use for."""
    names = ", ".join(preset.name for preset in presets)
    if task is Task.classify and lesions_only is not None:
        raise ValueError("--lesions-only and --with-normals are for --task segment")
    if task is Task.segment and protocol is not Protocol.honest:
        raise ValueError(f"--protocol {protocol}: for --task classify; segmenters are scored as is")
    if task is Task.segment and positive is not None:
        raise ValueError(f"--positive {positive}: for --task classify; segmenters find masks")
    if weights is not None and not any(preset.encoders for preset in presets):
        raise ValueError(f"--weights {weights}: no encoder in {names}")
    if not cache and not any(preset.keeps_rows for preset in presets):
        raise ValueError(f"--no-cache: {names} keep nothing that could be left out")


def _compare(scans: Data, settings: Settings) -> bool:
    """Compare the models and leave table, folds, pictures and the best model behind.

    Returns whether all of them could be compared.
    """
    from hybridus.estimators.preflight import preflight
    from hybridus.protocol.compare import Comparison, plan_comparison
    from hybridus.protocol.scoring import LesionScores
    from hybridus.protocol.study import Study

    segments = settings.task is Task.segment
    target = scans.masks if segments else scans.target
    models = {
        preset.name: _build(
            preset,
            settings,
            grouped=scans.groups is not None,
            value_range=settings.value_range,
        )
        for preset in settings.presets
    }
    with user_errors():
        plan = plan_comparison(
            models,
            scans.images,
            target,
            stratify=scans.target if segments else None,
            # Where there are none, the command has said what is known of duplicates.
            groups="independent" if scans.groups is None else scans.groups,
            scoring=LesionScores(tables.MASK_SIZE) if segments else None,
            n_splits=settings.folds,
            n_repeats=settings.repeats,
            random_state=settings.seed,
        )
        for name, model in models.items():
            with told_warnings(f"{name}: "):
                preflight(model, scans.images)
        digest = results.digest_of(scans, settings.value_range, with_masks=segments)
        results.make_folder(settings.out)
        study = Study(settings.study)
    tables.tell_study(settings)

    with results.keeping(settings) as keep:
        found = keep("honest", plan.run(settings.n_jobs, study))
        compared = plan.gather(_drawn(result, scans, settings) for result in found)
        honest, failures = compared.table, [compared.failures]
        leaky = None
        if settings.leaky:
            inflated = Comparison(keep("leaky", _leaky_results(scans, settings, study)))
            failures.append(inflated.failures)
            leaky = inflated.table
            leaky = leaky.drop(columns=["behind_best", "p_value"])  # nobody should choose by them
    results.write_table(honest, leaky, scans, digest, settings)
    results.write_samples(compared, scans, settings)
    results.write_csv(compared.differences.reset_index(), settings.differences_file)
    tables.print_table(compared, settings.task, settings.folds * settings.repeats)
    files = {"table": settings.table_file, "folds": settings.folds_file}
    files |= {"pairs": settings.differences_file, "images": settings.samples_file}
    if settings.positive is not None:
        found_by = compared.one_against_rest(scans.target_names.index(settings.positive))
        results.write_csv(found_by.reset_index(), settings.diagnosis_file)
        tables.print_diagnosis(found_by, honest.index, settings.positive)
        files["class"] = settings.diagnosis_file
    n_folds = settings.repeats * (settings.folds + settings.leaky)
    tables.tell_found(study.n_found, len(models) * n_folds)
    if leaky is not None:
        tables.print_both(honest, leaky, settings)

    best = honest.index[0]
    if PRESETS[best].search:
        models[best].set_params(n_jobs=settings.n_jobs)
    model_file = settings.out / "models" / f"{best}.joblib"
    fitted = results.refit(models[best], scans.images, target, scans.groups, model_file)
    tables.tell_best(honest, fitted, settings.task, len(scans.images))
    overlay = {"overlay": settings.overlay_file(best)} if segments else {}
    results.tell_files(files | overlay | {"model": model_file})
    return tables.tell_failures(failures, settings)


def _build(
    preset: Preset,
    settings: Settings,
    *,
    grouped: bool = False,
    value_range: tuple[float, float] | None = None,
) -> Any:
    """Make the model of a preset; by default one that knows nothing of groups, for 8 bits."""
    return preset.build(
        weights=settings.weights,
        image_size=settings.image_size,
        cache=settings.cache,
        grouped=grouped,
        random_state=settings.seed,
        value_range=value_range,
    )


def _drawn(
    result: FoldResult | FoldFailure, scans: Data, settings: Settings
) -> FoldResult | FoldFailure:
    """Draw the masks of a model's first fold, and let go of them."""
    from hybridus.protocol.schedule import FoldFailure

    if isinstance(result, FoldFailure):
        return result
    if settings.task is Task.classify:
        return result
    if result.repeat == result.fold == 0:
        results.draw_masks(result, scans, settings)
    return result.without_predictions()


def _leaky_results(
    scans: Data, settings: Settings, study: Study
) -> Iterator[FoldResult | FoldFailure]:
    """Score the models on copies that were augmented before they were split, each at its size."""
    import numpy as np

    from hybridus.inputs.images import as_images
    from hybridus.protocol.compare import plan_comparison
    from hybridus.protocol.leaky import N_COPIES, augmented_copies, leaky_folds

    folds = leaky_folds(scans.target, n_repeats=settings.repeats, random_state=settings.seed)
    images = as_images(scans.images, value_range=settings.value_range)
    by_size: dict[tuple[int, int], list[Preset]] = {}
    for preset in settings.presets:
        by_size.setdefault(preset.input_size(settings.image_size), []).append(preset)
    for size, presets in by_size.items():
        plan = plan_comparison(
            {preset.name: _build(preset, settings) for preset in presets},
            augmented_copies(images, image_size=size),
            np.repeat(scans.target, N_COPIES),
            groups="independent",
            folds=folds,
        )
        yield from plan.run(settings.n_jobs, study)
