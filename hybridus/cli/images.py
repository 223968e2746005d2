"""Images of a command: files, folders and patterns that users name, and a name for each of them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath


def find_files(given: Iterable[str]) -> tuple[list[str], int]:
    """List the image files that users named, each once, in their order.

    Parameters
    ----------
    given : iterable of str
        Files, which are taken as they are; folders, which are searched with their sub-folders for
        images that are no masks by their names; patterns such as ``scans/*.png``, for shells that
        leave them alone.

    Returns
    -------
    files : list of str
    n_masks : int
        Masks that were passed over in folders.

    Raises
    ------
    FileNotFoundError
        For what is not there, and a pattern that fits nothing.
    ValueError
        Where nothing was found.
    """
    found: dict[str, None] = {}
    n_masks = 0
    for name in given:
        if os.path.isdir(name):
            files, masks = _in_folder(Path(name))
            n_masks += masks
        elif os.path.exists(name):
            files = [name]
        else:
            files = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
            if not files:
                raise FileNotFoundError(f"{name}: no such file, folder or pattern that fits any")
        found.update(dict.fromkeys(files))
    if not found:
        raise ValueError(f"no images in {', '.join(given)}")
    return list(found), n_masks


def _in_folder(folder: Path) -> tuple[list[str], int]:
    from hybridus.datasets.layout import MASK_FOLDERS, MASK_STEM
    from hybridus.datasets.listing import find_images

    files = [PurePosixPath(file) for file in find_images(folder)]

    def is_mask(file: PurePosixPath) -> bool:
        return MASK_STEM.fullmatch(file.stem) is not None or any(
            part.casefold() in MASK_FOLDERS for part in file.parts[:-1]
        )

    images = [file for file in files if not is_mask(file)]
    return [str(folder / file) for file in images], len(files) - len(images)


def names_of(files: Sequence[str]) -> list[str]:
    """Names for what is written of each file: its path below the folder that all have in common.

    Without suffix, unless two files differ by it alone. All names are different.

    Examples
    --------
    >>> names_of(["in/a/1.png", "in/b/1.png", "in/b/2.png", "in/b/2.jpg"])
    ['a/1', 'b/1', 'b/2.png', 'b/2.jpg']
    """
    absolute = [os.path.abspath(file) for file in files]
    common = os.path.commonpath([os.path.dirname(file) for file in absolute])
    below = [PurePosixPath(Path(file).relative_to(common).as_posix()) for file in absolute]
    bare = [str(name.with_suffix("")) for name in below]
    counts = Counter(bare)
    return [str(name) if counts[stem] > 1 else stem for name, stem in zip(below, bare, strict=True)]
