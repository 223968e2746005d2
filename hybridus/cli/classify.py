"""``hybridus compare --task classify``: from classifiers to tables and a fitted model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridus.cli import recipes
from hybridus.cli.console import user_errors
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
from hybridus.cli.table import print_both, print_table, tell_best, tell_settings

if TYPE_CHECKING:
    import pandas as pd


def classify(dataset: Data, settings: Settings, n_jobs: int, also_reported: bool) -> None:
    """Compare classifiers and leave their table, their folds and the best model behind."""
    parameters = settings.built_with | {"grouped": dataset.groups is not None}
    rows = {name: recipes.RECIPES[name] for name in settings.models}
    built = {name: recipes.build(row, **parameters) for name, row in rows.items()}
    sizes = {name: recipes.input_size(row, settings.image_size) for name, row in rows.items()}
    tell_settings(dataset, built, sizes, settings, also_reported)
    with user_errors():
        digest = _check_before_work(built, dataset, settings)
        settings.out.mkdir(parents=True, exist_ok=True)

    table_file = settings.out / "classification.csv"
    folds_file = settings.out / "classification_folds.csv"
    with calm():
        scores = _score(built, sizes, also_reported, dataset, settings, n_jobs, folds_file)
    honest, reported = _summarize(scores)
    table = _side_by_side(honest, reported)
    inputs = [sizes[name][0] for name in table["model"]]
    write_csv(table.assign(**record(dataset, digest, settings, inputs)), table_file)
    print_table(honest, settings.folds * settings.repeats)
    if reported is not None:
        print_both(honest, reported, settings.split)

    best = honest.index[0]
    if recipes.is_search(built[best]):
        built[best].set_params(n_jobs=n_jobs)
    model_file = settings.out / "models" / f"{best}.joblib"
    fitted = refit(built[best], dataset.images, dataset.target, dataset.groups, model_file)
    tell_best(honest, fitted, len(dataset.target), "accuracy", "accuracy")
    tell_files({"table": table_file, "folds": folds_file, "model": model_file})


def _check_before_work(models: dict[str, Any], dataset: Data, settings: Settings) -> str:
    """Find out now what would end the work in an hour; return the digest of images and labels.

    Folds that cannot be made, weights that cannot be had, files that cannot be decoded.
    """
    from hybridus.protocol.model_selection import repeated_folds

    repeated_folds(dataset.target, dataset.groups, **settings.split)
    for model in models.values():
        recipes.check(model, dataset.images[:1])
    return digest_of(dataset)


def _score(
    models: dict[str, Any],
    sizes: dict[str, tuple[int, int]],
    also_reported: bool,
    dataset: Data,
    settings: Settings,
    n_jobs: int,
    folds_file: Path,
) -> pd.DataFrame:
    """Score model by model and keep what is finished on disk; return a row for each fold."""
    import pandas as pd

    from hybridus.protocol.model_selection import score_folds
    from hybridus.protocol.reported_protocol import score_reported

    X, y = dataset.images, dataset.target
    groups = "independent" if dataset.groups is None else dataset.groups
    split = settings.split
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
    with progress_bar() as progress:
        bar = progress.add_task("", total=len(models) * len(ways))
        for name in models:
            for way, score in ways.items():
                progress.update(bar, description=f"{name} ({way})" if len(ways) > 1 else name)
                scores = score(name)
                scores.insert(1, "protocol", way)
                finished.append(scores)
                write_csv(pd.concat(finished), folds_file)
                progress.advance(bar)
    return pd.concat(finished, ignore_index=True)


def _summarize(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return a row for each model, best honest one first, under each protocol.

    Reported scores are not tested against one another: nobody should choose by them.
    """
    from hybridus.protocol.model_selection import DEFAULT_SCORING, summarize

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
