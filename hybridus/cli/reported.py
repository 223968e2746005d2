"""Report: the page that a comparison leaves beside its tables, made of what the command knows."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridus.cli import audited, data as reading
from hybridus.cli.console import NOTES, warn

if TYPE_CHECKING:
    from hybridus.cli.task_run import Done, Prepared
    from hybridus.protocol.audit import Audit

_MOST_AUDITED = 5000  # images that nobody has looked at before: a minute or two


def write(done: Sequence[Done]) -> Path | None:
    """Write OUT/report.html of all tasks that were done.

    Returns
    -------
    Path or None
        None where it failed, which is told: tables and models are there all the same. A page of an
        earlier run is then taken away.
    """
    page = done[0].prepared.settings.out / "report.html"
    try:
        with NOTES.status("writing the report"):  # nothing where there is no terminal
            return _write(page, done)
    except Exception as error:
        page.unlink(missing_ok=True)
        warn(f"no report: {page} could not be written ({type(error).__name__}: {error})")
        return None


def _write(page: Path, done: Sequence[Done]) -> Path:
    import numpy as np

    from hybridus.report.page import write_report

    by_task = {str(one.prepared.settings.task): one for one in done}
    classified, segmented = by_task.get("classify"), by_task.get("segment")
    whole = max((one.prepared for one in done), key=lambda one: len(one.scans.images))
    scans, settings = whole.scans, whole.settings
    places = {name: i for i, name in enumerate(scans.names or [])}
    of_masks = None if segmented is None else segmented.prepared.scans
    return write_report(
        page,
        classification=None if classified is None else classified.compared,
        segmentation=None if segmented is None else segmented.compared,
        images=scans.images,
        target=scans.target if scans.labelled else None,
        masks=None if of_masks is None else of_masks.masks,
        class_names=scans.target_names,
        names=scans.names,
        audit=_audit(whole),
        features=_features(classified),
        fitted=None if classified is None else classified.best,
        positive=_positive(classified),
        segmented=(
            None
            if of_masks is None or of_masks.names is None
            else np.array([places[name] for name in of_masks.names])
        ),
        drawn=None if segmented is None else segmented.drawn,
        value_range=settings.value_range,
        data_name=scans.name,
        about={
            "data": scans.name,
            "data digest": whole.digest,
            "groups": scans.grouped_by,
            "repeats": settings.repeats,
            "seed": settings.seed,
            "weights": settings.weights,
            "models": [
                f"{preset.name}: {preset.note}"
                for one in done
                for preset in one.prepared.settings.presets
            ],
        },
        command=shlex.join(["hybridus", *sys.argv[1:]]),
    )


def _positive(classified: Done | None) -> int | None:
    """Return the number of the class that is looked for, where one is."""
    if classified is None or classified.prepared.settings.positive is None:
        return None
    return classified.prepared.scans.target_names.index(classified.prepared.settings.positive)


def _audit(prepared: Prepared) -> Audit | None:
    """Say what is wrong with the images, found before or now.

    Nothing of very many, and of simulated ones, where it takes longer than all else on the page.
    """
    scans, settings = prepared.scans, prepared.settings
    where = (scans, prepared.digest, settings.study, settings.value_range)
    found = audited.recall(*where)
    simulated = scans.name == reading.SIMULATED
    if found is None and not simulated and len(scans.images) <= _MOST_AUDITED:
        found = audited.look_at(*where)
        audited.keep(found, scans, prepared.digest, settings.study)
    return found


def _features(classified: Done | None) -> Any:
    """Features of the best model that has frozen ones: the store knows them already."""
    from sklearn.base import clone

    from hybridus.presets import PRESETS

    if classified is None:
        return "bundled"
    images = classified.prepared.scans.images
    fitted = getattr(classified.best, "best_estimator_", classified.best)
    step = getattr(fitted, "named_steps", {}).get("features")
    if step is not None:
        return step.transform(images)
    for name in classified.compared.table.index:
        model = classified.prepared.models[name]
        model = getattr(model, "estimator", model)
        step = getattr(model, "named_steps", {}).get("features")
        if step is not None and not PRESETS[name].learns_lesions:
            return clone(step).fit_transform(images)
    return "bundled"
