"""What `hybridus compare` tells its reader: settings, tables and what they mean, in 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hybridus.cli.console import SCREEN, tell
from hybridus.cli.recipes import INNER_FOLDS, is_search

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from hybridus.cli.data import Data

_SCORES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "balanced_accuracy": "bal. acc.",
    "macro_ovr_auc": "macro AUC",
}


def tell_settings(
    dataset: Data,
    models: dict[str, Any],
    sizes: dict[str, tuple[int, int]],
    split: dict[str, Any],
    weights: str,
    image_size: int | None,
    reported: bool,
) -> None:
    """Say what is compared on what, before the work; `image_size` is what the user asked for."""
    counts = ", ".join(
        f"{name} ({label}) {int((dataset.target == label).sum())}"
        for label, name in enumerate(dataset.target_names)
    )
    tell(f"data     {escape(dataset.name)}: {len(dataset.target)} images; {escape(counts)}")
    for note in dataset.notes:
        tell(f"         {note}")
    if dataset.groups is not None:
        tell(f"groups   {len(set(dataset.groups))}, each on one side of every split")
    hybrids = [name for name, model in models.items() if is_search(model)]
    networks = [name for name in models if name not in hybrids]
    kinds = []
    if hybrids:
        each = "each " * (len(hybrids) > 1)
        kinds.append(f"{_count(hybrids, 'hybrid')}, {each}searched on {INNER_FOLDS} inner folds")
    if networks:
        shares = {_percent(models[name].validation_fraction) for name in networks}
        kinds.append(
            f"{_count(networks, 'fine-tuned network')}, {' or '.join(sorted(shares))} of the "
            "training part held out to stop in time"
        )
    for heading, kind in zip(("models   ", " " * 9), kinds, strict=False):
        tell(f"{heading}{kind}")
    tell(
        f"folds    {split['n_splits']} x {split['n_repeats']} outer folds, the same for all models"
    )
    if reported:
        tell("report   each model once more on augmented copies split at random, for comparison")
    untrained = ": untrained features, so expect low scores" if weights == "random" else ""
    tell(f"weights  {escape(weights)}{untrained}")
    inputs = [_pixels(sizes, names) for names in (hybrids, networks) if names]
    of_networks = f"; fine-tuned networks {inputs[-1]}" * (len(set(inputs)) > 1)
    small = image_size is None and any(max(sizes[name]) < 224 for name in networks)
    longer = " (224 takes three times as long)" * small
    tell(f"input    {inputs[0]} pixels{of_networks}{longer}")


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'s' * (len(names) > 1)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _pixels(sizes: dict[str, tuple[int, int]], names: list[str]) -> str:
    return " or ".join(f"{h} x {w}" for h, w in sorted({sizes[name] for name in names}))


def print_table(table: pd.DataFrame, n_folds: int) -> None:
    """Print a row for each model, best first."""
    grid = _grid("model", [*_SCORES.values(), "s", "p"])
    for name, row in table.iterrows():
        seconds = row["fit_seconds"] + row["score_seconds"]
        p_value = "<.01" if row["p_value"] < 0.01 else f"{row['p_value']:.2f}".replace("0.", ".")
        grid.add_row(
            str(name),
            *_scores(row),
            f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}",
            "best" if name == table.index[0] else p_value,
        )
    SCREEN.print(grid)
    SCREEN.print()
    tell(
        f"Mean ± standard deviation over {n_folds} folds; macro AUC: one class against the rest; "
        "s: seconds a fold, fit and score; p: corrected resampled t-test of the accuracy against "
        "the best."
    )


def print_both(honest: pd.DataFrame, reported: pd.DataFrame, split: dict[str, Any]) -> None:
    """Print each model under both protocols, best honest one first, and say what differs."""
    from hybridus.reported_protocol import N_COPIES, TEST_SIZE

    grid = _grid("model", ["protocol", *_SCORES.values()])
    for (name, row), (_, inflated) in zip(honest.iterrows(), reported.iterrows(), strict=True):
        grid.add_row(str(name), "honest", *_scores(row))
        grid.add_row("", "report", *_scores(inflated))
    SCREEN.print()
    SCREEN.print(grid)
    SCREEN.print()
    gains = 100 * (reported["accuracy_mean"] - honest["accuracy_mean"])
    low, high = f"{gains.min():.1f}", f"{gains.max():.1f}"
    n_splits, n_folds = split["n_repeats"], split["n_splits"]
    splits = "one random split" if n_splits == 1 else f"each of {n_splits} random splits"
    in_training = _percent(1 - 1 / n_folds)
    smaller = (
        f" A part of the difference is that {n_folds} folds train on {in_training} of the images: "
        "--folds 5 trains on 80 %, as the random split does."
    ) * (n_folds < 5)
    tell(
        f"[bold]The `report` rows, {low if low == high else f'{low} to {high}'} points of accuracy "
        "above the honest ones, are inflated and must not be reported.[/] "
        f"{N_COPIES} copies of each image were made first, and {splits} then tested "
        f"{_percent(TEST_SIZE)} of all copies: copies of nearly every test image, and of its "
        f"duplicates, were trained on.{smaller}"
    )


def _grid(first: str, others: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    grid.add_column(first, no_wrap=True)
    for heading in others:
        left = heading == "protocol"
        grid.add_column(heading, justify="left" if left else "right", no_wrap=True)
    return grid


def _scores(row: pd.Series) -> list[str]:
    return [mean_and_spread(row, metric) for metric in _SCORES]


def mean_and_spread(row: pd.Series, metric: str) -> str:
    """Four digits of each, as ``.764±.026``; the mean alone where there is no spread."""
    mean, spread = (_digits(row[f"{metric}_{what}"]) for what in ("mean", "std"))
    return f"{mean}{' ' * 5}" if spread == "nan" else f"{mean}±{spread}"


def _digits(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")[:4]


def tell_best(table: pd.DataFrame, model: Any, n_images: int) -> None:
    """Say what the best model's score means, and how the saved one was fitted."""
    picked = f" It is the best of {len(table)}, and so slightly optimistic." * (len(table) > 1)
    if is_search(model):
        chosen = ", ".join(
            f"{name.rpartition('__')[2]} = {value}" for name, value in model.best_params_.items()
        )
        how = (
            "This is the nested estimate: in every fold the setting was chosen and the model "
            f"fitted without the images that it was tested on.{picked} The saved model was "
            f"searched and fitted again on all {n_images} images ({chosen})."
        )
    else:
        how = (
            "In every fold the network was trained, and training stopped, without the images that "
            f"it was tested on.{picked} The saved model was trained again on all {n_images} "
            f"images, {_percent(model.validation_fraction)} of them held out to stop in time "
            f"(weights of epoch {model.best_epoch_} of {model.n_iter_})."
        )
    tell(
        f"\n[bold]{table.index[0]}[/]: accuracy {mean_and_spread(table.iloc[0], 'accuracy')}. {how}"
    )
