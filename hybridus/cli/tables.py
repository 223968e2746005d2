"""Tables: what `hybridus compare` tells its reader after the work, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hybridus.cli.console import SCREEN, tell

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from hybridus.cli.data import Data
    from hybridus.cli.settings import Settings
    from hybridus.cli.task_run import Done
    from hybridus.protocol.comparison import Comparison

MASK_SIZE = 128  # pixels; masks are judged at this size, since images differ in theirs


@dataclass(frozen=True)
class Metric:
    """What of a comparison is shown in a column."""

    name: str
    heading: str
    meaning: str = ""
    decimals: int = 3


# Of each task; the first ranks.
METRICS: dict[str, tuple[Metric, ...]] = {
    "classify": (
        Metric("accuracy", "accuracy"),
        Metric("f1_macro", "macro-F1"),
        Metric("balanced_accuracy", "bal. acc."),
        Metric("macro_ovr_auc", "macro AUC", "one class against the rest"),
        Metric(
            "evidence_on_lesion",
            "on lesion",
            "mean share of the evidence for the true class that lies on the lesion",
        ),
    ),
    "segment": (
        Metric("dice", "Dice", "mean over images with a lesion, as IoU and HD95"),
        Metric("iou", "IoU"),
        Metric(
            "hausdorff_95",
            "HD95",
            "95th percentile of the distance between outlines, in pixels of "
            f"{MASK_SIZE} x {MASK_SIZE}, the diagonal where nothing is predicted",
            decimals=1,
        ),
        Metric(
            "false_positive_rate", "FP", "share of images without lesion in which one is predicted"
        ),
    ),
}


def tell_found(n_found: int, n_folds: int) -> None:
    """Say how many folds were kept from before."""
    if n_found:
        tell(
            f"{n_found} of {n_folds} folds were kept from an earlier run, with the seconds that "
            "they took then."
        )


def tell_task(
    compared: Comparison, leaky: pd.DataFrame | None, settings: Settings, dataset: Data
) -> None:
    """Print what came of one task."""
    SCREEN.print()
    print_table(compared, settings.task, settings.folds * settings.repeats)
    if settings.positive is not None:
        found_by = compared.one_against_rest(dataset.target_names.index(settings.positive))
        print_diagnosis(found_by, compared.table.index, settings.positive)
    if leaky is not None:
        print_both(compared.table, leaky, settings)


def print_table(compared: Comparison, task: str, n_folds: int) -> None:
    """Print a row for each model, best first, and say which differences are settled."""
    table = compared.table
    behind = [float("nan"), *compared.differences["p_holm"].iloc[: len(table) - 1]]
    shown = _known(table, task)
    grid = new_grid(["model", *(one.heading for one in shown), "s", "p"])
    for (name, row), p in zip(table.iterrows(), behind, strict=True):
        grid.add_row(str(name), *_cells(row, shown), _seconds(row), _p_value(p))
    SCREEN.print(grid)
    SCREEN.print()
    legend = "".join(f"{one.heading}: {one.meaning}; " for one in shown if one.meaning)
    tested = f"; p: of the difference in {shown[0].heading} to the best, tested over groups and "
    tested += "corrected for the number of pairs"
    tell(
        f"Mean ± standard deviation over {n_folds} folds. {legend}s: seconds a fold, fit and "
        f"score{tested * (len(table) > 1)}."
    )
    for line in compared.conclusions:
        verdict, colon, rest = line.partition(":")
        tell(f"[bold]{escape(verdict)}[/]{colon}{escape(rest)}")


def _known(table: pd.DataFrame, task: str) -> list[Metric]:
    """Metrics of a task that any model has."""
    names = [f"{one.name}_mean" for one in METRICS[task]]
    known = [name in table and bool(table[name].notna().any()) for name in names]
    return [one for one, is_known in zip(METRICS[task], known, strict=True) if is_known]


def print_diagnosis(found: pd.DataFrame, models: Iterable[str], positive: str) -> None:
    """Print how well each model tells one class from the rest, with intervals."""
    shown = {"sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}
    shown["sensitivity_at_90"] = "at 90 %"
    grid = new_grid(["model", *shown.values()])
    for model in models:
        rows = found.loc[model].loc[list(shown)]
        grid.add_row(model, *(_with_interval(row) for _, row in rows.iterrows()))
    SCREEN.print()
    SCREEN.print(grid)
    SCREEN.print()
    tell(
        f"{escape(positive)} against the rest, with 95 % intervals (bootstrap over groups). at "
        "90 %: sensitivity at the threshold that leaves 90 % of the others alone in other folds."
    )


def _with_interval(row: pd.Series) -> str:
    """Value and interval, as ``.81 .75-.86``."""
    value, low, high = (
        "-" if row[name] != row[name] else f"{row[name]:.2f}".removeprefix("0")
        for name in ("value", "low", "high")
    )
    return f"{value} {low}-{high}" if value != "-" else value


def print_both(honest: pd.DataFrame, leaky: pd.DataFrame, settings: Settings) -> None:
    """Print each model under both protocols, best honest one first, and say what differs."""
    from hybridus.protocol.leaky import N_COPIES, TEST_SIZE

    shown = _known(leaky, "classify")
    grid = new_grid(["model", "protocol", *(one.heading for one in shown)])
    honest = honest[honest.index.isin(leaky.index)]
    leaky = leaky.loc[honest.index]
    for (name, row), (_, inflated) in zip(honest.iterrows(), leaky.iterrows(), strict=True):
        grid.add_row(str(name), "honest", *_cells(row, shown))
        grid.add_row("", "leaky", *_cells(inflated, shown))
    SCREEN.print()
    SCREEN.print(grid)
    SCREEN.print()
    gains = 100 * (leaky["accuracy_mean"] - honest["accuracy_mean"])
    low, high = f"{gains.min():.1f}", f"{gains.max():.1f}"
    n_splits, n_folds = settings.repeats, settings.folds
    splits = "one random split" if n_splits == 1 else f"each of {n_splits} random splits"
    smaller = (
        f" A part of the difference is that {n_folds} folds train on {_percent(1 - 1 / n_folds)} "
        "of the images: --folds 5 trains on 80 %, as the random split does."
    ) * (n_folds < 5)
    tell(
        f"[bold]The `leaky` rows, {low if low == high else f'{low} to {high}'} points of accuracy "
        "above the honest ones, are inflated and must not be reported.[/] "
        f"{N_COPIES} copies of each image were made first, and {splits} then tested "
        f"{_percent(TEST_SIZE)} of all copies: copies of nearly every test image, and of its "
        f"duplicates, were trained on.{smaller}"
    )


def tell_external(compared: Comparison, task: str) -> None:
    """Print what the models are worth on sets that nothing was fitted on, and what they lose."""
    for name, there in compared.external.items():
        shown = _known(there.table, task)
        ranks = shown[0]
        grid = new_grid(["model", *(one.heading for one in shown), "lost"])
        first = f"{ranks.name}_mean"
        losses = (compared.table[first] - there.table[first]).to_dict()
        for model, row in there.table.iterrows():
            lost = losses[model]
            cells = [_cell(row, one) for one in shown]
            grid.add_row(str(model), *cells, f"{lost:.{ranks.decimals}f}".replace("0.", ".", 1))
        SCREEN.print()
        SCREEN.print(grid)
        SCREEN.print()
        tell(
            f"[bold]{escape(name)}[/]: {escape(there.split)}; lost: of {ranks.heading}, against "
            "the folds."
        )


def tell_best(table: pd.DataFrame, model: Any, task: str, n_images: int) -> None:
    """Say what the best model's score means, and how the saved one was fitted."""
    ranks = METRICS[task][0]
    on_lesions = " on images with a lesion" * (task == "segment")
    picked = f" It is the best of {len(table)}, and so slightly optimistic." * (len(table) > 1)
    tested, saved = _how_fitted(model, n_images)
    tell(
        f"\n[bold]{table.index[0]}[/]: {ranks.heading}{on_lesions} {_cell(table.iloc[0], ranks)}. "
        f"{tested} without the images that it was tested on.{picked} The saved model was {saved}."
    )


def tell_failures(done: Iterable[Done]) -> bool:
    """Say which models could not be compared; return whether there is none."""
    import pandas as pd

    told = False
    for one in done:
        study = one.prepared.settings.study
        for _, row in pd.concat(one.failures).drop_duplicates("model").iterrows():
            told = True
            said = (row["message"].splitlines() or [""])[0]
            tell(
                f"[bold red]{row['model']} is left out[/]: it failed on fold {row['fold'] + 1} of "
                f"repeat {row['repeat'] + 1} ({row['error']}: {escape(said)}). The traceback is in "
                f"{escape(str(study))}/*.error.json; the same command tries it again."
            )
    return not told


def _how_fitted(model: Any, n_images: int) -> tuple[str, str]:
    """Say what was done in every fold, and then on all images."""
    if hasattr(model, "best_params_"):
        chosen = ", ".join(
            f"{name.rpartition('__')[2]} = {value}" for name, value in model.best_params_.items()
        )
        return (
            "This is the nested estimate: in every fold the setting was chosen and the model "
            "fitted",
            f"searched and fitted again on all {n_images} images ({chosen})",
        )
    threshold = getattr(model, "threshold_", None)
    above = [] if threshold is None else [f"threshold {threshold:.2f}"]
    if not hasattr(model, "best_epoch_"):
        return (
            "In every fold the model was fitted" + (", and its threshold chosen," if above else ""),
            f"fitted again on all {n_images} images" + f" ({'; '.join(above)})" * bool(above),
        )
    epochs = f"weights of epoch {model.best_epoch_} of {model.n_iter_}"
    return (
        "In every fold the network was trained, and training stopped,",
        f"trained again on all {n_images} images, {_percent(model.validation_fraction)} of them "
        f"held out to stop in time ({'; '.join([epochs, *above])})",
    )


def new_grid(headings: list[str]) -> Table:
    """Empty table without a frame, of narrow columns that are never cut."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for heading in headings:
        left = heading in ("model", "protocol")
        grid.add_column(heading, justify="left" if left else "right", no_wrap=True)
    return grid


def _cells(row: pd.Series, metrics: Iterable[Metric]) -> list[str]:
    return [_cell(row, metric) for metric in metrics]


def _cell(row: pd.Series, metric: Metric) -> str:
    """Mean and spread, as ``.764±.026`` or ``18.2±2.1``; the mean alone where nothing spreads."""
    mean, spread = (_number(row[f"{metric.name}_{what}"], metric) for what in ("mean", "std"))
    return f"{mean}{' ' * 5}" if spread == "nan" else f"{mean}±{spread}"


def _number(value: float, metric: Metric) -> str:
    text = f"{value:.{metric.decimals}f}"
    return text.removeprefix("0")[:4] if metric.decimals == 3 else text


def _seconds(row: pd.Series) -> str:
    taken = row["fit_seconds"] + row["score_seconds"]
    return f"{taken:.1f}" if taken < 100 else f"{taken:.0f}"


def _p_value(value: float) -> str:
    """Of the difference to the best model, which has none itself."""
    if value != value:
        return "best"
    return "<.01" if value < 0.01 else f"{value:.2f}".replace("0.", ".")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
