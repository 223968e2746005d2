"""What `hybridus compare` tells its reader: settings, tables and what they mean, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hybridus.cli.console import SCREEN, tell
from hybridus.cli.recipes import INNER_FOLDS, is_search

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from hybridus.cli.data import Data
    from hybridus.cli.results import Settings

_SCORES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "balanced_accuracy": "bal. acc.",
    "macro_ovr_auc": "macro AUC",
}


def tell_data(dataset: Data) -> None:
    """Say what images there are, before the work."""
    counts = ", ".join(
        f"{name} ({label}) {int((dataset.target == label).sum())}"
        for label, name in enumerate(dataset.target_names)
    )
    tell(f"data     {escape(dataset.name)}: {len(dataset.target)} images; {escape(counts)}")
    for note in dataset.notes:
        tell(f"         {note}")
    if dataset.groups is not None:
        tell(f"groups   {len(set(dataset.groups))}, each on one side of every split")


def tell_folds(settings: Settings) -> None:
    """Say how often each model is fitted and tested."""
    tell(f"folds    {settings.folds} x {settings.repeats} outer folds, the same for all models")


def tell_weights(weights: str) -> None:
    """Say where the weights of encoders come from."""
    untrained = ": untrained features, so expect low scores" if weights == "random" else ""
    tell(f"weights  {escape(weights)}{untrained}")


def tell_settings(
    dataset: Data,
    models: dict[str, Any],
    sizes: dict[str, tuple[int, int]],
    settings: Settings,
    reported: bool,
) -> None:
    """Say what is compared on what, before the work."""
    tell_data(dataset)
    hybrids = [name for name, model in models.items() if is_search(model)]
    networks = [name for name in models if name not in hybrids]
    kinds = []
    if hybrids:
        each = "each " * (len(hybrids) > 1)
        kinds.append(f"{count(hybrids, 'hybrid')}, {each}searched on {INNER_FOLDS} inner folds")
    if networks:
        shares = {percent(models[name].validation_fraction) for name in networks}
        kinds.append(
            f"{count(networks, 'fine-tuned network')}, {' or '.join(sorted(shares))} of the "
            "training part held out to stop in time"
        )
    for heading, kind in zip(("models   ", " " * 9), kinds, strict=False):
        tell(f"{heading}{kind}")
    tell_folds(settings)
    if reported:
        tell("report   each model once more on augmented copies split at random, for comparison")
    tell_weights(settings.weights)
    inputs = [pixels(sizes, names) for names in (hybrids, networks) if names]
    of_networks = f"; fine-tuned networks {inputs[-1]}" * (len(set(inputs)) > 1)
    small = settings.image_size is None and any(max(sizes[name]) < 224 for name in networks)
    longer = " (224 takes three times as long)" * small
    tell(f"input    {inputs[0]} pixels{of_networks}{longer}")


def count(names: list[str], what: str) -> str:
    """Count things, as ``2 hybrids``."""
    return f"{len(names)} {what}{'s' * (len(names) > 1)}"


def percent(share: float) -> str:
    """Whole percents."""
    return f"{100 * share:.0f} %"


def pixels(sizes: dict[str, tuple[int, int]], names: Iterable[str]) -> str:
    """Sizes of the inputs of some models, each once."""
    return " or ".join(f"{h} x {w}" for h, w in sorted({sizes[name] for name in names}))


def print_table(table: pd.DataFrame, n_folds: int) -> None:
    """Print a row for each model, best first."""
    grid = new_grid("model", [*_SCORES.values(), "s", "p"])
    for name, row in table.iterrows():
        grid.add_row(str(name), *_scores(row), seconds(row), p_value(row))
    SCREEN.print(grid)
    SCREEN.print()
    tell(
        f"Mean ± standard deviation over {n_folds} folds; macro AUC: one class against the rest; "
        "s: seconds a fold, fit and score; p: corrected resampled t-test of the accuracy against "
        "the best."
    )


def print_both(honest: pd.DataFrame, reported: pd.DataFrame, split: dict[str, Any]) -> None:
    """Print each model under both protocols, best honest one first, and say what differs."""
    from hybridus.protocol.reported_protocol import N_COPIES, TEST_SIZE

    grid = new_grid("model", ["protocol", *_SCORES.values()])
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
    in_training = percent(1 - 1 / n_folds)
    smaller = (
        f" A part of the difference is that {n_folds} folds train on {in_training} of the images: "
        "--folds 5 trains on 80 %, as the random split does."
    ) * (n_folds < 5)
    tell(
        f"[bold]The `report` rows, {low if low == high else f'{low} to {high}'} points of accuracy "
        "above the honest ones, are inflated and must not be reported.[/] "
        f"{N_COPIES} copies of each image were made first, and {splits} then tested "
        f"{percent(TEST_SIZE)} of all copies: copies of nearly every test image, and of its "
        f"duplicates, were trained on.{smaller}"
    )


def new_grid(first: str, others: list[str]) -> Table:
    """Empty table without a frame, of narrow columns that are never cut."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    grid.add_column(first, no_wrap=True)
    for heading in others:
        left = heading == "protocol"
        grid.add_column(heading, justify="left" if left else "right", no_wrap=True)
    return grid


def seconds(row: pd.Series) -> str:
    """Seconds that a fold took."""
    taken = row["fit_seconds"] + row["score_seconds"]
    return f"{taken:.1f}" if taken < 100 else f"{taken:.0f}"


def p_value(row: pd.Series) -> str:
    """Of the difference to the best model, which has none itself."""
    value = row["p_value"]
    if value != value:
        return "best"
    return "<.01" if value < 0.01 else f"{value:.2f}".replace("0.", ".")


def _scores(row: pd.Series) -> list[str]:
    return [mean_and_spread(row, metric) for metric in _SCORES]


def mean_and_spread(row: pd.Series, metric: str) -> str:
    """Four digits of each, as ``.764±.026``; the mean alone where there is no spread."""
    mean, spread = (_digits(row[f"{metric}_{what}"]) for what in ("mean", "std"))
    return f"{mean}{' ' * 5}" if spread == "nan" else f"{mean}±{spread}"


def _digits(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")[:4]


def tell_best(table: pd.DataFrame, model: Any, n_images: int, metric: str, called: str) -> None:
    """Say what the best model's score means, and how the saved one was fitted."""
    picked = f" It is the best of {len(table)}, and so slightly optimistic." * (len(table) > 1)
    tested, saved = _how_fitted(model, n_images)
    tell(
        f"\n[bold]{table.index[0]}[/]: {called} {mean_and_spread(table.iloc[0], metric)}. "
        f"{tested} without the images that it was tested on.{picked} The saved model was {saved}."
    )


def _how_fitted(model: Any, n_images: int) -> tuple[str, str]:
    """Say what was done in every fold, and then on all images."""
    if is_search(model):
        chosen = ", ".join(
            f"{name.rpartition('__')[2]} = {value}" for name, value in model.best_params_.items()
        )
        return (
            "This is the nested estimate: in every fold the setting was chosen and the model "
            "fitted",
            f"searched and fitted again on all {n_images} images ({chosen})",
        )
    threshold = getattr(model, "threshold_", None)
    if not hasattr(model, "best_epoch_"):
        return (
            "In every fold the model was fitted, and its threshold chosen,",
            f"fitted again on all {n_images} images (threshold {threshold:.2f})",
        )
    above = "" if threshold is None else f"; threshold {threshold:.2f}"
    return (
        "In every fold the network was trained, and training stopped,",
        f"trained again on all {n_images} images, {percent(model.validation_fraction)} of them "
        f"held out to stop in time (weights of epoch {model.best_epoch_} of {model.n_iter_}"
        f"{above})",
    )
