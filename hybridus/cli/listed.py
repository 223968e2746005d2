"""Listed images: files with what is known of each, from a folder, a list or patterns."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridus.cli.images import find_files

LIST_SUFFIXES = (".csv", ".tsv", ".txt")
_PATH_COLUMNS = ("path", "filename", "file")


@dataclass
class Listed:
    """Image files, and what stands beside each.

    Attributes
    ----------
    files : list of str
    labels : list of str or None
        Names of classes, where folders or a column ``label`` tell them.
    columns : dict of str to list of str
        Further columns of a list.
    notes : list of str
        What the user should know of how it was read.
    """

    files: list[str]
    labels: list[str] | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def list_images(given: list[str], *, frame: Any = None, crop: Any = None) -> Listed:
    """List the images that users named: one folder or list, or files, folders and patterns.

    Raises
    ------
    FileNotFoundError, ValueError
        For what is not there, holds no image, or is a list that cannot be read.
    """
    if len(given) == 1 and os.path.isdir(given[0]):
        return _of_folder(given[0], frame, crop)
    lists = [name for name in given if name.lower().endswith(LIST_SUFFIXES)]
    if lists and len(given) > 1:
        raise ValueError(f"{lists[0]}: a list of images stands alone; {len(given)} were named")
    listed = _of_list(Path(lists[0])) if lists else _of_files(given)
    listed.files = _of_dicom(listed.files, frame, crop)
    return listed


def _of_dicom(files: list[str], frame: Any, crop: Any) -> list[str]:
    from hybridus.inputs.dicom_paths import dicom_paths

    return dicom_paths(files, frame=frame, crop=crop)


def _of_files(given: Iterable[str]) -> Listed:
    files, n_masks = find_files(given)
    return Listed(files, notes=[f"{n_masks} masks are passed over"] * bool(n_masks))


def _of_folder(folder: str, frame: Any, crop: Any) -> Listed:
    """Read a folder as loaders do; where its layout tells no classes, every image in it."""
    from hybridus.datasets.recognition import list_folder

    try:
        found = list_folder(folder, frame=frame, crop=crop)
    except ValueError as error:
        listed = _of_files([folder])
        listed.files = _of_dicom(listed.files, frame, crop)
        listed.notes.append(f"no column label, since folders tell no classes: {error}")
        return listed
    labels = None
    if found.target is not None:
        labels = [str(found.target_names[code]) for code in found.target]
    return Listed([str(file) for file in found.images], labels)


def _of_list(file: Path) -> Listed:
    if file.suffix.lower() == ".txt":
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; expected a list, one path a line")
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        return Listed(_found_from(file, [name for name in names if name]))
    import pandas as pd

    # As text: numbers of patients begin with zeros.
    table = pd.read_csv(
        file,
        sep=None if file.suffix.lower() == ".csv" else "\t",
        engine="python" if file.suffix.lower() == ".csv" else "c",
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
    )
    named = [column for column in _PATH_COLUMNS if column in table]
    if not named:
        raise ValueError(
            f"{file}: no column 'path' or 'filename', which tells the images; it has "
            f"{', '.join(map(repr, table.columns))}"
        )
    columns = {str(name): table[name].tolist() for name in table if name != named[0]}
    labels = columns.pop("label", None)
    return Listed(_found_from(file, table[named[0]].tolist()), labels, columns)


def _found_from(file: Path, names: list[str]) -> list[str]:
    """Find paths from the folder of their list, or else from where the command runs."""
    if not names:
        raise ValueError(f"{file}: lists no image")
    if "" in names:
        raise ValueError(f"{file}: the path in row {names.index('') + 1} is empty")
    beside = [str(file.parent / name) for name in names]
    if os.path.exists(beside[0]) or not os.path.exists(names[0]):
        return beside
    return names
