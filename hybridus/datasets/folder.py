"""Images in class folders: what counts as an image file, and in which order files stand."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from sklearn.utils import Bunch

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)
MASK_STEM = re.compile(r"(?P<image>.+?)[_ -]mask(_?\d+)?$", re.IGNORECASE)
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
    >>> from hybridus.datasets.folder import natural_key
    >>> sorted(["scan (10)", "scan (2)", "Scan (1)"], key=natural_key)
    ['Scan (1)', 'scan (2)', 'scan (10)']
    """
    parts = re.split(r"(\d+)", text)
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)], text


def existing_folder(path: str | os.PathLike[str], holds: str) -> Path:
    """Return `path` as a Path, or raise an error that says what the folder should hold."""
    folder = Path(path).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder; expected {holds}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: not a folder; expected {holds}")
    return folder


def find_images(root: Path) -> list[str]:
    """List the image files under a folder, by their suffix, in natural order.

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
    """
    return sorted(_walk(root), key=natural_key)


def _walk(root: Path) -> Iterator[str]:
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back to where it came from
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not is_junk_folder(name)]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(folder, name).relative_to(root).as_posix()


def _raise(error: OSError) -> NoReturn:
    raise error


def is_junk_folder(name: str) -> bool:
    """Whether a folder of this name is hidden or left behind by a system."""
    return name.startswith(".") or name in _JUNK_FOLDERS


def object_array(values: Iterable[object]) -> np.ndarray:
    """1-D object array of `values`, also where they are arrays of one shape."""
    items = list(values)
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def load_image_folder(
    path: str | os.PathLike[str], *, class_names: Iterable[str] | None = None
) -> Bunch:
    """Load any folder of class folders; the images stay on disk and are handed on as paths.

    Parameters
    ----------
    path : str or Path
        Folder with one sub-folder a class; each class folder is searched with all its
        sub-folders. Files beside the class folders, hidden ones and those without the suffix of an
        image (``.png``, ``.jpg``, ``.tif``, ``.bmp``, ``.webp``, ... in any case) are passed over.
    class_names : iterable of str, default=None
        Class folders to load, in the order of their codes 0, 1, ...; None takes all of them in
        natural order.

    Returns
    -------
    sklearn.utils.Bunch
        - ``images`` : ndarray of shape (n_samples,), dtype object, paths as str. Every estimator
          of hybridus takes them; files are decoded in batches when needed.
        - ``target`` : ndarray of shape (n_samples,), int, position in ``target_names``.
        - ``target_names`` : list of str, names of the class folders.
        - ``filenames`` : list of str, paths relative to `path`, with ``/`` on every system.
        - ``groups`` : None; a folder does not tell who is a duplicate of whom.
        - ``DESCR`` : str.

        Rows stand in the order of their class, then in natural order of their names
        (``scan 2`` before ``scan 10``).

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `path` is not a folder.
    ValueError
        If there are fewer than two class folders, one of them holds no image, or
        `class_names` names a folder twice or one that is not there.

    Warns
    -----
    UserWarning
        If files are named like lesion masks (``x_mask.png``), which are no images of a class.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from hybridus.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["cat/1.png", "cat/2.png", "dog/10.png"]:
    ...         file = pathlib.Path(folder, name)
    ...         file.parent.mkdir(exist_ok=True)
    ...         Image.new("L", (8, 8)).save(file)
    ...     data = load_image_folder(folder)
    >>> data.filenames, data.target.tolist()
    (['cat/1.png', 'cat/2.png', 'dog/10.png'], [0, 0, 1])
    """
    root = existing_folder(path, "one sub-folder of images for each class")
    names = _class_folders(root, class_names)
    found = [[f"{name}/{file}" for file in find_images(root / name)] for name in names]
    empty = [name for name, files in zip(names, found, strict=True) if not files]
    if empty:
        raise ValueError(
            f"{root}: no image files in class folder(s) {_quoted(empty)}; remove them, or name the "
            "class folders to load in class_names"
        )
    filenames = [file for files in found for file in files]
    _warn_of_masks(root, filenames)
    target = np.repeat(np.arange(len(names)), [len(files) for files in found])
    return Bunch(
        images=object_array(str(root / file) for file in filenames),
        target=target,
        target_names=names,
        filenames=filenames,
        groups=None,
        DESCR=f"{len(target)} images from the class folders of {root}\n\n"
        f"{class_counts(target, names)}\n",
    )


def _class_folders(root: Path, class_names: Iterable[str] | None) -> list[str]:
    folders = sorted((entry.name for entry in root.iterdir() if entry.is_dir()), key=natural_key)
    folders = [name for name in folders if not is_junk_folder(name)]
    if isinstance(class_names, str):
        raise ValueError(f"class_names={class_names!r} is one text; give a list of folder names")
    names = folders if class_names is None else [str(name) for name in class_names]
    absent = [name for name in names if name not in folders]
    if absent:
        raise ValueError(
            f"{root}: class_names has {_quoted(absent)}, which are no class folders; "
            f"there are {_quoted(folders) or 'none'}"
        )
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"class_names has {_quoted(twice)} more than once")
    if len(names) < 2:
        raise ValueError(
            f"{root}: found {len(names)} class folder(s) ({_quoted(names) or 'none'}); expected "
            "two or more sub-folders, one for each class, with images in them"
        )
    return names


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _warn_of_masks(root: Path, filenames: list[str]) -> None:
    masks = [file for file in filenames if MASK_STEM.match(Path(file).stem)]
    if masks:
        warnings.warn(
            f"{root}: {len(masks)} of {len(filenames)} files are named like masks, not images of a "
            f"class (first: {masks[0]!r}); load_busi loads scans with masks",
            UserWarning,
            stacklevel=3,
        )


def class_counts(target: np.ndarray, names: Sequence[str]) -> str:
    """One line a class: its code, its name and how many samples it has."""
    counts = np.bincount(target, minlength=len(names))
    rows = zip(names, counts, strict=True)
    return "\n".join(f"{code}  {name}: {n}" for code, (name, n) in enumerate(rows))
