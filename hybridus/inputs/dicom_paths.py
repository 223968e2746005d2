"""Paths of DICOM files: how one names a frame or the region of the scan, and is read lazily."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

Crop = Literal["ultrasound"]
Frame = int | Literal["first", "middle"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_MARK, _MARK_AT = b"DICM", 128
_READING = re.compile(
    r"(?P<file>.+)#(?P<options>(?:frame|crop)=\w+(?:&(?:frame|crop)=\w+)?)", re.DOTALL
)


class Reading(NamedTuple):
    """A file and what is to be read of it.

    Attributes
    ----------
    file : str
    frame : int, "first", "middle" or None
        Frames count from 1, as in DICOM.
    crop : "ultrasound" or None
    """

    file: str
    frame: Frame | None = None
    crop: Crop | None = None

    @property
    def options(self) -> str:
        """What stands behind the ``#`` of the path."""
        told = {"frame": self.frame, "crop": self.crop}
        return "&".join(f"{key}={value}" for key, value in told.items() if value is not None)


def dicom_path(
    path: str | os.PathLike[str], *, frame: Frame | None = None, crop: Crop | None = None
) -> str:
    """Name a frame of a DICOM file, or the region of its scan, by a path that is read lazily.

    Such a path goes wherever paths of images go: to estimators, into a pandas Series, through
    pickles. It is the file's path with ``#frame=3&crop=ultrasound`` behind it.

    Parameters
    ----------
    path : str or path-like
    frame : int, "first" or "middle", default=None
        Frame of a cine loop, counted from 1 as DICOM and its viewers do. None is right for files
        of one frame only: which one of several is meant is for the user to say.
    crop : "ultrasound", default=None
        Keep the region of the image that the file's SequenceOfUltrasoundRegions calls a
        two-dimensional image of tissue, the largest of several, and leave out the scanner's text
        and scales around it.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For a frame or a crop that cannot be.

    Examples
    --------
    >>> from hybridus import dicom_path
    >>> dicom_path("cine.dcm", frame=3, crop="ultrasound")
    'cine.dcm#frame=3&crop=ultrasound'
    >>> [dicom_path("cine.dcm", frame=k) for k in (1, 2)]
    ['cine.dcm#frame=1', 'cine.dcm#frame=2']
    """
    check_crop(crop)
    known = split_reading(path)
    if frame is None:
        frame = known.frame
    elif isinstance(frame, str):
        if frame not in ("first", "middle"):
            raise ValueError(f"frame={frame!r}: expected a number from 1, 'first' or 'middle'")
    elif isinstance(frame, bool) or not isinstance(frame, int | np.integer) or frame < 1:
        raise ValueError(f"frame={frame!r}: expected a number from 1, 'first' or 'middle'")
    reading = Reading(known.file, frame, crop or known.crop)
    return f"{reading.file}#{reading.options}" if reading.options else reading.file


def check_crop(crop: Any) -> None:
    """Raise unless `crop` is None or "ultrasound"."""
    if crop not in (None, "ultrasound"):
        raise ValueError(f"crop={crop!r}: expected None or 'ultrasound'")


def dicom_paths(
    paths: Iterable[str], *, frame: Frame | None = None, crop: Crop | None = None
) -> list[str]:
    """Name a frame or region, as `dicom_path` does, of those files of a data set that are DICOM.

    Raises
    ------
    ValueError
        Where none of them is, or frame or crop cannot be.

    Warns
    -----
    UserWarning
        Where others are not: they are taken whole.
    """
    files = list(paths)
    if frame is None and crop is None:
        return files
    asked = dicom_path("", frame=frame, crop=crop)[1:]
    are_dicom = [is_dicom(file) for file in files]
    n_others = len(files) - sum(are_dicom)
    if n_others == len(files):
        raise ValueError(f"{asked} is for DICOM files, and none of {len(files)} images is one")
    if n_others:
        first = files[are_dicom.index(False)]
        warnings.warn(
            f"{asked} is for DICOM files: {n_others} of {len(files)} images are none and are taken "
            f"whole (first: {first!r})",
            UserWarning,
            stacklevel=3,
        )
    return [
        dicom_path(file, frame=frame, crop=crop) if yes else file
        for file, yes in zip(files, are_dicom, strict=True)
    ]


def split_reading(path: str | os.PathLike[str]) -> Reading:
    """Take a path of `dicom_path` apart; a file whose name only looks like one is that file."""
    text = os.fsdecode(path)
    match = _READING.fullmatch(text) if "#" in text else None
    if match is None or os.path.exists(text):
        return Reading(text)
    options = dict(part.split("=") for part in match["options"].split("&"))
    frame: Any = options.get("frame")
    crop: Any = options.get("crop")
    if frame is not None and frame.isdecimal():
        frame = int(frame)
    if frame not in (None, "first", "middle") and not (isinstance(frame, int) and frame > 0):
        raise ValueError(f"{text!r}: frame={frame} is none; expected 1, 2, ..., first or middle")
    if crop not in (None, "ultrasound"):
        raise ValueError(f"{text!r}: crop={crop} is unknown; expected crop=ultrasound")
    return Reading(match["file"], frame, crop)


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file's bytes say that it is DICOM; its name does not count."""
    try:
        with open(path, "rb") as handle:
            return is_marked(handle)
    except (OSError, ValueError):
        return False


def is_marked(handle: BinaryIO) -> bool:
    """Whether a file has the mark of DICOM; it is then read up to behind the mark."""
    handle.seek(_MARK_AT)
    return handle.read(len(_MARK)) == _MARK
