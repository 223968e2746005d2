"""``hybridus compare``: which models, how they are searched, and what the reader is told."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hybridus.cli.console import NOTES, SCREEN, tell, user_errors
from hybridus.cli.data import Data, read_folder, read_phantoms

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.model_selection import GridSearchCV

PHANTOM_INPUT = 96  # pixels; the encoders' own 224 would take five times as long
INNER_FOLDS = 3
_RECORDED_PACKAGES = ("hybridus", "scikit-learn", "numpy", "keras", "tensorflow", "openvino")


class Task(StrEnum):
    """What the models are compared at."""

    classify = "classify"


_RESULT_NAMES = {Task.classify: "classification"}


@dataclass(frozen=True)
class Recipe:
    """One row of the comparison: frozen encoders (several are fused), layers tapped, head."""

    encoders: tuple[str, ...]
    head: str
    layers: str = "last"


RECIPES = {
    "mobilenet_v2-svm": Recipe(("mobilenet_v2",), "svm"),
    "mobilenet_v2-mlp": Recipe(("mobilenet_v2",), "mlp"),
    "vgg16-svm": Recipe(("vgg16",), "svm"),
    "vgg16-mlp": Recipe(("vgg16",), "mlp"),
    "fusion-logreg": Recipe(("vgg16", "mobilenet_v2", "resnet50"), "logreg", "multi"),
    "mobilenet_v2_0.35-svm": Recipe(("mobilenet_v2_0.35",), "svm"),
    "mobilenet_v2_0.35-mlp": Recipe(("mobilenet_v2_0.35",), "mlp"),
    "mobilenet_v2_0.35-logreg": Recipe(("mobilenet_v2_0.35",), "logreg", "multi"),
}

# Compared unless models are named: on images those of the reported research and their fusion, on
# phantoms those whose weights ship with hybridus.
DEFAULT_MODELS = [name for name in RECIPES if not name.startswith("mobilenet_v2_0.35")]
OFFLINE_MODELS = [name for name in RECIPES if name.startswith("mobilenet_v2_0.35")]

# What the inner search tries for each head.
GRIDS: dict[str, dict[str, list[float]]] = {
    "svm": {"head__C": [1, 10, 100]},
    "mlp": {"head__alpha": [1e-4, 1e-2, 1]},
    "logreg": {"head__C": [0.001, 0.003, 0.01, 0.1]},
}


def compare(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of class folders, or BUSI with its masks. Without it: simulated phantoms.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[Task, typer.Option(help="What to compare the models at.")] = Task.classify,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Models by name, by commas or repeated, of: {', '.join(RECIPES)}.",
            show_default=f"{', '.join(DEFAULT_MODELS)}; without DATA those of mobilenet_v2_0.35",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often folds are drawn anew.")] = 1,
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
            help="Height and width of the network input in pixels.",
            show_default=f"each encoder's own; {PHANTOM_INPUT} without DATA",
        ),
    ] = None,
    n_jobs: Annotated[
        int,
        typer.Option(
            help="Outer folds fitted at the same time, each in a process with its own networks; "
            "pays for slow heads, since a network uses all cores by itself. -1: one for each core."
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides folds, heads and phantoms.")] = 0,
    cache: Annotated[
        bool,
        typer.Option(
            help="Keep feature rows on disk (`hybridus cache info`), so that each image is encoded "
            "once. They derive from the images."
        ),
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("hybridus-results"),
) -> None:
    """Compare frozen deep features with classical heads by nested cross-validation.

    Each model is a grid search over its head, fitted anew inside every outer fold. Prints a table
    and writes OUT/classification.csv, OUT/classification_folds.csv and the best model, refitted on
    all images, as OUT/models/NAME.joblib. For research; not a medical device.
    """
    started = time.perf_counter()
    with user_errors():
        chosen = _chosen_models(models or (OFFLINE_MODELS if data is None else DEFAULT_MODELS))
        if n_jobs == 0:
            raise ValueError("--n-jobs 0: expected 1 or more processes, or -1 for all cores")
        if data is None and (curation or groups):
            raise ValueError("--curation and --groups describe real images: give their folder DATA")
        dataset = read_phantoms(seed) if data is None else read_folder(data, curation, groups)
    weights = weights or ("bundled" if data is None else "imagenet")
    image_size = image_size or (PHANTOM_INPUT if data is None else None)
    split: dict[str, Any] = {"n_splits": folds, "n_repeats": repeats, "random_state": seed}
    extractor = {"weights": weights, "image_size": image_size, "cache": cache}
    searches = {name: _search(RECIPES[name], dataset, extractor, seed) for name in chosen}
    _tell_settings(dataset, len(chosen), split, weights, image_size)
    with user_errors():
        digest = _check_before_work(searches, dataset, split)
        out.mkdir(parents=True, exist_ok=True)

    table_file = out / f"{_RESULT_NAMES[task]}.csv"
    folds_file = out / f"{_RESULT_NAMES[task]}_folds.csv"
    with _calm():
        table = _score(searches, dataset, split, n_jobs, folds_file)
    settings = {
        "data": dataset.name,
        "data_digest": digest,
        "n_images": len(dataset.target),
        "n_groups": None if dataset.groups is None else len(set(dataset.groups)),
        "folds": folds,
        "repeats": repeats,
        "seed": seed,
        "weights": weights,
        "image_size": image_size,
        "command": shlex.join(["hybridus", *sys.argv[1:]]),
        "python": platform.python_version(),
        **{package: version(package) for package in _RECORDED_PACKAGES},
    }
    _write_csv(table.reset_index().assign(**settings), table_file)
    _print_table(table, folds * repeats)

    model_file = out / "models" / f"{table.index[0]}.joblib"
    with _calm():
        params = _refit(searches[table.index[0]].set_params(n_jobs=n_jobs), dataset, model_file)
    _tell_best(table, params, len(dataset.target))
    for what, file in {"table": table_file, "folds": folds_file, "model": model_file}.items():
        SCREEN.print(f"{what:8} {escape(str(file))}", soft_wrap=True)
    tell(f"Finished in {time.perf_counter() - started:.0f} s. Not a medical device.")


def _chosen_models(given: list[str]) -> list[str]:
    """Split at commas, drop repetitions, check the names."""
    names = [name.strip() for text in given for name in text.split(",")]
    chosen = list(dict.fromkeys(name for name in names if name))
    unknown = [name for name in chosen if name not in RECIPES]
    if unknown or not chosen:
        raise ValueError(
            f"--models {', '.join(unknown) or repr('')}: no such model; choose of "
            f"{', '.join(RECIPES)}"
        )
    return chosen


def _search(recipe: Recipe, dataset: Data, extractor: dict[str, Any], seed: int) -> GridSearchCV:
    """Build the grid search of one recipe; its inner folds keep the groups whole too."""
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold

    from hybridus.hybrid import make_hybrid_classifier

    pipeline = make_hybrid_classifier(
        recipe.encoders[0] if len(recipe.encoders) == 1 else list(recipe.encoders),
        recipe.head,
        layers=recipe.layers,
        random_state=seed,
        **extractor,
    )
    splitter = StratifiedKFold if dataset.groups is None else StratifiedGroupKFold
    inner = splitter(INNER_FOLDS, shuffle=True, random_state=seed)
    return GridSearchCV(pipeline, GRIDS[recipe.head], cv=inner)


def _check_before_work(
    searches: dict[str, GridSearchCV], dataset: Data, split: dict[str, Any]
) -> str:
    """Find out now what would end the work in an hour; return the digest of images and labels.

    Folds that cannot be made, weights that cannot be had, files that cannot be decoded.
    """
    from sklearn.base import clone

    from hybridus._environment import n_threads
    from hybridus.images import as_images, content_key
    from hybridus.model_selection import repeated_folds
    from hybridus.resizing import map_ahead

    repeated_folds(dataset.target, dataset.groups, **split)
    for search in searches.values():
        clone(search.estimator.steps[0][1]).fit(dataset.images[:1])
    images = as_images(dataset.images)
    digest = hashlib.blake2b(dataset.target.astype("<i8").tobytes(), digest_size=16)
    for key in map_ahead(
        lambda index: content_key(images[index]), range(len(images)), n_threads=n_threads()
    ):
        digest.update(key)
    return digest.hexdigest()


@contextmanager
def _calm() -> Iterator[None]:
    """Fit with one thread in linear algebra, and without a warning for each head and fold.

    Heads on hundreds of rows gain nothing from such threads; where other work ran beside them, two
    took thirty times as long as one. Networks have threads of their own. A head that stops before
    it has converged is scored as it is; nobody can turn its iterations up from here.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _score(
    searches: dict[str, GridSearchCV],
    dataset: Data,
    split: dict[str, Any],
    n_jobs: int,
    folds_file: Path,
) -> pd.DataFrame:
    """Score model by model and keep what is finished on disk; return the table, best first."""
    import pandas as pd
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    from hybridus.model_selection import score_folds, summarize

    finished: list[pd.DataFrame] = []
    with Progress(
        SpinnerColumn(),
        "{task.description}",
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=NOTES,
        transient=True,
        disable=not NOTES.is_terminal,
    ) as progress:
        bar = progress.add_task("", total=len(searches))
        for name, search in searches.items():
            progress.update(bar, description=name)
            # Parallel over the outer folds and not inside the searches: few large pieces of work,
            # and each process starts its networks once.
            scores = score_folds(
                {name: search},
                dataset.images,
                dataset.target,
                groups="independent" if dataset.groups is None else dataset.groups,
                n_jobs=n_jobs,
                **split,
            )
            finished.append(scores)
            _write_csv(pd.concat(finished), folds_file)
            progress.advance(bar)
    return summarize(pd.concat(finished, ignore_index=True))


def _write_csv(table: pd.DataFrame, file: Path) -> None:
    from hybridus.persistence import replacing

    with replacing(file) as temporary:
        table.to_csv(temporary, index=False)


def _refit(search: GridSearchCV, dataset: Data, file: Path) -> dict[str, Any]:
    """Search and fit on all images, save the pipeline and return what was chosen."""
    from hybridus.model_selection import fit_with_groups
    from hybridus.persistence import dump_atomically

    fit_with_groups(search, dataset.images, dataset.target, dataset.groups)
    dump_atomically(search.best_estimator_, file)
    return search.best_params_


def _tell_settings(
    dataset: Data, n_models: int, split: dict[str, Any], weights: str, image_size: int | None
) -> None:
    counts = ", ".join(
        f"{name} ({label}) {int((dataset.target == label).sum())}"
        for label, name in enumerate(dataset.target_names)
    )
    tell(f"data     {escape(dataset.name)}: {len(dataset.target)} images; {escape(counts)}")
    for note in dataset.notes:
        tell(f"         {note}")
    if dataset.groups is not None:
        tell(f"groups   {len(set(dataset.groups))}, each on one side of every split")
    tell(
        f"models   {n_models}, each searched on {INNER_FOLDS} inner folds in each of "
        f"{split['n_splits']} x {split['n_repeats']} outer folds"
    )
    size = "" if image_size is None else f"; network input {image_size} x {image_size} pixels"
    untrained = ": untrained features, so expect low scores" if weights == "random" else ""
    tell(f"weights  {escape(weights)}{untrained}{size}")


def _print_table(table: pd.DataFrame, n_folds: int) -> None:
    from rich import box
    from rich.table import Table

    headings = {
        "accuracy": "accuracy",
        "f1_macro": "macro-F1",
        "balanced_accuracy": "bal. acc.",
        "macro_ovr_auc": "macro AUC",
    }
    grid = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    grid.add_column("model", no_wrap=True)
    for heading in [*headings.values(), "s/fold", "p"]:
        grid.add_column(heading, justify="right", no_wrap=True)
    for name, row in table.iterrows():
        scores = [_mean_and_spread(row, metric) for metric in headings]
        seconds = f"{row['fit_seconds'] + row['score_seconds']:.1f}"
        p_value = "<.01" if row["p_value"] < 0.01 else f"{row['p_value']:.2f}".replace("0.", ".")
        grid.add_row(str(name), *scores, seconds, "best" if name == table.index[0] else p_value)
    SCREEN.print(grid)
    SCREEN.print()
    tell(
        f"Mean ± standard deviation over {n_folds} folds; macro AUC: one class against the rest; "
        "s/fold: fit and score; p: corrected resampled t-test of the accuracy against the best."
    )


def _mean_and_spread(row: pd.Series, metric: str) -> str:
    return f"{row[f'{metric}_mean']:.3f}±{row[f'{metric}_std']:.3f}".replace("0.", ".")


def _tell_best(table: pd.DataFrame, params: dict[str, Any], n_images: int) -> None:
    chosen = ", ".join(f"{name.rpartition('__')[2]} = {value}" for name, value in params.items())
    picked = f" It is the best of {len(table)}, and so slightly optimistic." * (len(table) > 1)
    tell(
        f"\n[bold]{table.index[0]}[/]: accuracy {_mean_and_spread(table.iloc[0], 'accuracy')}. "
        "This is the nested estimate: in every fold the setting was chosen and the model fitted "
        f"without the images that it was tested on.{picked} The saved model was searched and "
        f"fitted again on all {n_images} images ({chosen})."
    )
