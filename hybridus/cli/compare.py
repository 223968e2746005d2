"""The command ``hybridus compare``: from presets and images to tables, pictures and models.

Both tasks in one run: presets, data, what can fail at once, folds, and the best fitted on all. Only
light modules are imported at the top: help and mistyped options answer at once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybridus.cli import announce, audited, data as reading, reported, results, tables, task_run
from hybridus.cli.console import tell, user_errors
from hybridus.cli.options import (
    DEFAULT_OUT,
    CropOfDicom,
    Curation,
    FrameOfDicom,
    GroupsOf,
    LesionsOnly,
    MasksFolder,
    NoCache,
    OutFolder,
    Pixels,
    ValueRangeText,
    WeightsOf,
    read_external,
    read_range,
)
from hybridus.cli.settings import (
    PHANTOM_INPUT,
    Protocol,
    Settings,
    Task,
    choose,
    refuse_idle_options,
    refuse_what_describes_scans,
)
from hybridus.inputs.names import did_you_mean

if TYPE_CHECKING:
    from hybridus.cli.data import Data
    from hybridus.cli.task_run import Done, Prepared

_FOLDS, _FOLDS_OF_PHANTOMS = 5, 3
_MODELS, _DATA = "Models", "Data"
_SCORES, _RUN = "Scores", "Running, and what is left behind"

HELP = """Compare classifiers and, where there are masks, segmenters, on the same outer folds.

Classifiers are classical heads on frozen deep features, searched on inner folds, and fine-tuned
networks; segmenters are networks and a judge of single pixels. `hybridus models` lists them all.

Prints a table for each task and says which differences are settled. OUT then holds these tables,
fold by fold (`*_folds.csv`), pair by pair (`*_differences.csv`) and image by image
(`*_predictions.csv`), outlines of masks, and in OUT/models the best model of each task, fitted on
all images. OUT/report.html shows all of it on one page.

Each finished fold is kept, and the same command goes on where it stopped. A model that fails is
left out, and the exit code is 1. For research; not a medical device.
"""


def compare(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Folder of class folders, BUSI with its masks, or images with masks. Without it: "
            "simulated scans.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Models by name, by commas or repeated; of one task or of both.",
            show_default="those that `hybridus models` marks",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(
            metavar="TASK",
            help="`classify` or `segment` alone.",
            show_default="both, where there are masks",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    weights: WeightsOf = None,
    image_size: Pixels = None,
    masks: MasksFolder = None,
    lesions_only: LesionsOnly = None,
    groups: GroupsOf = None,
    curation: Curation = None,
    value_range: ValueRangeText = None,
    frame: FrameOfDicom = None,
    crop: CropOfDicom = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Outer folds.",
            show_default=f"{_FOLDS}; {_FOLDS_OF_PHANTOMS} without DATA",
            rich_help_panel=_SCORES,
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="How often folds are drawn anew.", rich_help_panel=_SCORES
        ),
    ] = 1,
    positive: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Read classifiers as tests for a class, such as malignant: sensitivity, "
            "specificity and AUC, with intervals.",
            show_default=False,
            rich_help_panel=_SCORES,
        ),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Images that nothing is fitted on, such as another hospital's.",
            show_default=False,
            rich_help_panel=_SCORES,
        ),
    ] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(
            metavar="NAME",
            help="`leaky` scores classifiers a second time, on images augmented before they are "
            "split, as much published work does: it shows how inflated such figures are.",
            rich_help_panel=_SCORES,
        ),
    ] = Protocol.honest,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Decides folds, heads, training and simulated scans.",
            rich_help_panel=_SCORES,
        ),
    ] = 0,
    out: OutFolder = DEFAULT_OUT,
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where finished folds are kept; several commands may share it.",
            show_default="OUT/study",
            rich_help_panel=_RUN,
        ),
    ] = None,
    n_jobs: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Folds at the same time, each in a process; -1: one for each core. Pays for slow "
            "heads: a network uses all cores by itself.",
            rich_help_panel=_RUN,
        ),
    ] = 1,
    no_cache: NoCache = False,
) -> None:
    """Compare models: the command; `HELP` is what users read."""
    started = time.perf_counter()
    offline = data is None
    with user_errors():
        compared = choose(models, task, offline=offline, with_masks=masks is not None)
        refuse_idle_options(
            compared,
            weights=weights,
            cache=not no_cache,
            protocol=protocol,
            lesions_only=lesions_only,
            positive=positive,
        )
        if n_jobs == 0 or n_jobs < -1:
            raise ValueError(
                f"--n-jobs {n_jobs}: expected 1 or more processes, or -1 for all cores"
            )
        if offline:
            refuse_what_describes_scans(
                curation=curation,
                groups=groups,
                value_range=value_range,
                masks=masks,
                frame=frame,
                crop=crop,
            )
        elif data is not None and not data.exists():
            raise ValueError(f"{data}: no such folder")
        declared = None if value_range is None else read_range(value_range)
        elsewhere = read_external(external, offline=offline)
        if masks is not None and (curation is not None or Task.classify in compared):
            raise ValueError(
                "--masks are for segmenters and other images than BUSI, whose masks lie beside "
                "its scans: leave --masks out, or --curation and classifiers"
            )
    all_settings = [
        Settings(
            task=at,
            presets=presets,
            folds=folds or (_FOLDS_OF_PHANTOMS if offline else _FOLDS),
            repeats=repeats,
            seed=seed,
            weights=weights or ("bundled" if offline else "imagenet"),
            image_size=image_size or (PHANTOM_INPUT if offline and at is Task.classify else None),
            value_range=declared,
            cache=not no_cache,
            n_jobs=n_jobs,
            leaky=protocol is Protocol.leaky and at is Task.classify,
            positive=positive if at is Task.classify else None,
            out=out,
            study=study or out / "study",
            external=elsewhere,
            frame=frame,
            crop=crop,
        )
        for at, presets in compared.items()
    ]
    unsure = not (models or task or offline or masks)  # whether there are classes and masks
    announce.tell_models(all_settings, unsure=unsure)
    with user_errors():
        task_run.locate_weights_of(all_settings)
        if data is None:
            scans = reading.read_phantoms(seed)
        else:
            scans = reading.read_folder(data, curation, groups, masks, frame, crop)
        if unsure:
            all_settings = [one for one in all_settings if _can_be_done(scans, one)]
        if positive is not None and positive not in scans.target_names:
            raise ValueError(
                f"--positive {positive}: no such class"
                f"{did_you_mean(positive, scans.target_names)}; choose of "
                f"{', '.join(scans.target_names)}"
            )
    with results.calm(), results.room_for_activations(n_jobs):
        done = _run(_prepare(scans, all_settings, lesions_only, offline=offline), n_jobs)
        page = reported.write(done)
    all_compared = tables.tell_failures(done)
    tell(f"Finished in {time.perf_counter() - started:.0f} s. Not a medical device.")
    if page is not None:
        results.tell_files({"report": page})
    if not all_compared or page is None:
        raise typer.Exit(1)


def _can_be_done(scans: Data, settings: Settings) -> bool:
    """Whether there are masks to learn from, or classes that somebody gave."""
    return scans.masks is not None if settings.segments else scans.labelled


def _prepare(
    scans: Data, all_settings: list[Settings], lesions_only: bool | None, *, offline: bool
) -> list[Prepared]:
    """Look at the data once, and find out of each task whether it can be done."""
    from hybridus.protocol.study import Study

    one = all_settings[0]
    with user_errors():
        digest = audited.digest_of(scans, one.value_range)
        found = None
        if scans.grouped_by == reading.UNKNOWN:
            found = audited.look_at(scans, digest, one.study, one.value_range)
            scans = reading.group_by(scans, found.groups)
        announce.tell_data(scans)
        prepared = []
        for settings in all_settings:
            of_task, its_digest = scans, digest
            if settings.segments:
                of_task = reading.fewer_phantoms(scans) if offline else scans
                of_task = reading.choose_scans(of_task, lesions_only)
                announce.tell_chosen(scans, of_task)
            if len(of_task.images) < len(scans.images):
                its_digest = audited.digest_of(of_task, settings.value_range)
            prepared.append(task_run.prepare(of_task, its_digest, settings))
        results.make_folder(one.out)
        Study(one.study)  # that it cannot be written to is told now
        if found is not None:
            audited.keep(found, scans, digest, one.study)
    announce.tell_study(one)
    return prepared


def _run(prepared: list[Prepared], n_jobs: int) -> list[Done]:
    """Compare at one task after the other; one that fails altogether leaves the others alone."""
    from hybridus.cli.progress import Following, Pace
    from hybridus.protocol.study import Study

    folds = {
        (model, way): n
        for one in prepared
        for way, n in one.settings.n_folds.items()
        for model in one.models
    }
    study = Study(prepared[0].settings.study)
    following = Following(Pace(folds, results.n_processes(n_jobs)), study.under_way)
    done, errors = [], []
    for one in prepared:
        try:
            done.append(task_run.run(one, study, following))
        except MemoryError:
            raise
        except Exception as error:  # of the first of its models, all of which failed
            errors.append(error)
    tables.tell_found(study.n_found, sum(folds.values()))
    if errors:
        raise errors[0]
    return done
