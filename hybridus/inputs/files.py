"""How files reach the disk whole: written under another name, then renamed.

A reader sees the old file or the new one, never half of one, also if the writer is killed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a fresh name beside `path`, and move what was written there to `path` at the end.

    If the body raises, what it wrote is removed and the old file stays as it was.

    Parameters
    ----------
    path : str or path-like
        The file to replace or make. Missing folders are made.

    Yields
    ------
    pathlib.Path
        A name in the same folder that does not exist yet and ends as `path` does.

    Examples
    --------
    >>> import tempfile
    >>> from hybridus.inputs.files import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/scores.csv") as temporary:
    ...         _ = temporary.write_text("accuracy,0.84", encoding="utf-8")
    ...     [file.name for file in Path(folder).iterdir()]
    ['scores.csv']
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The ending is kept: joblib and pandas choose the compression by it.
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def dump_atomically(obj: Any, path: str | os.PathLike[str]) -> Path:
    """`joblib.dump` that leaves either the whole file or the old one.

    Parameters
    ----------
    obj : object
        Anything joblib can pickle, such as a fitted pipeline.
    path : str or path-like
        Where the file lies afterwards. Missing folders are made. An ending that joblib knows,
        such as ``.joblib.gz``, compresses.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    OSError
        If the folder or the file cannot be written.

    Notes
    -----
    Loading a joblib file runs code from it: open only files you trust.

    Examples
    --------
    >>> import joblib, tempfile
    >>> from hybridus.inputs.files import dump_atomically
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     joblib.load(dump_atomically({"C": 10}, f"{folder}/models/svm.joblib"))
    {'C': 10}
    """
    with replacing(path) as temporary:
        joblib.dump(obj, temporary)
    return Path(path)
