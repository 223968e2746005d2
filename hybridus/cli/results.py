"""Results: what a comparison leaves on disk, whole or not at all, and how it was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hybridus._version import __version__
from hybridus.cli.console import NOTES, SCREEN, warn
from hybridus.cli.tables import MASK_SIZE
from hybridus.inputs.names import as_text

if TYPE_CHECKING:
    import pandas as pd

    from hybridus.cli.data import Data
    from hybridus.cli.progress import Following
    from hybridus.cli.settings import Settings
    from hybridus.protocol.comparison import Comparison
    from hybridus.protocol.final import FinalModel
    from hybridus.protocol.run import FoldResult
    from hybridus.protocol.schedule import FoldFailure

    Outcome = FoldResult | FoldFailure
    Keep = Callable[[str, Iterable[Outcome]], Iterator[Outcome]]

_RECORDED_PACKAGES = ("scikit-learn", "numpy", "keras", "tensorflow", "openvino")
_MOST_GIB = 24  # of activations, where the disk has room: all views of BUSI take some 13


def make_folder(out: Path) -> None:
    """Make the folder for results; that it cannot be written to is told now.

    Raises
    ------
    OSError
    """
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {out}: cannot be written to; give another folder")


def n_processes(n_jobs: int) -> int:
    """How many processes -1 stands for: one for each core."""
    return n_jobs if n_jobs > 0 else os.cpu_count() or 1


@contextmanager
def keeping(settings: Settings, following: Following) -> Iterator[Keep]:
    """Give a function that passes results on, and has each as a row of a table before the next.

    It takes the name of the protocol and the results. What keeps folds is the study; the table is
    for readers. The screen shows how far they are.
    """
    import pandas as pd

    from hybridus.protocol.schedule import FoldFailure

    rows: list[dict[str, Any]] = []
    order = [(preset.name, way) for way in settings.n_folds for preset in settings.presets]

    def place(row: dict[str, Any]) -> tuple[int, ...]:
        return order.index((row["model"], row["protocol"])), row["repeat"], row["fold"]

    def keep(protocol: str, results: Iterable[Outcome]) -> Iterator[Outcome]:
        following.at(protocol)
        for result in results:
            if isinstance(result, FoldFailure):
                following.failed((result.model, protocol))
            else:
                rows.append({"model": result.model, "protocol": protocol, **result.row()})
                rows.sort(key=place)
                write_csv(pd.DataFrame(rows), settings.folds_file)
                seconds = result.fit_seconds + result.score_seconds
                following.done((result.model, protocol), seconds)
            yield result

    with following:
        try:
            yield keep
        except KeyboardInterrupt:
            of_before = settings.table_file.exists()
            pace = following.pace
            NOTES.print(
                f"{pace.done} of {pace.total} folds are finished"
                + f" and kept in {escape(str(settings.study))}: the same command goes on there"
                * bool(pace.done)
                + f"; {escape(str(settings.table_file))} is of an earlier run" * of_before,
                soft_wrap=True,
            )
            raise


def write_table(
    honest: pd.DataFrame,
    leaky: pd.DataFrame | None,
    dataset: Data,
    digest: str,
    settings: Settings,
) -> None:
    """Write a row for each model, under the leaky protocol below the honest one, best first."""
    import pandas as pd

    ways = {"honest": honest} | ({} if leaky is None else {"leaky": leaky})
    rows = pd.concat(ways, names=["protocol", "model"]).swaplevel()
    scored = [(name, way) for name in honest.index for way, of in ways.items() if name in of.index]
    rows = rows.reindex(scored).reset_index()
    sizes = {preset.name: preset.input_size(settings.image_size)[0] for preset in settings.presets}
    columns = {
        "data": as_text(dataset.name),
        "data_digest": digest,
        "n_images": len(dataset.target),
        "n_groups": None if dataset.groups is None else len(set(dataset.groups)),
        "groups": dataset.grouped_by,
        "folds": settings.folds,
        "repeats": settings.repeats,
        "seed": settings.seed,
        "weights": settings.weights,
        "image_size": rows["model"].map(sizes),
        "command": as_text(shlex.join(["hybridus", *sys.argv[1:]])),
        "python": platform.python_version(),
        "hybridus": __version__,
        **{package: _version(package) for package in _RECORDED_PACKAGES},
    }
    if settings.segments:
        columns["mask_size"] = MASK_SIZE
    write_csv(rows.assign(**columns), settings.table_file)


def write_samples(compared: Comparison, dataset: Data, settings: Settings) -> None:
    """Write what each model said of each image while it was not trained on it."""
    rows = compared.samples
    if all(isinstance(image, str | os.PathLike) for image in dataset.images):
        files = [as_text(os.fspath(dataset.images[position])) for position in rows["sample"]]
        rows.insert(3, "filename", files)
    names = dict(enumerate(map(as_text, dataset.target_names)))
    for column in rows.columns.intersection(["truth", "predicted"]):
        rows[column] = rows[column].map(names)
    scores = {f"score_{label}": f"score_{name}" for label, name in names.items()}
    write_csv(rows.rename(columns=scores), settings.samples_file)


def _version(package: str) -> str | None:
    """Version of a package, None where it is absent: each of the engines may be."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def calm() -> Iterator[None]:
    """Fit with one thread in linear algebra, and without a warning for each head and fold.

    Heads on hundreds of rows gain nothing from such threads; where other work ran beside them, two
    took thirty times as long as one. Networks have threads of their own. A head that stops before
    it has converged is scored as it is; nobody can turn its iterations up from here. A model that
    fails is told of.
    """
    from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("default", FitFailedWarning)
        yield


@contextmanager
def room_for_activations(n_jobs: int) -> Iterator[None]:
    """Let activations take up to half of the free disk, unless the user has said how much.

    The default of 4 GiB is less than the views of BUSI that a decoder is trained on: its encoder
    would run in every epoch. They go with the process, whatever ends it.
    """
    from hybridus._environment import cache_folder

    if "HYBRIDUS_ACTIVATION_GIB" in os.environ:
        yield
        return
    folder = cache_folder()
    folder = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(folder).free / 2**30 / n_processes(n_jobs)
    os.environ["HYBRIDUS_ACTIVATION_GIB"] = str(max(4, min(_MOST_GIB, int(free / 2))))
    try:
        yield
    finally:
        del os.environ["HYBRIDUS_ACTIVATION_GIB"]


def draw_masks(result: FoldResult, dataset: Data, settings: Settings) -> None:
    """Draw the best, median and worst masks of a model's first fold over their scans."""
    from matplotlib.figure import Figure

    from hybridus.inputs.files import replacing
    from hybridus.inputs.images import as_images
    from hybridus.report import SegmentationDisplay

    figure = Figure(figsize=(8.6, 6.4))  # without pyplot: no window is ever opened
    figure.suptitle(
        f"{result.model}: {len(result.test)} scans of fold 1 of {settings.folds}, not trained on",
        fontsize="medium",
    )
    SegmentationDisplay.from_predictions(
        as_images(dataset.images[result.test], value_range=settings.value_range),
        None if dataset.masks is None else dataset.masks[result.test],
        result.predictions,
        y=dataset.target[result.test],
        target_names=dataset.target_names,
        figure=figure,
    )
    with replacing(settings.overlay_file(result.model)) as temporary:
        figure.savefig(temporary, dpi=150)


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Replace a table on disk, whole or not at all; names of files need not be text."""
    from hybridus.inputs.files import replacing

    with replacing(file) as temporary:
        table.to_csv(temporary, index=False, errors="backslashreplace")


def save_model(final: FinalModel, data: Data, digest: str, file: Path, **card: Any) -> Path:
    """Write a model with its card; return where it lies.

    One that holds what model files do not, such as an estimator of somebody else, is pickled
    instead, which is told.
    """
    from hybridus.inputs.files import dump_atomically
    from hybridus.persistence.model_file import save

    about = {
        "name": data.name,
        "digest": digest,
        "n_images": len(data.images),
        "n_groups": None if data.groups is None else len(set(data.groups)),
        "groups": data.grouped_by,
    }
    try:
        return save(
            final.estimator, file, card={"data": about, "referral": dict(final.referral), **card}
        )
    except TypeError as error:
        pickled = dump_atomically(final.estimator, file.with_suffix(".joblib"))
        warn(f"{error}: {pickled} is written so")
        return pickled


def scores_for_card(compared: Comparison, model: str) -> dict[str, dict[str, float]]:
    """Scores of a model out of folds, with their intervals."""
    rows = compared.intervals.loc[model].drop(columns="over")
    return {
        str(metric): {
            str(name): round(float(value), 4) for name, value in row.items() if value == value
        }
        for metric, row in rows.iterrows()
    }


def tell_files(files: dict[str, Path]) -> None:
    """Name the files that were written, one a line, uncut."""
    for what, file in files.items():
        SCREEN.print(f"{what:8} {escape(str(file))}", soft_wrap=True)
