"""Groups of samples: the tables that tell which images must stay on one side of every split.

One reader of tables for all loaders: what is missing or written in two ways is never taken for
another patient in silence.
"""

import csv
import io
import os
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from hybridus.datasets.listing import named_path, object_array

# What pandas, R, spreadsheets and databases write where a cell has no value.
_MISSING = frozenset(
    {"", "nan", "na", "<na>", "n/a", "#n/a", "#na", "none", "null", "nil", "nat", "-", "--", "?"}
)
_WHOLE_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?")


def read_groups(file: str | os.PathLike[str], filenames: Iterable[str]) -> NDArray[np.object_]:
    r"""Read the group of each image from a table, for folds that keep a patient's images together.

    Parameters
    ----------
    file : str or Path
        CSV table in UTF-8 with the columns ``filename`` and ``group``, separated by commas,
        semicolons or tabs; other columns are passed over. ``filename`` is the path of an image
        relative to the folder that was loaded, or its base name where no other image has it.
    filenames : iterable of str
        Images in the order of the data, as loaders give them in ``bunch.filenames``.

    Returns
    -------
    ndarray of shape (n_images,), dtype object
        Group of each image, str. White space around names does not count; nor does the form in
        which accents are written (NFC or NFD), nor whether a group is in capitals, or a number
        written ``970``, ``0970`` or ``970.0``: the first spelling stands for all of them.

    Raises
    ------
    FileNotFoundError
        If `file` is not there.
    ValueError
        If it is not text in UTF-8 or lacks a column; an image has no group (an empty cell and
        texts such as nan, NA and None are none) or two; or an image is not listed.

    Warns
    -----
    UserWarning
        If groups that are spelled in two ways were read as one.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from hybridus.datasets import read_groups
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "groups.csv")
    ...     _ = file.write_text("filename,group\na/1.png,P7\na/2.png,P7\n3.png,P9\n")
    ...     read_groups(file, ["a/1.png", "a/2.png", "b/3.png"]).tolist()
    ['P7', 'P7', 'P9']
    """
    file = named_path(file, "a CSV table with columns filename and group")
    rows = read_table(file, ("filename", "group"))
    names = [str(PurePosixPath(row["filename"].replace("\\", "/"))) for row in rows]
    if "." in names:
        raise ValueError(f"{file}: group {rows[names.index('.')]['group']!r} has no filename")
    groups = clean_groups(file, names, [row["group"] for row in rows])
    by_path: dict[str, str] = {}
    for name, group in zip(names, groups, strict=True):
        if by_path.setdefault(name, group) != group:
            raise ValueError(f"{file}: {name!r} stands in groups {by_path[name]!r} and {group!r}")
    return _groups_of(file, [_plain(name) for name in filenames], by_path)


def _groups_of(
    file: Path, filenames: Sequence[str], by_path: dict[str, str]
) -> NDArray[np.object_]:
    """Find each image by its path or, where nothing else has it, by its base name."""
    by_base = defaultdict(list)
    for path, group in by_path.items():
        by_base[PurePosixPath(path).name].append(group)
    images_of_base = Counter(PurePosixPath(name).name for name in filenames)

    def find(name: str) -> str | None:
        base = PurePosixPath(name).name
        if name not in by_path and len(by_base[base]) == 1 == images_of_base[base]:
            return by_base[base][0]
        return by_path.get(name)

    found = [find(name) for name in filenames]
    if None in found:
        raise ValueError(
            f"{file}: {found.count(None)} of {len(found)} images have no group, first "
            f"{filenames[found.index(None)]!r}; list each by its path below the folder of the data "
            "(or by a base name that no other image has); an image without duplicates is a group "
            "of its own"
        )
    return object_array(found)


def describe_groups(groups: Iterable[object]) -> str:
    """Say how many groups there are and how many images each has.

    Examples
    --------
    >>> describe_groups(["a", "a", "b", "c", "c", "c"])
    '3 groups of 6 images (1 to 3 in each, 1 of them alone)'
    """
    sizes = Counter(groups).values()
    alone = sum(size == 1 for size in sizes)
    return (
        f"{len(sizes)} groups of {sum(sizes)} images ({min(sizes)} to {max(sizes)} in each, "
        f"{alone} of them alone)"
    )


def clean_groups(file: Path, names: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Give every group one spelling, and refuse what says that there is none.

    Raises
    ------
    ValueError
        If a group is missing; the message tells the name of the image.

    Warns
    -----
    UserWarning
        If several spellings were read as one group.
    """
    spellings: dict[str, dict[str, None]] = defaultdict(dict)  # in the order of the table
    for name, group in zip(names, groups, strict=True):
        if group.casefold() in _MISSING:
            written = f" ({group!r} says that there is none)" if group else ""
            raise ValueError(f"{file}: {name!r} has no group{written}; give it one of its own")
        spellings[_group_key(group)][group] = None
    merged = [list(written) for written in spellings.values() if len(written) > 1]
    if merged:
        warnings.warn(
            f"{file}: {len(merged)} group(s) are written in several ways, which are read as one "
            f"(first: {' and '.join(map(repr, merged[0]))}); write each in one way, or give "
            "different groups names that differ in more than that",
            UserWarning,
            stacklevel=3,
        )
    return [next(iter(spellings[_group_key(group)])) for group in groups]


def _group_key(group: str) -> str:
    """Form that all spellings of one group share."""
    number = _WHOLE_NUMBER.fullmatch(group)
    return "".join(number.groups()) if number else " ".join(group.casefold().split())


def read_table(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV table as text, without white space around cells, accents composed (NFC).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file; it is not UTF-8; `columns` are missing or stand twice; or a row
        is shorter or longer than the header. The message names file and line.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; expected a CSV table with columns {', '.join(columns)}"
        )
    text = _text(file)
    # Spreadsheets of half the world separate by semicolons, since their decimals have commas.
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        table = [(reader.line_num, [_plain(cell) for cell in row]) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{file}: cannot be read as a CSV table ({error})") from error
    table = [(line, row) for line, row in table if any(row)]  # spreadsheets leave ",," at the end
    header = table[0][1] if table else []
    if any(header.count(column) != 1 for column in columns):
        raise ValueError(
            f"{file}: expected columns {', '.join(columns[:-1])} and {columns[-1]}, found "
            f"{header}; each must stand there once"
        )
    for line, row in table[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"{file}: line {line} has {len(row)} cells, expected {len(header)} as in the "
                f"header {header}; a name that holds the separator {separator!r} stands in quotes"
            )
    return [dict(zip(header, row, strict=True)) for _, row in table[1:]]


def _text(file: Path) -> str:
    content = file.read_bytes()
    what = "not text in UTF-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:1000]:
        what = "UTF-16 or no text at all, not text in UTF-8"
    elif content.startswith(b"PK"):
        what = "a spreadsheet (or another zip file), not text in UTF-8"
    else:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            what = f"not text in UTF-8 (line {line} holds the byte 0x{content[error.start]:02x})"
    raise ValueError(
        f"{file}: {what}; save the table as 'CSV UTF-8', or convert it, for example with "
        "pandas.read_csv(file, encoding='latin-1').to_csv(new_file, index=False)"
    )


def _plain(text: str) -> str:
    """One form of a name: without white space around it, accents composed."""
    return unicodedata.normalize("NFC", text.strip())
