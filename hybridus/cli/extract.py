"""The command ``hybridus extract``: features of any number of images as a Parquet data set.

Only light modules are imported at the top: help and mistyped options answer at once.
"""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from hybridus.cli.console import tell, user_errors, warn
from hybridus.cli.options import (
    CropOfDicom,
    FrameOfDicom,
    ValueRangeText,
    read_frame,
    read_range,
)
from hybridus.cli.written import write_unreadable

_ENCODER = "Encoder"
_RUNNING = "Running, and what is left behind"


class HowResized(StrEnum):
    """What becomes of an image whose sides have another ratio than the network's."""

    stretch = "stretch"
    pad = "pad"


class Precision(StrEnum):
    """Numbers that the network computes in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def extract(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="A folder, whose class folders give the column `label`; a list, as .csv with a "
            "column `path` or `filename` (others are kept) or as .txt; or files, folders and "
            "patterns in quotes such as 'scans/**/*.jpg'.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The data set, a folder of parts.")
    ] = Path("rows.parquet"),
    encoder: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="`hybridus encoders` lists them; `texture` measures without a network.",
            rich_help_panel=_ENCODER,
        ),
    ] = "mobilenet_v2",
    weights: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="`imagenet`, `bundled`, `random` or a file.",
            rich_help_panel=_ENCODER,
        ),
    ] = "imagenet",
    layers: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="`multi`, `last`, or names of layers, by commas.",
            rich_help_panel=_ENCODER,
        ),
    ] = "multi",
    pooling: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="`avg`, `max`, `avgmax`, `gem`, `std`, `gram`, `pyramid`, or several, by commas.",
            rich_help_panel=_ENCODER,
        ),
    ] = "avg",
    image_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            metavar="PIXELS",
            help="Height and width of what the network looks at.",
            show_default="the encoder's own",
            rich_help_panel=_ENCODER,
        ),
    ] = None,
    resize: Annotated[
        HowResized,
        typer.Option(help="`pad` keeps the ratio of sides.", rich_help_panel=_ENCODER),
    ] = HowResized.stretch,
    precision: Annotated[
        Precision,
        typer.Option(help="Numbers that the network computes in.", rich_help_panel=_ENCODER),
    ] = Precision.float32,
    value_range: ValueRangeText = None,
    frame: FrameOfDicom = None,
    crop: CropOfDicom = None,
    part_size: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Images in a part of the data set.", rich_help_panel=_RUNNING
        ),
    ] = 4096,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write the data set anew, where FOLDER holds one.",
            rich_help_panel=_RUNNING,
        ),
    ] = False,
    n_jobs: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Parts that are made at the same time, each in a process; -1: one for each core. "
            "Pays where decoding is slow: a network uses all cores by itself.",
            rich_help_panel=_RUNNING,
        ),
    ] = 1,
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache",
            help="Keep rows in the store too, for `compare` and `train`; or do not even look for "
            "rows there.",
            show_default="use the rows that are there, keep no others",
            rich_help_panel=_RUNNING,
        ),
    ] = None,
) -> None:
    """Write the features of images as a Parquet data set, for pandas, Polars, Dask and DuckDB.

    A row has the file, the key of its pixels, the digest of what made the features, the label where
    it is known, and one float32 column for each feature. Memory does not grow with the number of
    images. After an interruption the same command goes on where it was; with other settings it
    needs --overwrite.

    Files that cannot be read are listed beside FOLDER, and the exit code is then 1.
    """
    from hybridus.cli.progress import counting

    started = time.perf_counter()
    with user_errors():
        from hybridus.cli.listed import list_images
        from hybridus.extraction.parts import check_pyarrow
        from hybridus.extraction.recipe import digest_of_rows, fitted_on

        try:
            check_pyarrow()
        except ImportError as error:
            raise ValueError(str(error)) from error
        if n_jobs == 0 or n_jobs < -1:
            raise ValueError(
                f"--n-jobs {n_jobs}: expected 1 or more processes, or -1 for all cores"
            )
        declared = None if value_range is None else read_range(value_range)
        listed = list_images(images, frame=read_frame(frame), crop=crop)
        transformer = _transformer(
            encoder,
            cache,
            value_range=declared,
            weights=weights,
            layers=_several(layers, ("multi", "last")),
            pooling=_several(pooling, ()),
            image_size=image_size,
            resize=str(resize),
            precision=str(precision),
        )
        fitted = fitted_on(transformer, listed.files)
        digest = digest_of_rows(fitted)
    tell(f"encoder  {escape(encoder)}: {digest[:12]}")
    tell(f"images   {len(listed.files)}{_told_labels(listed.labels)}")
    for note in listed.notes:
        tell(f"         {escape(note)}")
    with counting(len(listed.files)) as count:
        done = _extract(
            listed, out, fitted, count, part_size=part_size, overwrite=overwrite, n_jobs=n_jobs
        )
    write_unreadable(out.with_suffix(".unreadable.csv"), list(done.unreadable))
    rate = done.n_new / (time.perf_counter() - started)
    kept = done.n_rows - done.n_new
    before = f" ({kept} were there)" * bool(kept)
    tell(
        f"written  {escape(str(out))}: {done.n_rows} rows of {done.n_features} features{before}, "
        f"{rate:.0f} a second"
    )
    for _, why in done.unreadable[:5]:
        warn(why)
    if done.unreadable:
        warn(
            f"{len(done.unreadable)} of {len(listed.files)} files could not be read: "
            f"{out.with_suffix('.unreadable.csv')}"
        )
        raise typer.Exit(1)


def _extract(listed: Any, out: Path, fitted: Any, count: Any, **settings: Any) -> Any:
    """Extract with a listener; what the user asked for wrongly ends the command with one line."""
    import warnings

    from hybridus.extraction.extract import extract as write
    from hybridus.inputs.heard import heard_by

    counted = 0

    def hear(what: str, done: int, of: int) -> None:
        nonlocal counted
        if what == "file":
            count(done - counted)
            counted = done

    with user_errors(), heard_by(hear), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* could not be read and have no row")  # told below
        return write(
            listed.files,
            out,
            extractor=fitted,
            labels=listed.labels,
            columns=listed.columns,
            **settings,
        )


def _transformer(name: str, cache: bool | None, *, value_range: Any, **settings: Any) -> Any:
    from hybridus import DeepFeatureExtractor, FeatureStore, TextureFeatures

    kept: Any = FeatureStore(read_only=True) if cache is None else cache
    if name != "texture":
        return DeepFeatureExtractor(name, cache=kept, value_range=value_range, **settings)
    plain = {
        "weights": "imagenet",
        "layers": "multi",
        "pooling": "avg",
        "image_size": None,
        "resize": "stretch",
        "precision": "float32",
    }
    idle = [f"--{key.replace('_', '-')}" for key, value in settings.items() if value != plain[key]]
    if idle:
        raise ValueError(f"{', '.join(idle)}: for encoders, and --encoder texture is none")
    return TextureFeatures(cache=kept, value_range=value_range)


def _several(text: str, words: tuple[str, ...]) -> str | list[str]:
    """Names by commas as a list; one of `words`, or a single name where there are none, as is."""
    names = [name.strip() for name in text.split(",")]
    if text in words or (not words and len(names) == 1):
        return text
    return names


def _told_labels(labels: list[str] | None) -> str:
    if labels is None:
        return ""
    names = list(dict.fromkeys(labels))
    more = f" and {len(names) - 5} more" * (len(names) > 5)
    return f"; label is one of {escape(', '.join(names[:5]))}{more}"
