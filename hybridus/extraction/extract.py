"""`extract`: features of any number of image files, part by part, into a Parquet data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.parallel import Parallel, delayed

from hybridus._environment import n_threads
from hybridus.estimators.features import DeepFeatureExtractor
from hybridus.estimators.spread import spreads
from hybridus.extraction import parts
from hybridus.extraction.recipe import digest_of_rows, fitted_on, stores_of, written_down
from hybridus.inputs.heard import tell_progress
from hybridus.inputs.images import Images, as_images, content_key, images_as_seen_by
from hybridus.inputs.names import as_text
from hybridus.inputs.resizing import map_ahead
from hybridus.store.rows import FeatureStore

if TYPE_CHECKING:
    import pyarrow as pa

_TOGETHER = 1024  # images that a file which cannot be read makes it look at anew

# Rows and keys of those images that can be read, and by their places why the others cannot.
Rows = tuple[NDArray[np.float32], list[bytes], dict[int, str]]


@dataclass(frozen=True)
class Extraction:
    """What `extract` has done.

    Attributes
    ----------
    path : Path
        Folder of the data set.
    n_rows : int
        Rows in it: images that could be read.
    n_new : int
        How many of them this call has made; the others were there.
    n_features : int
    digest : str
        What decides a row but the image, as it stands in the column ``digest``.
    unreadable : tuple of (str, str)
        File and reason of each image that could not be read.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from hybridus import TextureFeatures, extract
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (32, 32), 90).save(f"{folder}/even.png")
    ...     done = extract(
    ...         [f"{folder}/even.png"],
    ...         f"{folder}/rows.parquet",
    ...         extractor=TextureFeatures(kinds=["lbp"], cache=False),
    ...     )
    >>> done.n_rows, done.unreadable
    (1, ())
    """

    path: Path
    n_rows: int
    n_new: int
    n_features: int
    digest: str
    unreadable: tuple[tuple[str, str], ...]


def extract(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    extractor: Any = None,
    labels: ArrayLike | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    part_size: int = 4096,
    overwrite: bool = False,
    n_jobs: int | None = None,
) -> Extraction:
    """Write the features of image files as a Parquet data set, in memory that does not grow.

    The data set is a folder of parts, ``part-00000.parquet`` and so on, which pandas, Polars, Dask,
    DuckDB and Spark read as one table: ``pandas.read_parquet(out)``. Each image that can be read is
    a row, in the order of `paths`, with the columns ``file``, ``key`` (digest of its pixels: equal
    for equal images), ``digest`` (what made the features), ``label`` where `labels` are given,
    those of `columns`, and one float32 column for each feature, by the names of
    ``extractor.get_feature_names_out()``.

    A part appears whole or not at all. The same call goes on after the last whole part, and makes
    those again of which a file has changed since; a call that asks for anything else of the same
    folder is refused. One process at a time may write to a folder.

    Parameters
    ----------
    paths : sequence of str or path
        Image files.
    out : str or path
        Folder of the data set, by custom ``NAME.parquet``.
    extractor : transformer, default=None
        `DeepFeatureExtractor`, `TextureFeatures`, what prepares images for them, such as
        `SpeckleFilter`, or a Pipeline or FeatureUnion of these, fitted or not. None is
        ``DeepFeatureExtractor(cache=FeatureStore(read_only=True))``: rows that are kept in the
        store already are used, and new ones go into the data set alone, not to the disk twice.
    labels : array-like of n_images str or int, default=None
        The column ``label``.
    columns : mapping of str to n_images values, or DataFrame, default=None
        Further columns, such as ``{"patient": patients}``.
    part_size : int, default=4096
        Images in a part. Memory holds a few parts.
    overwrite : bool, default=False
        Write the parts anew that are in the folder.
    n_jobs : int, default=None
        Workers that make parts at the same time, each a part, by the backend of joblib that is
        set; None is what `joblib.parallel_config` around the call says, else 1. Rows come back to
        the caller, which alone writes. It decides no feature.

    Returns
    -------
    Extraction

    Raises
    ------
    ImportError
        Without pyarrow.
    TypeError
        For a transformer that learns from images.
    ValueError
        For no paths, labels or columns of another length, and a folder with other contents.

    Warns
    -----
    UserWarning
        Where images could not be read: they have no row, and stand in `unreadable`.

    Notes
    -----
    While it goes on, `hybridus.inputs.heard.heard_by` hears how many files are done.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from PIL import Image
    >>> from hybridus import TextureFeatures, extract, make_breast_phantoms
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = [f"{folder}/{i}.png" for i in range(3)]
    ...     phantoms = make_breast_phantoms(3, image_size=32, random_state=0)
    ...     for file, image in zip(files, phantoms.images):
    ...         Image.fromarray(image).save(file)
    ...     done = extract(
    ...         files,
    ...         f"{folder}/rows.parquet",
    ...         extractor=TextureFeatures(kinds=["lbp"], cache=False),
    ...         labels=phantoms.target,
    ...     )
    ...     rows = pd.read_parquet(done.path)
    >>> done.n_rows, rows.shape, list(rows.columns[:5])
    (3, (3, 24), ['file', 'key', 'digest', 'label', 'lbp_1_0'])
    """
    parts.check_pyarrow()
    if isinstance(part_size, bool) or not isinstance(part_size, int) or part_size < 1:
        raise ValueError(f"part_size={part_size!r}: expected a whole number from 1")
    files = _files(paths)
    if extractor is None:
        extractor = DeepFeatureExtractor(cache=FeatureStore(read_only=True))
    beside = _beside(files, labels, columns)
    fitted = fitted_on(extractor, files)
    names = [str(name) for name in fitted.get_feature_names_out()]
    _check_names(names, beside)
    value_range = images_as_seen_by(fitted, files[:1]).value_range
    digest = digest_of_rows(fitted)
    asked = {
        "digest": digest,
        "value_range": None if value_range is None else list(value_range),
        "part_size": part_size,
        "files": parts.digest_text(*files),
        "columns": parts.digest_text(
            *(text for name, column in beside.items() for text in (name, *map(repr, column)))
        ),
    }
    import pyarrow as pa

    # The type is that of the whole column: a part alone may hold no value at all.
    arrow = {name: pa.array(column, from_pandas=True) for name, column in beside.items()}
    folder = Path(out)
    parts.prepare_folder(folder, asked, overwrite=overwrite)
    told = {
        "asked": asked,
        "n_features": len(names),
        "n_files": len(files),
        "n_parts": -(-len(files) // part_size),
        "extractor": written_down(fitted),
    }
    places = [slice(start, start + part_size) for start in range(0, len(files), part_size)]
    stamps = [
        parts.stamp_digest(as_images(files[place], value_range=value_range).stamps)
        for place in places
    ]
    notes = [
        parts.read_note(file) for file in map(partial(parts.part_file, folder), range(len(places)))
    ]
    missing = [i for i, note in enumerate(notes) if note is None or note["stamps"] != stamps[i]]
    done = len(files) - sum(len(files[places[number]]) for number in missing)
    tell_progress("file", done, len(files))
    work = partial(_rows_of_part, fitted, value_range=value_range, width=len(names))
    n_new = 0
    for number, (rows, keys, lost) in zip(
        missing,
        _outcomes(work, [files[places[i]] for i in missing], n_jobs, done, len(files)),
        strict=True,
    ):
        start = places[number].start
        note = {
            **told,
            "stamps": stamps[number],
            "n_rows": len(rows),
            "unreadable": [[files[start + i], why] for i, why in sorted(lost.items())],
        }
        kept = [start + i for i in range(len(files[places[number]])) if i not in lost]
        own: dict[str, Any] = {
            "file": [as_text(files[i]) for i in kept],
            "key": [key.hex() for key in keys],
            "digest": [digest] * len(kept),
        }
        table = _table(own, arrow, kept, names, rows)
        parts.write_part(parts.part_file(folder, number), table, note)
        notes[number] = note
        n_new += len(rows)
    whole = [note for note in notes if note is not None]
    unreadable = [(file, why) for note in whole for file, why in note["unreadable"]]
    parts.remove_left_over(folder)
    if unreadable:
        warnings.warn(
            f"{len(unreadable)} of {len(files)} files could not be read and have no row (first: "
            f"{unreadable[0][1]})",
            UserWarning,
            stacklevel=2,
        )
    return Extraction(
        folder,
        sum(note["n_rows"] for note in whole),
        n_new,
        len(names),
        digest,
        tuple(unreadable),
    )


def _files(paths: Any) -> list[str]:
    images = as_images(paths)
    if images.paths is None:
        raise ValueError("paths: got images in memory, expected paths of image files")
    if not images.paths:
        raise ValueError("paths: there are none; expected one image file or more")
    return images.paths


def _beside(
    files: list[str], labels: Any, columns: Mapping[str, Any] | None
) -> dict[str, NDArray[Any]]:
    """Columns beside the features, each as an array; text as objects."""
    given: dict[str, Any] = {} if labels is None else {"label": labels}
    for name, column in {} if columns is None else dict(columns).items():
        if name in parts.OWN_COLUMNS:
            raise ValueError(
                f"columns: {name!r} is a column of the data set itself; give it another name"
            )
        given[str(name)] = column
    found = {}
    for name, column in given.items():
        array = np.asarray(column)
        if array.shape != (len(files),):
            raise ValueError(
                f"column {name!r} has shape {array.shape}, expected ({len(files)},): one value a "
                "path"
            )
        found[name] = _texts(array) if array.dtype.kind in "OUS" else array
    return found


def _texts(array: NDArray[Any]) -> NDArray[np.object_]:
    """Text as objects, of which none holds what is no text."""
    found = np.empty(len(array), object)
    found[:] = [as_text(one) if isinstance(one, str) else one for one in array.tolist()]
    return found


def _check_names(features: list[str], beside: Mapping[str, Any]) -> None:
    names = [*parts.OWN_COLUMNS, *(name for name in beside if name != "label"), *features]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the column {twice!r} would be there twice; rename that of columns=")


def _outcomes(
    work: Callable[..., Rows], todo: list[list[str]], n_jobs: int | None, done: int, of: int
) -> Iterator[Rows]:
    """Yield the rows of parts in their order, computed here or by joblib's workers."""
    if not spreads(n_jobs):
        for files in todo:
            yield work(files, tell=lambda n, before=done: tell_progress("file", before + n, of))
            done += len(files)
        return
    # No more than each worker is at, and as many that wait: rows of all would not fit.
    spread = Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    for files, found in zip(todo, spread(delayed(work)(files) for files in todo), strict=True):
        yield found
        done += len(files)
        tell_progress("file", done, of)


def _rows_of_part(
    fitted: Any,
    files: list[str],
    *,
    value_range: tuple[float, float] | None,
    width: int,
    tell: Callable[[int], None] = lambda _: None,
) -> Rows:
    """Rows and keys of those images that can be read, and why the others cannot."""
    rows = [np.empty((0, width), np.float32)]
    keys: list[bytes] = []
    lost: dict[int, str] = {}
    for start in range(0, len(files), _TOGETHER):
        chunk = as_images(files[start : start + _TOGETHER], value_range=value_range)
        found, found_keys, bad = _rows_of_readable(fitted, chunk)
        rows.append(found)
        keys += found_keys
        lost |= {start + i: why for i, why in bad.items()}
        tell(start + len(chunk))
    return np.concatenate(rows), keys, lost


def _rows_of_readable(fitted: Any, images: Images) -> Rows:
    """Images are looked at one by one only where something is wrong with any."""
    try:
        return *_rows_and_keys(fitted, images), {}
    except (ValueError, OSError):
        reasons = map_ahead(
            lambda i: _why_unreadable(images, i), range(len(images)), n_threads=n_threads()
        )
        lost = {i: why for i, why in enumerate(reasons) if why}
        if not lost:
            raise
    assert images.paths is not None
    kept = [path for i, path in enumerate(images.paths) if i not in lost]
    if not kept:
        return np.empty((0, len(fitted.get_feature_names_out())), np.float32), [], lost
    return *_rows_and_keys(fitted, as_images(kept, value_range=images.value_range)), lost


def _rows_and_keys(fitted: Any, images: Images) -> tuple[NDArray[np.float32], list[bytes]]:
    """Transform images, and note their keys as they are decoded, which is once."""
    keys: dict[int, bytes] = {}

    def read(i: int) -> NDArray:
        image = images[i]
        keys[i] = content_key(image)
        return image

    noting = Images(read, len(images), paths=images.paths, value_range=images.value_range)
    rows = np.asarray(fitted.transform(noting), dtype=np.float32)
    # What a store knows by its file was not even opened.
    for store in stores_of(fitted):
        left = [i for i in range(len(images)) if i not in keys]
        if not left:
            break
        stamps = images.stamps
        asked = [(i, stamp) for i in left if (stamp := stamps[i]) is not None]
        known = store.recall_files([stamp for _, stamp in asked])
        keys |= {i: key for (i, _), key in zip(asked, known, strict=True) if key is not None}
    left = [i for i in range(len(images)) if i not in keys]
    for i, key in zip(
        left,
        map_ahead(lambda i: content_key(images[i]), left, n_threads=n_threads()),
        strict=True,
    ):
        keys[i] = key
    return rows, [keys[i] for i in range(len(images))]


def _why_unreadable(images: Images, i: int) -> str:
    try:
        images[i]
    except (ValueError, OSError) as error:
        return str(error).removeprefix(f"images[{i}]").lstrip(": ")
    return ""


def _table(
    own: Mapping[str, list[Any]],
    beside: Mapping[str, pa.Array],
    kept: list[int],
    names: list[str],
    rows: NDArray[np.float32],
) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: pa.array(values, pa.string()) for name, values in own.items()}
    columns |= {name: column.take(pa.array(kept, pa.int64())) for name, column in beside.items()}
    by_feature = np.ascontiguousarray(rows.T)
    columns |= {name: pa.array(by_feature[i]) for i, name in enumerate(names)}
    return pa.table(columns)
