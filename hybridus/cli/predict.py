"""The command ``hybridus predict``: what a model says of images, in a table and as masks.

Only light modules are imported at the top: help and mistyped options answer at once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hybridus.cli.answers import Classes, Masks, why_unreadable
from hybridus.cli.console import tell, user_errors, warn
from hybridus.cli.images import find_files, names_of
from hybridus.cli.options import CropOfDicom, FrameOfDicom, read_frame
from hybridus.cli.written import table_whole, write_unreadable

if TYPE_CHECKING:
    from hybridus.persistence.card import ModelCard

_TOGETHER = {"classify": 512, "segment": 32}


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="File of `hybridus train` or `hybridus compare` (NAME.hybridus).",
            show_default=False,
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Files, folders, and patterns in quotes such as 'scans/**/*.jpg'.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the answers.")] = Path(
        "hybridus-predictions"
    ),
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Images that are held in memory together.",
            show_default="512; 32 for masks",
        ),
    ] = None,
    frame: FrameOfDicom = None,
    crop: CropOfDicom = None,
    overlays: Annotated[
        bool, typer.Option(help="Draw outlines of predicted masks over the images.")
    ] = True,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="Open a file of joblib's, which runs code from it: only if you trust its maker.",
        ),
    ] = False,
) -> None:
    """Say what a model sees in images: OUT/predictions.csv, and masks of segmenters as PNG.

    For classifiers a row has the label, a probability for each class, `margin`, the difference of
    the two largest, and `refer`, whether a person should look, since the margin is small. For
    segmenters OUT/masks holds masks (0 and 255) at the size of the images, OUT/overlays their
    outlines; a row has the area of the lesion in pixels and its share of the image.

    Files that cannot be read are listed in OUT/unreadable.csv, and the exit code is then 1.
    """
    from hybridus.cli.progress import counting

    started = time.perf_counter()
    with user_errors():
        files, n_masks = find_files(images)
        estimator, card = _open(model, trust_pickle=trust_pickle)
        if card.task not in _TOGETHER:
            raise ValueError(f"{model}: a model to {card.task}, which gives no answers")
        paths = _paths(files, frame, crop)
        out.mkdir(parents=True, exist_ok=True)
    passed_over = f" ({n_masks} masks are passed over)" * bool(n_masks)
    tell(f"model    {escape(str(model))}: {card.model[:60]}")
    tell(f"images   {len(files)}{passed_over}")
    unreadable: list[tuple[str, str]] = []
    size = batch or _TOGETHER[card.task]
    answer: Classes | Masks = (
        Masks(estimator, out, names_of(files), overlays)
        if card.task == "segment"
        else Classes(estimator, card)
    )
    n_referred = 0
    with (
        table_whole(out / "predictions.csv", answer.columns) as table,
        counting(len(files)) as count,
    ):
        for start in range(0, len(files), size):
            places = range(start, min(len(files), start + size))
            rows, lost = _answered(answer, [paths[i] for i in places], list(places))
            for place, row in rows:
                table.writerow([files[place], *row])
                n_referred += answer.refers and row[-1] == "yes"
            unreadable += [(files[place], why) for place, why in lost]
            count(len(places))
    write_unreadable(out / "unreadable.csv", unreadable)
    n_read = len(files) - len(unreadable)
    rate = n_read / (time.perf_counter() - started)
    tell(f"written  {escape(str(out / 'predictions.csv'))}: {n_read} images, {rate:.0f} a second")
    if answer.refers:
        tell(f"refer    {n_referred} of {n_read} to a person: the model is least sure of them")
    for _, why in unreadable[:5]:
        warn(why)
    tell("Not a medical device.")
    if unreadable:
        warn(f"{len(unreadable)} of {len(files)} files could not be read: {out / 'unreadable.csv'}")
        raise typer.Exit(1)


def _open(file: Path, *, trust_pickle: bool) -> tuple[Any, ModelCard]:
    from hybridus.persistence.card import describe
    from hybridus.persistence.model_file import load, read_card

    if not trust_pickle:
        return load(file), read_card(file)
    import joblib

    estimator = joblib.load(file)
    return estimator, describe(estimator, None, included=False)


def _paths(files: list[str], frame: str | None, crop: str | None) -> list[str]:
    from hybridus.inputs.dicom_paths import dicom_paths

    of_dicom: Any = {"frame": read_frame(frame), "crop": crop}
    return dicom_paths(files, **of_dicom)


def _answered(
    answer: Classes | Masks, paths: list[str], places: list[int]
) -> tuple[list[tuple[int, list[Any]]], list[tuple[int, str]]]:
    """Answer to some images, and say which of them cannot be read.

    They are looked at one by one only where something is wrong with any.
    """
    try:
        return list(zip(places, answer.rows(paths, places), strict=True)), []
    except ValueError:
        lost = {}
        for path, place in zip(paths, places, strict=True):
            if why := why_unreadable(answer.estimator, path):
                lost[place] = why
        if not lost:
            raise
    kept = [(path, place) for path, place in zip(paths, places, strict=True) if place not in lost]
    if not kept:
        return [], list(lost.items())
    left = [path for path, _ in kept], [place for _, place in kept]
    return list(zip(left[1], answer.rows(*left), strict=True)), list(lost.items())
