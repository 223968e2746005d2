"""``hybridus compare --task segment``: from segmenters to a table, overlays and a fitted model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridus.cli import recipes_segment as recipes
from hybridus.cli.console import user_errors, warn
from hybridus.cli.data import Data
from hybridus.cli.results import (
    Settings,
    calm,
    digest_of,
    progress_bar,
    record,
    refit,
    tell_files,
    write_csv,
)
from hybridus.cli.table import tell_best
from hybridus.cli.table_segment import print_table, tell_settings

if TYPE_CHECKING:
    import pandas as pd

    from hybridus.protocol.segmentation_folds import SegmentedFold


def segment(dataset: Data, settings: Settings, lesions_only: bool | None) -> None:
    """Compare segmenters and leave their table, folds, overlays and the best model behind."""
    with user_errors():
        scans = _choose_scans(dataset, lesions_only)
    rows = {name: recipes.RECIPES[name] for name in settings.models}
    built = {name: recipes.build(row, **settings.built_with) for name, row in rows.items()}
    sizes = {name: recipes.input_size(row, built[name]) for name, row in rows.items()}
    tell_settings(scans, rows, built, sizes, settings)
    with user_errors():
        folds = _open_folds(built, scans, settings)
        for name, row in rows.items():
            lack = recipes.check(row, built[name], scans.images)
            if lack is not None:
                warn(f"{name}: {lack}")
        digest = digest_of(scans, with_masks=True)
        settings.out.mkdir(parents=True, exist_ok=True)

    table_file = settings.out / "segmentation.csv"
    folds_file = settings.out / "segmentation_folds.csv"
    with calm():
        table = _score(folds, len(built), scans, settings, folds_file)
    inputs = [sizes[name][0] for name in table.index]
    columns = record(scans, digest, settings, inputs)
    write_csv(table.reset_index().assign(mask_size=recipes.MASK_SIZE, **columns), table_file)
    print_table(table, settings.folds * settings.repeats)

    best = table.index[0]
    model_file = settings.out / "models" / f"{best}.joblib"
    fitted = refit(built[best], scans.images, scans.masks, scans.groups, model_file)
    tell_best(table, fitted, len(scans.target), "dice", "Dice on images with a lesion")
    overlay = _overlay_file(settings.out, best)
    tell_files({"table": table_file, "folds": folds_file, "overlay": overlay, "model": model_file})


def _choose_scans(dataset: Data, lesions_only: bool | None) -> Data:
    """Leave images without lesion out where that is wanted, and say what became of them."""
    import numpy as np

    if dataset.masks is None:
        raise ValueError(
            f"{dataset.name}: no masks of lesions found, which --task segment needs; expected "
            "those of BUSI: 'benign/benign (1)_mask.png' beside 'benign/benign (1).png', or the "
            "same in folders 'mask' and 'images'"
        )
    has_lesion = np.array([mask.any() for mask in dataset.masks], dtype=bool)
    n_without = int((~has_lesion).sum())
    if lesions_only is False and not n_without:
        raise ValueError(f"--with-normals: every image of {dataset.name} has a lesion")
    if lesions_only and n_without:
        return dataset.only(has_lesion, f"{n_without} images without lesion are left out.")
    if n_without:
        note = f"{n_without} have no lesion: false positives are counted on them"
        return replace(dataset, notes=[*dataset.notes, f"{note} (--lesions-only omits them)."])
    return dataset


def _open_folds(models: dict[str, Any], scans: Data, settings: Settings) -> Iterator[SegmentedFold]:
    """Draw the folds, which is refused now where it cannot be done; nothing is fitted yet."""
    from hybridus.protocol.segmentation_folds import segment_folds

    return segment_folds(
        models,
        scans.images,
        scans.masks,
        y=scans.target,
        groups="independent" if scans.groups is None else scans.groups,
        mask_size=recipes.MASK_SIZE,
        **settings.split,
    )


def _score(
    folds: Iterator[SegmentedFold], n_models: int, scans: Data, settings: Settings, file: Path
) -> pd.DataFrame:
    """Fit and judge fold by fold and keep what is finished on disk; return a row for each model."""
    import pandas as pd

    from hybridus.protocol.model_selection import summarize

    finished: list[dict[str, Any]] = []
    with progress_bar() as progress:
        total = n_models * settings.folds * settings.repeats
        bar = progress.add_task(settings.models[0], total=total)
        for done in folds:
            finished.append(done.row())
            write_csv(pd.DataFrame(finished), file)
            if done.repeat == done.fold == 0:
                _draw(done, scans, settings)
            following = settings.models[min(n_models * len(finished) // total, n_models - 1)]
            progress.update(bar, advance=1, description=following)
    return summarize(pd.DataFrame(finished))


def _draw(done: SegmentedFold, scans: Data, settings: Settings) -> None:
    """Draw the best, median and worst masks of a model's first fold over their scans."""
    from matplotlib.figure import Figure

    from hybridus.inputs.files import replacing
    from hybridus.report import SegmentationDisplay

    figure = Figure(figsize=(8.6, 6.4))  # without pyplot: no window is ever opened
    figure.suptitle(
        f"{done.model}: {len(done.test)} scans of fold 1 of {settings.folds}, not trained on",
        fontsize="medium",
    )
    SegmentationDisplay.from_predictions(
        scans.images[done.test],
        None if scans.masks is None else scans.masks[done.test],
        done.predicted,
        y=scans.target[done.test],
        target_names=scans.target_names,
        figure=figure,
    )
    with replacing(_overlay_file(settings.out, done.model)) as temporary:
        figure.savefig(temporary, dpi=150)


def _overlay_file(out: Path, name: str) -> Path:
    return out / f"segmentation_{name}.png"
