"""Options that several commands take: what users type, and what it means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_OUT = Path("hybridus-results")
MasksFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Masks of lesions, each named after its image in DATA, such as scan_7.png or "
        "scan_7_mask.png.",
        show_default=False,
        rich_help_panel="Data",
    ),
]
ValueRangeText = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="Values of black and white, such as 0,4095 for 12 bits in 16-bit files.",
        show_default="those of each file's type",
        rich_help_panel="Data",
    ),
]
FrameOfDicom = Annotated[
    str | None,
    typer.Option(
        metavar="WHICH",
        help="Frame of DICOM files that hold several: `first`, `middle` or its number, from 1.",
        show_default=False,
        rich_help_panel="Data",
    ),
]
CropOfDicom = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="`ultrasound` keeps the region of DICOM files that holds tissue, without the text "
        "around it.",
        show_default=False,
        rich_help_panel="Data",
    ),
]
WeightsOf = Annotated[
    str | None,
    typer.Option(
        metavar="WHICH",
        help="`imagenet`, `bundled`, `random` or a file.",
        show_default="imagenet; bundled for simulated scans",
        rich_help_panel="Models",
    ),
]
Pixels = Annotated[
    int | None,
    typer.Option(
        min=32,
        metavar="PIXELS",
        help="Height and width of what the models look at.",
        show_default="each model's own",
        rich_help_panel="Models",
    ),
]
LesionsOnly = Annotated[
    bool | None,
    typer.Option(
        "--lesions-only/--with-normals",
        help="Segment images with a lesion alone, or all.",
        show_default="all",
        rich_help_panel="Segmenters",
    ),
]
GroupsOf = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="CSV of filename and group: images of one patient stay on one side of a split. "
        "`none` splits without regard to any.",
        show_default="duplicates, found by their pixels",
        rich_help_panel="Data",
    ),
]
Curation = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="BUSI: CSV of duplicates and objections, which gives the groups.",
        show_default=False,
        rich_help_panel="Data",
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Keep neither feature rows on disk nor activations: slower.",
        rich_help_panel="Running, and what is left behind",
    ),
]
OutFolder = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER",
        help="Folder for results.",
        rich_help_panel="Running, and what is left behind",
    ),
]


def read_frame(text: str | None) -> int | str | None:
    """Read which frame is meant; what it may be is for `hybridus.dicom_path` to say."""
    return int(text) if text is not None and text.isdecimal() else text


def read_range(text: str) -> tuple[float, float] | None:
    """Read the values of black and white, given as ``LOW,HIGH``.

    Raises
    ------
    ValueError
        Unless they are two finite numbers, the lower one first.
    """
    from hybridus.inputs.values import check_value_range

    try:
        return check_value_range([float(value) for value in text.split(",")])
    except ValueError:
        raise ValueError(
            f"--value-range {text}: expected LOW,HIGH, the values of black and white, such as "
            "0,4095 for 12 bits"
        ) from None


def read_external(given: list[str] | None, *, offline: bool) -> tuple[tuple[str, Path], ...]:
    """Read ``--external NAME=FOLDER``, which may be repeated.

    Raises
    ------
    ValueError
        Where that is not its form, a name comes twice or cannot be part of a file's name, or there
        is nothing of the user's to fit on.
    """
    found: dict[str, Path] = {}
    for text in given or ():
        name, equals, folder = text.partition("=")
        if not (equals and folder and re.fullmatch(r"[\w][\w .-]*", name)) or name in found:
            raise ValueError(
                f"--external {text}: expected NAME=FOLDER, with another name for each, of letters, "
                "digits, '_', '-' and '.'"
            )
        if not Path(folder).exists():
            raise ValueError(f"--external {text}: no such folder {folder!r}")
        found[name] = Path(folder)
    if found and offline:
        raise ValueError("--external needs DATA: models fitted on phantoms are for no real scans")
    return tuple(found.items())
