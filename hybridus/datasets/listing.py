"""Files of a data set: which of them are images, in which order, and what is passed over."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hybridus.inputs.dicom_paths import DICOM_SUFFIXES, is_dicom

IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".gif", ".webp", ".avif", ".avifs", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"}
    | {".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".tga", ".pcx"}
    | DICOM_SUFFIXES
)
# Files that hold images which are not read: left out, but never in silence.
_UNREAD_SUFFIXES = frozenset(
    {".nii", ".mha", ".mhd", ".nrrd", ".heic", ".heif", ".jxl", ".svg"}
    | {".psd", ".xcf", ".raw", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".ndpi", ".svs", ".czi"}
    | {".avi", ".mp4", ".mov", ".wmv", ".mkv", ".zip", ".rar", ".7z", ".tar", ".gz", ".tgz"}
)
# Folders that systems and editors leave behind; hidden ones are known by their first character.
_JUNK_FOLDERS = frozenset({"__MACOSX", "__pycache__"})


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Sort key under which ``scan (2)`` stands before ``scan (10)``.

    Parameters
    ----------
    text : str
        Usually a relative path with ``/`` between its parts.

    Returns
    -------
    tuple
        Text and numbers in turn; the text itself breaks ties (``a1`` and ``a01``).

    Examples
    --------
    >>> from hybridus.datasets.listing import natural_key
    >>> sorted(["scan (10)", "scan (2)", "Scan (1)"], key=natural_key)
    ['Scan (1)', 'scan (2)', 'scan (10)']
    """
    parts = re.split(r"(\d+)", text)
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)], text


def named_path(path: str | os.PathLike[str], holds: str) -> Path:
    """Return `path` as a Path; an empty text, which would be the current folder, is an error."""
    if not os.fspath(path):
        raise ValueError(f"the path is empty: expected {holds} ('.' is the current folder)")
    return Path(path).expanduser()


def existing_folder(path: str | os.PathLike[str], holds: str) -> Path:
    """Return `path` as a Path, or raise an error that says what the folder should hold."""
    folder = named_path(path, holds)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder; expected {holds}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: not a folder; expected {holds}")
    return folder


def find_images(root: Path) -> list[str]:
    """List the image files under a folder, by their suffix, in natural order.

    Files without a suffix, or with a number as such, are opened: their bytes say if they are DICOM.

    Hidden files and folders, the junk of file managers (``._x.png``, ``Thumbs.db``,
    ``__MACOSX``) and other files are passed over; links to folders are followed.

    Parameters
    ----------
    root : Path
        Folder to search, with all its sub-folders.

    Returns
    -------
    list of str
        Paths relative to `root`, with ``/`` between their parts.

    Raises
    ------
    OSError
        If a sub-folder cannot be read: a part of a data set is never left out silently.
    ValueError
        If a name is not UTF-8, so that no table could hold it.

    Warns
    -----
    UserWarning
        If files in forms that are not read (NIfTI, HEIC, videos, archives) were passed over.
    """
    images, unread = [], []
    for file in walk(root):
        if is_image(file):
            images.append(file)
        elif Path(file).suffix.lower() in _UNREAD_SUFFIXES:
            unread.append(file)
        elif _has_free_name(file) and is_dicom(root / file):
            images.append(file)
    if unread:
        warnings.warn(
            f"{root}: passed over {len(unread)} file(s) that are not read (first: "
            f"{min(unread, key=natural_key)!r}); if they hold images of the data set, save these "
            "as PNG files",
            UserWarning,
            stacklevel=4,
        )
    return sorted(images, key=natural_key)


def walk(root: Path) -> Iterator[str]:
    """Yield all files under `root` that are neither hidden nor junk, as relative paths."""
    yield from _walk(root, "", frozenset())


def _walk(root: Path, below: str, above: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(root / below)
    if real in above:  # a link that leads back to where it came from
        return
    with os.scandir(root / below) as entries:
        listed = list(entries)
    for entry in listed:
        if is_junk(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(root, f"{below}{entry.name}/", above | {real})
        else:
            yield check_name(root, below + entry.name)


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden or left behind by a system."""
    return name.startswith(".") or name in _JUNK_FOLDERS


def is_image(name: str) -> bool:
    """Whether a file of this name holds an image that can be read; hidden ones count as junk."""
    return not is_junk(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _has_free_name(name: str) -> bool:
    """Whether a name has no ending, as scanners name DICOM files: ``IM000001``, ``1.2.840.113``.

    The index of a disk of DICOM files has one too, and is none of its images.
    """
    suffix = Path(name).suffix[1:]
    return (not suffix or suffix.isdecimal()) and Path(name).name != "DICOMDIR"


def check_name(root: Path, name: str) -> str:
    """Return a name that is UTF-8, as printing it and writing it to tables needs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{root}: the name of {os.fsencode(name)!r} is not UTF-8, so that no table could hold "
            "it; rename it (for example with convmv -f latin1 -t utf8)"
        ) from None
    return name


def subfolders(folder: Path) -> list[str]:
    """List the names of the folders in a folder, in natural order."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not is_junk(entry.name)]
    return sorted((check_name(folder, name) for name in names), key=natural_key)


def quoted(names: Iterable[str]) -> str:
    """Names in quotes, joined by commas; ``none`` where there is none."""
    return ", ".join(repr(name) for name in names) or "none"


def object_array(values: Iterable[object]) -> np.ndarray:
    """1-D object array of `values`, also where they are arrays of one shape."""
    items = list(values)
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def class_counts(target: np.ndarray, names: Sequence[str]) -> str:
    """One line a class: its code, its name and how many samples it has."""
    counts = np.bincount(target, minlength=len(names))
    rows = zip(names, counts, strict=True)
    return "\n".join(f"{code}  {name}: {n}" for code, (name, n) in enumerate(rows))
