"""Lazy collections of Dask: images that are encoded when, and where, somebody asks for them.

The one module that knows Dask, by the names of its types and by their own methods: it imports
nothing of it, so that hybridus neither needs nor loads it.
"""

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_FORMS = "expected a Dask array of images or of paths, or a Series or one column of paths"


class Transformer(Protocol):
    """What turns images into rows."""

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute the rows of images."""


def runs_in_task() -> bool:
    """Whether this thread does a task of a Dask worker."""
    known = sys.modules.get("distributed.utils")
    return hasattr(getattr(known, "thread_state", None), "execution_state")


def is_lazy(X: Any) -> bool:
    """Whether X is a collection of Dask's."""
    return type(X).__module__.partition(".")[0] in ("dask", "dask_expr")


def example_of(X: Any) -> Any:
    """Return images in memory of the form that a lazy collection has; nothing is computed.

    Raises
    ------
    ValueError
        Where the collection has no form of images.
    """
    if type(X).__name__.startswith("Delayed"):  # which says yes to everything
        raise ValueError(f"{_FORMS}; got a Delayed of Dask, whose form is unknown")
    if _is_array(X):
        if X.ndim == 1 and X.dtype.kind in "OUST":
            return ["path"]
        if X.ndim < 2 or any(np.isnan(side) for side in X.shape[1:]):
            raise ValueError(f"{_FORMS}; got a Dask array of shape {X.shape} and type {X.dtype}")
        return np.zeros((1, *X.shape[1:]), X.dtype)
    if not hasattr(X, "map_partitions") or not hasattr(X, "divisions"):
        raise ValueError(f"{_FORMS}; got {type(X).__name__} of Dask")
    if X.ndim == 2 and len(X.columns) != 1:
        raise ValueError(
            f"{_FORMS}; got {len(X.columns)} columns of a Dask DataFrame ({list(X.columns)!r:.60})"
        )
    if X.ndim == 1 and X.dtype.kind in "biufc":
        raise ValueError(f"{_FORMS}; got a Dask Series of {X.dtype}")
    return ["path"]


def transform_lazily(transformer: Transformer, X: Any, names: Sequence[str]) -> Any:
    """Return a lazy collection of the rows of a lazy collection of images.

    Parameters
    ----------
    transformer : transformer
        Goes to every worker.
    X : Dask array, Series or DataFrame
    names : sequence of str
        Of the columns.

    Returns
    -------
    Dask array of shape (n_images, n_features), or DataFrame with the index of X; float32
    """
    if _is_array(X):
        whole = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))  # no image in two blocks
        axes = {"drop_axis": list(range(2, X.ndim))} if X.ndim > 1 else {"new_axis": 1}
        return whole.map_blocks(
            _rows_of_block,
            transformer,
            len(names),
            dtype=np.float32,
            chunks=(X.chunks[0], (len(names),)),
            meta=np.empty((0, 0), np.float32),
            **axes,
        )
    empty = pd.DataFrame(np.empty((0, len(names)), np.float32), columns=list(names))
    return X.map_partitions(_frame_of_part, transformer, list(names), meta=empty)


def _is_array(X: Any) -> bool:
    return hasattr(X, "map_blocks") and hasattr(X, "rechunk")


def _rows_of_block(
    block: NDArray, transformer: Transformer, width: int, block_info: Any = None
) -> NDArray[np.float32]:
    if not len(block):
        return np.empty((0, width), np.float32)
    try:
        return transformer.transform(block)
    except ValueError as error:
        if block_info:
            number = block_info[0]["chunk-location"][0]
            start = block_info[0]["array-location"][0][0]
            error.add_note(f"in block {number} of the Dask array, which begins at image {start}")
        raise


def _frame_of_part(
    part: Any, transformer: Transformer, names: list[str], partition_info: Any = None
) -> pd.DataFrame:
    if not len(part):
        rows = np.empty((0, len(names)), np.float32)
    else:
        try:
            rows = transformer.transform(part)
        except ValueError as error:
            if partition_info:
                error.add_note(f"in partition {partition_info['number']} of the Dask collection")
            raise
    return pd.DataFrame(rows, index=part.index, columns=names)
