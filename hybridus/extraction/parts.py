"""Parts: the files of a Parquet data set of features, and what each says of how it was made.

What was asked stands in the files themselves, so that a folder holds nothing but parts, as every
reader of Parquet expects.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridus.inputs.files import FileStamp, replacing

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
SLICE = 1024  # rows that are read together: `fit_out_of_core` mixes slices of all parts
OWN_COLUMNS = ("file", "key", "digest", "label")
_NOTE = b"hybridus"
_PART = re.compile(r"part-(\d{5,})\.parquet")
_LEFT_OVER = re.compile(r"\.[0-9a-f]{8}-part-\d{5,}\.parquet")


def check_pyarrow() -> None:
    """Raise where the package pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ImportError("files of Parquet need the package pyarrow: pip install 'hybridus[rows]'")


def part_file(folder: Path, number: int) -> Path:
    """Where a part lies."""
    return folder / f"part-{number:05d}.parquet"


def part_files(folder: Path) -> list[Path]:
    """List the parts that are there, in their order."""
    names = [name for name in os.listdir(folder) if _PART.fullmatch(name)]
    return [folder / name for name in sorted(names, key=lambda name: int(name[5:-8]))]


def read_note(file: Path) -> dict[str, Any] | None:
    """Read what a part says of itself; None where it is absent or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.exists():
        return None
    try:
        known = pq.read_metadata(file).metadata or {}
        note = json.loads(known[_NOTE])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return note if isinstance(note, dict) and note.get("format") == FORMAT else None


def prepare_folder(folder: Path, asked: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the folder of a data set, or see that what lies there was asked for in the same way.

    Raises
    ------
    ValueError
        Where it holds other files, or parts that were asked for otherwise.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; a data set of parts needs a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    names = os.listdir(folder)
    others = [name for name in names if not (_PART.fullmatch(name) or _LEFT_OVER.fullmatch(name))]
    if others:
        raise ValueError(
            f"{folder}: holds {min(others)!r}, which is no part of a data set of features; name a "
            "folder of its own"
        )
    present = part_files(folder)
    if overwrite:
        for file in present:
            file.unlink()
        return
    for file in present:
        note = read_note(file)
        if note is None:
            continue  # damaged: it is made again
        differing = [name for name, value in asked.items() if note["asked"].get(name) != value]
        if differing:
            raise ValueError(
                f"{folder}: was begun with {_said(differing)}, so its rows would not belong to "
                "those of now; write into another folder, ask as before, or write it anew "
                "(overwrite=True, --overwrite)"
            )


def _said(names: Sequence[str]) -> str:
    words = {
        "digest": "another encoder or other settings of it",
        "files": "another list of files",
        "columns": "other labels or columns",
        "value_range": "another value_range",
        "part_size": "another size of parts",
    }
    return " and ".join(words.get(name, name) for name in names)


def stamp_digest(stamps: Sequence[FileStamp | None]) -> str:
    """Digest sizes and times of files: another one once any of them was changed."""
    told = [None if stamp is None else (stamp.size, stamp.mtime_ns) for stamp in stamps]
    return digest_text(json.dumps(told))


def digest_text(*texts: str) -> str:
    """SHA-256 of texts, each apart from the next."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode(errors="surrogateescape")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def write_part(file: Path, table: pa.Table, note: Mapping[str, Any]) -> None:
    """Write a part, which is there once it is whole."""
    import pyarrow.parquet as pq

    told = {"format": FORMAT, **note}
    known = {**(table.schema.metadata or {}), _NOTE: json.dumps(told).encode()}
    others = table.column_names[: -note["n_features"]]
    with replacing(file) as temporary:
        # Of features dictionaries and statistics would cost more than they save.
        pq.write_table(
            table.replace_schema_metadata(known),
            temporary,
            compression="zstd",
            use_dictionary=others,
            write_statistics=others,
            row_group_size=SLICE,
        )


def remove_left_over(folder: Path) -> None:
    """Remove what processes that were killed left half written."""
    for name in os.listdir(folder):
        if _LEFT_OVER.fullmatch(name):
            (folder / name).unlink(missing_ok=True)
