"""``hybridus compare``: its options, and the way from them to tables and a fitted model."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hybridus.cli import recipes
from hybridus.cli.console import NOTES, SCREEN, tell, user_errors
from hybridus.cli.data import Data, read_folder, read_phantoms
from hybridus.cli.table import print_both, print_table, tell_best, tell_settings

if TYPE_CHECKING:
    import pandas as pd

PHANTOM_INPUT = 96  # pixels; the encoders' own 224 would take five times as long
_RECORDED_PACKAGES = ("hybridus", "scikit-learn", "numpy", "keras", "tensorflow", "openvino")


class Task(StrEnum):
    """What the models are compared at."""

    classify = "classify"


class Protocol(StrEnum):
    """How models are scored."""

    honest = "honest"
    report = "report"


_RESULT_NAMES = {Task.classify: "classification"}


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
            help="Models by name, by commas or repeated.",
            show_default="without DATA those of mobilenet_v2_0.35, else all others but the slow",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often folds are drawn anew.")] = 1,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="`report` scores each model a second time, as much published work does: images "
            "are augmented first and split at random afterwards, once for each of --repeats. It "
            "shows how inflated such figures are."
        ),
    ] = Protocol.honest,
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
            help="Height and width of the network input in pixels. Fine-tuning takes three times "
            "as long at 224 as at 128: with the first layers trained, an hour or more on two "
            "cores.",
            show_default=f"each encoder's own, {recipes.FINE_TUNING['image_size']} for fine-tuned "
            f"ones; {PHANTOM_INPUT} without DATA",
        ),
    ] = None,
    n_jobs: Annotated[
        int,
        typer.Option(
            help="Outer folds fitted at the same time, each in a process with its own networks; "
            "pays for slow heads, since a network uses all cores by itself. -1: one for each core. "
            "With `--protocol report`, random splits likewise."
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
            "network is fine-tuned: its frozen layers run in every epoch."
        ),
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("hybridus-results"),
) -> None:
    """Compare frozen deep features with classical heads, and fine-tuned networks.

    All are scored on the same outer folds. A hybrid is a grid search over its head on inner folds,
    fitted anew inside every outer fold; a fine-tuned network has fixed settings and holds out part
    of what it is fitted on, to stop in time. Prints a table and writes OUT/classification.csv,
    OUT/classification_folds.csv and the best model, refitted on all images, as
    OUT/models/NAME.joblib. For research; not a medical device.

    Hybrids: mobilenet_v2-svm, mobilenet_v2-mlp, vgg16-svm, vgg16-mlp, fusion-logreg (several
    layers of three networks), mobilenet_v2_0.35-svm, mobilenet_v2_0.35-mlp,
    mobilenet_v2_0.35-logreg.

    Fine-tuned: mobilenet_v2-softmax-last and mobilenet_v2_0.35-softmax-last, of which the last 20
    layers are trained, and, slow, with minutes for each fold, mobilenet_v2-softmax and
    vgg16-softmax, of which the first 10 are.
    """
    started = time.perf_counter()
    with user_errors():
        chosen = recipes.choose(
            models or (recipes.OFFLINE_MODELS if data is None else recipes.DEFAULT_MODELS)
        )
        if n_jobs == 0:
            raise ValueError("--n-jobs 0: expected 1 or more processes, or -1 for all cores")
        if data is None and (curation or groups):
            raise ValueError("--curation and --groups describe real images: give their folder DATA")
        dataset = read_phantoms(seed) if data is None else read_folder(data, curation, groups)
    weights = weights or ("bundled" if data is None else "imagenet")
    image_size = image_size or (PHANTOM_INPUT if data is None else None)
    split: dict[str, Any] = {"n_splits": folds, "n_repeats": repeats, "random_state": seed}
    parameters: dict[str, Any] = {"weights": weights, "image_size": image_size, "cache": cache}
    parameters |= {"seed": seed, "grouped": dataset.groups is not None}
    rows = {name: recipes.RECIPES[name] for name in chosen}
    built = {name: recipes.build(row, **parameters) for name, row in rows.items()}
    sizes = {name: recipes.input_size(row, image_size) for name, row in rows.items()}
    also_reported = protocol is Protocol.report
    tell_settings(dataset, built, sizes, split, weights, image_size, also_reported)
    with user_errors():
        digest = _check_before_work(built, dataset, split)
        out.mkdir(parents=True, exist_ok=True)

    table_file = out / f"{_RESULT_NAMES[task]}.csv"
    folds_file = out / f"{_RESULT_NAMES[task]}_folds.csv"
    with _calm():
        scores = _score(built, sizes, also_reported, dataset, split, n_jobs, folds_file)
    honest, reported = _summarize(scores)
    table = _side_by_side(honest, reported)
    settings = {
        "data": dataset.name,
        "data_digest": digest,
        "n_images": len(dataset.target),
        "n_groups": None if dataset.groups is None else len(set(dataset.groups)),
        "folds": folds,
        "repeats": repeats,
        "seed": seed,
        "weights": weights,
        "image_size": [sizes[name][0] for name in table["model"]],
        "command": shlex.join(["hybridus", *sys.argv[1:]]),
        "python": platform.python_version(),
        **{package: version(package) for package in _RECORDED_PACKAGES},
    }
    _write_csv(table.assign(**settings), table_file)
    print_table(honest, folds * repeats)
    if reported is not None:
        print_both(honest, reported, split)

    best = honest.index[0]
    model_file = out / "models" / f"{best}.joblib"
    with _calm():
        fitted = _refit(built[best], n_jobs, dataset, model_file)
    tell_best(honest, fitted, len(dataset.target))
    for what, file in {"table": table_file, "folds": folds_file, "model": model_file}.items():
        SCREEN.print(f"{what:8} {escape(str(file))}", soft_wrap=True)
    tell(f"Finished in {time.perf_counter() - started:.0f} s. Not a medical device.")


def _check_before_work(models: dict[str, Any], dataset: Data, split: dict[str, Any]) -> str:
    """Find out now what would end the work in an hour; return the digest of images and labels.

    Folds that cannot be made, weights that cannot be had, files that cannot be decoded.
    """
    from hybridus._environment import n_threads
    from hybridus.images import as_images, content_key
    from hybridus.model_selection import repeated_folds
    from hybridus.resizing import map_ahead

    repeated_folds(dataset.target, dataset.groups, **split)
    for model in models.values():
        recipes.check(model, dataset.images[:1])
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
    models: dict[str, Any],
    sizes: dict[str, tuple[int, int]],
    also_reported: bool,
    dataset: Data,
    split: dict[str, Any],
    n_jobs: int,
    folds_file: Path,
) -> pd.DataFrame:
    """Score model by model and keep what is finished on disk; return a row for each fold."""
    import pandas as pd
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    from hybridus.model_selection import score_folds
    from hybridus.reported_protocol import score_reported

    X, y = dataset.images, dataset.target
    groups = "independent" if dataset.groups is None else dataset.groups
    random_splits = {key: split[key] for key in ("n_repeats", "random_state")}

    # Parallel over the outer folds and not inside the searches: few large pieces of work, and each
    # process starts its networks once.
    def honest(name: str) -> pd.DataFrame:
        return score_folds({name: models[name]}, X, y, groups=groups, n_jobs=n_jobs, **split)

    def report(name: str) -> pd.DataFrame:
        return score_reported(
            {name: models[name]}, X, y, image_size=sizes[name], n_jobs=n_jobs, **random_splits
        )

    ways = {"honest": honest} | ({"report": report} if also_reported else {})
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
        bar = progress.add_task("", total=len(models) * len(ways))
        for name in models:
            for way, score in ways.items():
                progress.update(bar, description=f"{name} ({way})" if len(ways) > 1 else name)
                scores = score(name)
                scores.insert(1, "protocol", way)
                finished.append(scores)
                _write_csv(pd.concat(finished), folds_file)
                progress.advance(bar)
    return pd.concat(finished, ignore_index=True)


def _summarize(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return a row for each model, best honest one first, under each protocol.

    Reported scores are not tested against one another: nobody should choose by them.
    """
    from hybridus.model_selection import DEFAULT_SCORING, summarize

    by_protocol = {name: rows.drop(columns="protocol") for name, rows in scores.groupby("protocol")}
    honest = summarize(by_protocol["honest"])
    if "report" not in by_protocol:
        return honest, None
    by_model = by_protocol["report"].groupby("model")
    reported = by_model[list(DEFAULT_SCORING)].agg(["mean", "std"])
    reported.columns = ["_".join(pair) for pair in reported.columns]
    reported = reported.join(by_model[["fit_seconds", "score_seconds"]].mean())
    return honest, reported.loc[honest.index]


def _side_by_side(honest: pd.DataFrame, reported: pd.DataFrame | None) -> pd.DataFrame:
    """Put the rows of a model under the two protocols below one another."""
    import pandas as pd

    tables = {"honest": honest} | ({} if reported is None else {"report": reported})
    rows = pd.concat(tables, names=["protocol"]).swaplevel()
    return rows.reindex([(name, way) for name in honest.index for way in tables]).reset_index()


def _write_csv(table: pd.DataFrame, file: Path) -> None:
    from hybridus.persistence import replacing

    with replacing(file) as temporary:
        table.to_csv(temporary, index=False)


def _refit(model: Any, n_jobs: int, dataset: Data, file: Path) -> Any:
    """Fit a model on all images, searching where it is a search, save what predicts; return it."""
    from hybridus.model_selection import fit_with_groups
    from hybridus.persistence import dump_atomically

    searched = recipes.is_search(model)
    if searched:
        model.set_params(n_jobs=n_jobs)
    fit_with_groups(model, dataset.images, dataset.target, dataset.groups)
    dump_atomically(model.best_estimator_ if searched else model, file)
    return model
