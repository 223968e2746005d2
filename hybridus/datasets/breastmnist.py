"""BreastMNIST: the archive of MedMNIST with its official split."""

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from hybridus.datasets.groups import clean_groups, describe_groups, read_table
from hybridus.datasets.listing import class_counts, named_path, object_array

TARGET_NAMES = ("malignant", "normal or benign")
_PARTS = ("train", "val", "test")
_COLUMNS = ("breastmnist_split", "breastmnist_index", "group")


def load_breastmnist(
    path: str | os.PathLike[str], *, curation: str | os.PathLike[str] | None = None
) -> Bunch:
    """Load BreastMNIST: BUSI scans cut square and brought down, in two classes, split officially.

    Parameters
    ----------
    path : str or Path
        The archive, ``breastmnist.npz``, or one of the larger sizes, ``breastmnist_224.npz``.
    curation : str or Path, default=None
        CSV table that tells which images are duplicates, with the columns ``breastmnist_split``
        (train, val or test), ``breastmnist_index`` (place in that part, from 0) and ``group``.

    Returns
    -------
    sklearn.utils.Bunch
        - ``images`` : ndarray of shape (780, 28, 28), uint8: the parts train, val and test, one
          after another, in their order.
        - ``target`` : ndarray of shape (780,), int: 0 malignant, 1 normal or benign, as MedMNIST
          codes them.
        - ``target_names`` : list of str.
        - ``split`` : ndarray of shape (780,), str, "train", "val" or "test".
        - ``groups`` : ndarray of shape (780,), dtype object, str; None without `curation`. Of the
          156 test images 60 have a duplicate in train: figures on all of them flatter.
        - ``DESCR`` : str.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If the archive is not of this form, or the table lacks a column or an image.

    References
    ----------
    Yang et al., "MedMNIST v2", Scientific Data 10, 41, 2023. doi:10.1038/s41597-022-01721-8. Made
    of BUSI; see `load_busi`.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from hybridus import load_breastmnist
    >>> arrays = {}
    >>> for part in ("train", "val", "test"):
    ...     arrays[f"{part}_images"] = np.zeros((2, 28, 28), np.uint8)
    ...     arrays[f"{part}_labels"] = np.array([[0], [1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/breastmnist.npz", **arrays)
    ...     load_breastmnist(f"{folder}/breastmnist.npz").split.tolist()
    ['train', 'train', 'val', 'val', 'test', 'test']
    """
    file = named_path(path, "the archive of BreastMNIST")
    images, labels = _read(file)
    target = np.concatenate(labels)
    split = np.repeat(_PARTS, [len(part) for part in labels])
    groups = None
    if curation is not None:
        parts = zip(_PARTS, labels, strict=True)
        places = [(part, k) for part, of_part in parts for k in range(len(of_part))]
        groups = _groups(named_path(curation, "the table of duplicates"), places)
    told = (
        "No table of duplicates was given: 60 of the 156 test images have a twin in train."
        if groups is None
        else f"Duplicates: {describe_groups(groups)}."
    )
    counts = ", ".join(f"{part} {len(of)}" for part, of in zip(_PARTS, labels, strict=True))
    return Bunch(
        images=np.concatenate(images),
        target=target,
        target_names=list(TARGET_NAMES),
        split=split,
        groups=None if groups is None else object_array(groups),
        DESCR=(
            f"BreastMNIST from {file}: {counts}\n\n{class_counts(target, TARGET_NAMES)}\n\n{told}\n"
            "Source: Yang et al., MedMNIST v2, Scientific Data 10, 41, 2023, made of BUSI "
            "(Al-Dhabyani et al. 2020); CC BY 4.0.\nFor research; not for diagnosis.\n"
        ),
    )


def _read(file: Path) -> tuple[list[NDArray], list[NDArray]]:
    if not file.is_file():
        raise FileNotFoundError(f"no archive {str(file)!r}: expected breastmnist.npz of MedMNIST")
    try:
        with np.load(file, allow_pickle=False) as stored:
            images = [stored[f"{part}_images"] for part in _PARTS]
            labels = [stored[f"{part}_labels"].reshape(-1) for part in _PARTS]
    except (KeyError, ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{str(file)!r} is no archive of BreastMNIST ({error}): expected arrays train_images, "
            "train_labels and so on for val and test"
        ) from error
    for part, pixels, codes in zip(_PARTS, images, labels, strict=True):
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or len(pixels) != len(codes):
            raise ValueError(
                f"{str(file)!r}: {part}_images has shape {pixels.shape} and type {pixels.dtype} "
                f"for {len(codes)} labels, expected (n, height, width) of uint8"
            )
        if not np.isin(codes, (0, 1)).all():
            raise ValueError(
                f"{str(file)!r}: {part}_labels has the values {np.unique(codes).tolist()[:5]}, "
                "expected 0 (malignant) and 1 (normal or benign): another data set of MedMNIST?"
            )
    return images, [codes.astype(np.intp) for codes in labels]


def _groups(table: Path, places: list[tuple[str, int]]) -> list[str]:
    """Group of each image by its place in the official split."""
    rows = read_table(table, _COLUMNS)
    names = [f"{row['breastmnist_split']} {row['breastmnist_index']}" for row in rows]
    cleaned = clean_groups(table, names, [row["group"] for row in rows])
    known = dict(zip(names, cleaned, strict=True))
    missing = [f"{part} {k}" for part, k in places if f"{part} {k}" not in known]
    if missing:
        raise ValueError(
            f"{table}: no row for {len(missing)} of {len(places)} images, the first of them "
            f"{missing[0]!r} (breastmnist_split and breastmnist_index)"
        )
    return [known[f"{part} {k}"] for part, k in places]
