"""One task of a comparison: classifiers, or segmenters, from the plan to the best one, refitted.

All that can fail at once is asked by `prepare`, of every task, before anything is fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridus.cli import results, tables
from hybridus.cli.console import told_warnings
from hybridus.cli.settings import Settings
from hybridus.presets import PRESETS, Preset

if TYPE_CHECKING:
    import pandas as pd

    from hybridus.cli.data import Data
    from hybridus.cli.progress import Following
    from hybridus.protocol.compare import Comparison, Plan
    from hybridus.protocol.run import FoldResult
    from hybridus.protocol.schedule import FoldFailure
    from hybridus.protocol.study import Study

    Outcome = FoldResult | FoldFailure


@dataclass(frozen=True)
class Prepared:
    """What is compared at one task, checked, and nothing fitted yet."""

    settings: Settings
    scans: Data
    digest: str
    models: dict[str, Any]
    plan: Plan


@dataclass(frozen=True)
class Done:
    """What came of one task.

    Attributes
    ----------
    prepared : Prepared
    compared : Comparison
    leaky : DataFrame or None
        Table of the leaky protocol, where it was asked for.
    drawn : dict of str to (positions, masks)
        What each segmenter said of the test part of the first fold.
    best : estimator
        The best model, fitted on all images; a classifier answers with the names of the classes.
    failures : list of DataFrame
        Models that could not be compared.
    """

    prepared: Prepared
    compared: Comparison
    leaky: pd.DataFrame | None
    drawn: dict[str, tuple[Any, Any]]
    best: Any
    failures: list[pd.DataFrame] = field(default_factory=list)


def locate_weights_of(all_settings: Sequence[Settings]) -> None:
    """Find, or download, the weights of all encoders, before images are read and looked at.

    Raises
    ------
    ValueError, OSError
        Where they cannot be had.
    """
    names = {name for one in all_settings for preset in one.presets for name in preset.encoders}
    if not names:
        return
    from hybridus.encoders.registry import get_encoder
    from hybridus.encoders.weights import locate_weights

    for name in sorted(names):
        locate_weights(get_encoder(name), all_settings[0].weights)


def prepare(scans: Data, digest: str, settings: Settings) -> Prepared:
    """Make the models, draw the folds, and ask whether all of them could begin.

    Raises
    ------
    ValueError, OSError
        For what would fail later: too few groups, weights that cannot be had, wrong sizes.
    """
    from hybridus.estimators.preflight import preflight
    from hybridus.protocol.compare import plan_comparison
    from hybridus.protocol.scoring import LesionScores

    segments, grouped = settings.segments, scans.groups is not None
    models = {preset.name: _build(preset, settings, grouped) for preset in settings.presets}
    check_masks(settings.presets, scans)
    plan = plan_comparison(
        models,
        scans.images,
        scans.masks if segments else scans.target,
        stratify=scans.target if segments else None,
        # Where there are none, the command has said what is known of duplicates.
        groups="independent" if scans.groups is None else scans.groups,
        masks=scans.masks if not segments and _learn_lesions(settings) else None,
        external=_read_elsewhere(settings, scans),
        scoring=LesionScores(tables.MASK_SIZE) if segments else None,
        n_splits=settings.folds,
        n_repeats=settings.repeats,
        random_state=settings.seed,
    )
    for name, model in models.items():
        with told_warnings(f"{name}: "):
            preflight(model, scans.images)
    return Prepared(settings, scans, digest, models, plan)


def _learn_lesions(settings: Settings) -> bool:
    return any(preset.learns_lesions for preset in settings.presets)


def _read_elsewhere(settings: Settings, scans: Data) -> dict[str, tuple[Any, ...]]:
    """Images that nothing is fitted on, with classes or masks, and groups where these are known."""
    from hybridus.cli.data import read_elsewhere

    found: dict[str, tuple[Any, ...]] = {}
    for name, folder in settings.external:
        there = read_elsewhere(
            folder,
            scans,
            segments=settings.segments,
            frame=settings.frame,
            crop=settings.crop,
        )
        truth = there.masks if settings.segments else there.target
        found[name] = (there.images, truth, *([] if there.groups is None else [there.groups]))
    return found


def check_masks(presets: Iterable[Preset], scans: Data) -> None:
    """Raise where a model must learn where lesions are and nobody says so."""
    for preset in presets:
        if preset.learns_lesions and scans.masks is None:
            raise ValueError(
                f"{preset.name} learns where lesions are, and {scans.name} has no masks: expected "
                "files such as '1_mask.png' beside '1.png'; `hybridus models` lists models that "
                "need none"
            )


def run(prepared: Prepared, study: Study, following: Following) -> Done:
    """Compare the models and leave table, folds, pictures and the best model behind."""
    from hybridus.protocol.compare import Comparison
    from hybridus.protocol.final import fit_final

    settings, scans, plan = prepared.settings, prepared.scans, prepared.plan
    drawn: dict[str, tuple[Any, Any]] = {}
    with results.keeping(settings, following) as keep:
        found = keep("honest", plan.run(settings.n_jobs, study))
        inside = [_drawn(result, prepared, drawn) for result in found]
        compared = plan.gather(inside, _elsewhere(prepared, study))
        failures = [compared.failures]
        leaky = None
        if settings.leaky:
            inflated = Comparison(keep("leaky", _leaky_results(prepared, study)))
            failures.append(inflated.failures)
            # Nobody should choose by them.
            leaky = inflated.table.drop(columns=["behind_best", "p_value"])
    files = _written(prepared, compared, leaky)
    tables.tell_task(compared, leaky, settings, scans)
    tables.tell_external(compared, settings.task)

    best = compared.table.index[0]
    model = prepared.models[best]
    if PRESETS[best].search:
        model.set_params(n_jobs=settings.n_jobs)
    target = scans.masks if settings.segments else scans.named_target
    with following.refitting(best):
        masks = scans.masks if PRESETS[best].learns_lesions else None
        final = fit_final(model, scans.images, target, scans.groups, masks)
    model_file = results.save_model(
        final,
        scans,
        prepared.digest,
        settings.model_file(best),
        model=f"{best}: {PRESETS[best].note}",
        scores=results.scores_for_card(compared, best),
    )
    tables.tell_best(compared.table, final.fitted, settings.task, len(scans.images))
    overlay = {"overlay": settings.overlay_file(best)} if settings.segments else {}
    results.tell_files(files | overlay | {"model": model_file})
    return Done(prepared, compared, leaky, drawn, final.fitted, failures)


def _written(
    prepared: Prepared, compared: Comparison, leaky: pd.DataFrame | None
) -> dict[str, Path]:
    """Write the tables; return where they lie."""
    settings, scans = prepared.settings, prepared.scans
    results.write_table(compared.table, leaky, scans, prepared.digest, settings)
    results.write_samples(compared, scans, settings)
    results.write_csv(compared.differences.reset_index(), settings.differences_file)
    files = {"table": settings.table_file, "folds": settings.folds_file}
    files |= {"pairs": settings.differences_file, "images": settings.samples_file}
    for name, there in compared.external.items():
        results.write_csv(there.table.reset_index(), settings.external_file(name))
        files[name] = settings.external_file(name)
    if settings.positive is not None and not settings.segments:
        found_by = compared.one_against_rest(scans.target_names.index(settings.positive))
        results.write_csv(found_by.reset_index(), settings.diagnosis_file)
        files["class"] = settings.diagnosis_file
    return files


def _build(preset: Preset, settings: Settings, grouped: bool) -> Any:
    """Make the model of a preset."""
    return preset.build(
        weights=settings.weights,
        image_size=settings.image_size,
        cache=settings.cache,
        grouped=grouped,
        random_state=settings.seed,
        value_range=settings.value_range,
    )


def _drawn(result: Outcome, prepared: Prepared, drawn: dict[str, tuple[Any, Any]]) -> Outcome:
    """Draw the masks of a model's first fold, note them, and let go of all others."""
    from hybridus.protocol.schedule import FoldFailure

    if isinstance(result, FoldFailure) or not prepared.settings.segments:
        return result
    if result.repeat == result.fold == 0:
        results.draw_masks(result, prepared.scans, prepared.settings)
        drawn[result.model] = result.test, result.predictions
    return result.without_predictions()


def _elsewhere(prepared: Prepared, study: Study) -> Iterator[tuple[str, Outcome]]:
    """Score models on what nothing is fitted on; of masks no more is kept than the scores."""
    from hybridus.protocol.run import FoldResult

    for name, outcome in prepared.plan.run_external(prepared.settings.n_jobs, study):
        if isinstance(outcome, FoldResult) and prepared.settings.segments:
            outcome = outcome.without_predictions()
        yield name, outcome


def _leaky_results(prepared: Prepared, study: Study) -> Iterator[Outcome]:
    """Score the models on copies that were augmented before they were split, each at its size."""
    from dataclasses import replace

    import numpy as np

    from hybridus.inputs.images import as_images
    from hybridus.protocol.compare import plan_comparison
    from hybridus.protocol.leaky import N_COPIES, augmented_copies, leaky_folds

    settings, scans = prepared.settings, prepared.scans
    folds = leaky_folds(scans.target, n_repeats=settings.repeats, random_state=settings.seed)
    images = as_images(scans.images, value_range=settings.value_range)
    in_8_bits = replace(settings, value_range=None)
    by_size: dict[tuple[int, int], list[Preset]] = {}
    for preset in settings.presets:
        by_size.setdefault(preset.input_size(settings.image_size), []).append(preset)
    for size, presets in by_size.items():
        plan = plan_comparison(
            {preset.name: _build(preset, in_8_bits, grouped=False) for preset in presets},
            augmented_copies(images, image_size=size),
            np.repeat(scans.target, N_COPIES),
            groups="independent",
            folds=folds,
        )
        yield from plan.run(settings.n_jobs, study)
