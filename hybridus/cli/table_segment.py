"""What `hybridus compare --task segment` tells its reader: settings, a table and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hybridus.cli.console import SCREEN, tell
from hybridus.cli.recipes_segment import MASK_SIZE, SLOW_MODELS, Recipe, trains_network
from hybridus.cli.table import (
    count,
    mean_and_spread,
    new_grid,
    p_value,
    percent,
    pixels,
    seconds,
    tell_data,
    tell_folds,
    tell_weights,
)

if TYPE_CHECKING:
    import pandas as pd

    from hybridus.cli.data import Data
    from hybridus.cli.results import Settings


def tell_settings(
    dataset: Data,
    rows: dict[str, Recipe],
    models: dict[str, Any],
    sizes: dict[str, tuple[int, int]],
    settings: Settings,
) -> None:
    """Say what is compared on what, before the work."""
    tell_data(dataset)
    shares = sorted({percent(model.validation_fraction) for model in models.values()})
    stop = "to stop in time and " * any(map(trains_network, rows.values()))
    tell(
        f"models   {count(list(models), 'segmenter')}, {' or '.join(shares)} of the training part "
        f"held out {stop}to choose the threshold"
    )
    for name, row in rows.items():
        if row.note:
            tell(f"         {escape(name)} has {row.note}")
    tell_folds(settings)
    slow = [name for name in models if name in SLOW_MODELS]
    if slow:
        tell(f"slow     {', '.join(slow)}: minutes to tens of minutes a fold on two cores")
    if any(row.encoder for row in rows.values()):
        tell_weights(settings.weights)
    size = f"{MASK_SIZE} x {MASK_SIZE}"
    tell(f"input    {pixels(sizes, models)} pixels; masks are judged at {size}")


def print_table(table: pd.DataFrame, n_folds: int) -> None:
    """Print a row for each segmenter, best first."""
    normals = bool(table["false_positive_rate_mean"].notna().any())
    grid = new_grid("model", ["Dice", "IoU", "HD95", *["FP"] * normals, "s", "p"])
    for name, row in table.iterrows():
        grid.add_row(
            str(name),
            mean_and_spread(row, "dice"),
            mean_and_spread(row, "iou"),
            f"{row['hausdorff_95_mean']:.1f}±{row['hausdorff_95_std']:.1f}",
            *[mean_and_spread(row, "false_positive_rate")] * normals,
            seconds(row),
            p_value(row),
        )
    SCREEN.print(grid)
    SCREEN.print()
    alarms = "FP: share of images without lesion in which one is predicted; " * normals
    tell(
        f"Mean ± standard deviation over {n_folds} folds. Dice, IoU and HD95 are means over images "
        "with a lesion; HD95: 95th percentile of the distance between outlines, in pixels of "
        f"{MASK_SIZE} x {MASK_SIZE}, the diagonal where nothing is predicted; {alarms}s: seconds a "
        "fold, fit and score; p: corrected resampled t-test of Dice against the best."
    )
