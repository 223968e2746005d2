"""The command ``hybridus audit``: what is wrong with a folder of images.

Only light modules are imported at the top: help and mistyped options answer at once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hybridus.cli.console import NOTES, SCREEN, tell, user_errors
from hybridus.cli.options import (
    DEFAULT_OUT,
    CropOfDicom,
    FrameOfDicom,
    MasksFolder,
    OutFolder,
    ValueRangeText,
    read_frame,
    read_range,
)

if TYPE_CHECKING:
    from rich.table import Table

    from hybridus.protocol.audit import Audit

_COLOURS = {"alarm": "bold red", "check": "yellow", "note": "dim"}
_SHEET = "audit_pairs.png"


def audit(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of class folders, BUSI with its masks, or images with masks.",
            show_default=False,
        ),
    ],
    masks: MasksFolder = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table (CSV) with columns filename and group: what is known to belong together, "
            "such as patients. It is joined with what is found, and duplicates across it are told.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        bool,
        typer.Option(
            help="Look for suspected labels, with a classifier on features of a network that ships "
            "with hybridus; this takes longest."
        ),
    ] = True,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Similarity from which on two images are duplicates, above 0 and up to 1.",
            show_default="0.65, or more where unrelated images are that alike",
        ),
    ] = None,
    value_range: ValueRangeText = None,
    frame: FrameOfDicom = None,
    crop: CropOfDicom = None,
    out: OutFolder = DEFAULT_OUT,
) -> None:
    """Look for what makes figures wrong: duplicates, contradictions, broken files, shortcuts.

    Finds copies of one scan (saved again, resized, cropped, mirrored, brightened, marked), copies
    whose labels contradict one another, files that cannot be read, blank, tiny and odd images,
    masks that do not fit, uneven classes, suspected labels, and shortcuts: how well size, file,
    brightness, borders, or text and other marks tell the classes by themselves.

    Prints what was found and writes OUT/audit.csv (findings), OUT/audit_pairs.csv and .png (the
    duplicates, to be looked at), OUT/audit_groups.csv, which `hybridus compare --groups` takes,
    and more tables. Works offline; what is found is no error, so the exit code is 0.
    """
    started = time.perf_counter()
    with user_errors():
        from hybridus.cli.results import make_folder
        from hybridus.datasets import read_groups
        from hybridus.datasets.recognition import list_folder
        from hybridus.protocol.audit import audit as look

        declared = None if value_range is None else read_range(value_range)
        of_dicom: Any = {"frame": read_frame(frame), "crop": crop}
        listed = list_folder(data, masks=masks, **of_dicom)
        known = None if groups is None else read_groups(groups, listed.filenames)
        make_folder(out)
        tell(f"data     {escape(str(data))}: {len(listed.filenames)} images")
        with NOTES.status("looking at the images"):  # nothing where there is no terminal
            found = look(
                listed.images,
                listed.target,
                listed.masks,
                groups=known,
                model="bundled" if labels else None,
                threshold=threshold,
                value_range=declared,
                names=listed.filenames,
                class_names=listed.target_names,
            )
    files = found.to_csv(out)
    sheet = found.contact_sheet(out / _SHEET)
    SCREEN.print(_table(found))
    for row in found.findings.itertuples():
        if row.severity == "alarm":
            tell(f"{row.kind}: {row.advice}")
    if found.label_errors is None and labels and listed.target is not None:
        tell("labels   not looked at: a class has less than two scans that can be read")
    written = [*files, *([] if sheet is None else [sheet])]
    tell(f"written  {escape(', '.join(file.name for file in written))} in {escape(str(out))}")
    if len(found.pairs):
        tell(
            f"next     hybridus compare {escape(str(data))} --groups "
            f"{escape(str(out / 'audit_groups.csv'))}"
        )
    tell(f"Finished in {time.perf_counter() - started:.0f} s. Not a medical device.")


def _table(found: Audit) -> Table:
    from rich.table import Table

    title, *_ = found.summary().splitlines()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("", "finding", "what"):
        table.add_column(name, overflow="fold")
    for row in found.findings.itertuples():
        colour = _COLOURS[str(row.severity)]
        table.add_row(f"[{colour}]{row.severity}[/]", str(row.kind), escape(str(row.what)))
    return table
