"""What every comparison does alike, whatever its task: settings, files and the fitted model."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hybridus.cli.console import NOTES, SCREEN

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

    from hybridus.cli.data import Data

_RECORDED_PACKAGES = ("hybridus", "scikit-learn", "numpy", "keras", "tensorflow", "openvino")


@dataclass(frozen=True)
class Settings:
    """What the user asked for, and every task obeys."""

    models: list[str]
    folds: int
    repeats: int
    seed: int
    weights: str
    image_size: int | None
    cache: bool
    out: Path

    @property
    def split(self) -> dict[str, Any]:
        """How folds are drawn, as the library takes it."""
        return {"n_splits": self.folds, "n_repeats": self.repeats, "random_state": self.seed}

    @property
    def built_with(self) -> dict[str, Any]:
        """What models are built with beside their recipe."""
        names = ("weights", "image_size", "cache", "seed")
        return {name: getattr(self, name) for name in names}


def digest_of(dataset: Data, *, with_masks: bool = False) -> str:
    """Digest of images and labels, and of masks; files that cannot be decoded are told now."""
    from hybridus._environment import n_threads
    from hybridus.inputs.images import as_images, content_key
    from hybridus.inputs.masks import as_masks
    from hybridus.inputs.resizing import map_ahead

    images = as_images(dataset.images)
    digest = hashlib.blake2b(dataset.target.astype("<i8").tobytes(), digest_size=16)
    for key in map_ahead(
        lambda index: content_key(images[index]), range(len(images)), n_threads=n_threads()
    ):
        digest.update(key)
    if with_masks:
        for mask in as_masks(dataset.masks):
            digest.update(content_key(mask))
    return digest.hexdigest()


def record(
    dataset: Data, digest: str, settings: Settings, image_sizes: list[int]
) -> dict[str, Any]:
    """Columns that say how a table was made; `image_sizes` are those of its rows."""
    return {
        "data": dataset.name,
        "data_digest": digest,
        "n_images": len(dataset.target),
        "n_groups": None if dataset.groups is None else len(set(dataset.groups)),
        "folds": settings.folds,
        "repeats": settings.repeats,
        "seed": settings.seed,
        "weights": settings.weights,
        "image_size": image_sizes,
        "command": shlex.join(["hybridus", *sys.argv[1:]]),
        "python": platform.python_version(),
        **{package: version(package) for package in _RECORDED_PACKAGES},
    }


@contextmanager
def calm() -> Iterator[None]:
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


def progress_bar() -> Progress:
    """Bar on a terminal, nothing elsewhere."""
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        "{task.description}",
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=NOTES,
        transient=True,
        disable=not NOTES.is_terminal,
    )


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Replace a table on disk, whole or not at all."""
    from hybridus.inputs.files import replacing

    with replacing(file) as temporary:
        table.to_csv(temporary, index=False)


def refit(model: Any, X: Any, y: Any, groups: Any, file: Path) -> Any:
    """Fit a model on all images, searching where it is a search, save what predicts; return it."""
    from hybridus.inputs.files import dump_atomically
    from hybridus.protocol.routing import fit_with_groups

    with calm():
        fit_with_groups(model, X, y, groups)
    dump_atomically(getattr(model, "best_estimator_", model), file)
    return model


def tell_files(files: dict[str, Path]) -> None:
    """Name the files that were written, one a line, uncut."""
    for what, file in files.items():
        SCREEN.print(f"{what:8} {escape(str(file))}", soft_wrap=True)
