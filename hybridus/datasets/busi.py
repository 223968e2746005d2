"""BUSI: scans paired with masks in every layout it is spread in, and its curation table.

Al-Dhabyani et al. 2020 published it as class folders; redistributions move scans and masks into
``images`` and ``mask`` folders. One rule reads all of them.
"""

import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hybridus.datasets.groups import clean_groups, describe_groups, read_table
from hybridus.datasets.layout import MASK_STEM, images_and_masks, parts_of_a_split
from hybridus.datasets.listing import (
    class_counts,
    existing_folder,
    find_images,
    is_image,
    named_path,
    natural_key,
    object_array,
    quoted,
    subfolders,
    walk,
)
from hybridus.datasets.mask_files import read_mask_files

TARGET_NAMES = ("normal", "malignant", "benign")
_MASK_FOLDERS = frozenset({"mask", "masks"})
# Copies made by file managers, and masks that are not named as BUSI names them.
_NO_SCAN = re.compile(
    r"(?<![a-z])(copy|kopie|copie|copia|masks?|seg|segmentation|annotation|label|gt)(?![a-z])",
    re.IGNORECASE,
)
_OBJECTIONS = frozenset({"axilla", "multiclass", "needle"})  # of Pawlowska et al.
_CURATION_COLUMNS = ("busi_file", "group", "objection", "annotation")
_LAYOUT = (
    "the scans of BUSI: files such as 'benign/benign (1).png' with 'benign/benign (1)_mask.png' "
    "beside them, or the same in folders 'images' and 'mask'; the class (normal, malignant, "
    "benign) is the name of a folder or the first word of the file name"
)


@dataclass
class _Scan:
    """One image and the masks that belong to it, relative to the root."""

    label: int
    stem: str
    image: str | None = None
    masks: list[str] = field(default_factory=list)


def load_busi(
    path: str | os.PathLike[str],
    *,
    curation: str | os.PathLike[str] | None = None,
    exclude: Iterable[str] = (),
) -> Bunch:
    """Load the breast ultrasound scans of BUSI with their lesion masks.

    Scans are handed on as paths, which the estimators decode in batches; masks are decoded here.
    A file is a mask if one of its folders is called ``mask`` or ``masks`` or its name ends with
    ``_mask``, ``_mask_N``, ``_masks`` or ``_mask (N)``. The class is the innermost folder called
    normal, malignant or benign, else the first word of the file name. A mask belongs to the image
    of its class and name. So the original layout and those with ``images`` and ``mask`` folders
    all load.

    Parameters
    ----------
    path : str or Path
        Folder of the data set, for example ``Dataset_BUSI_with_GT``.
    curation : str or Path, default=None
        CSV table with a row for each image and the columns ``busi_file`` (name without suffix,
        such as ``benign (1)``), ``group`` (the same for duplicates of one scan), ``objection`` and
        ``annotation`` (empty, or terms joined by ``&``).
    exclude : iterable of str, default=()
        Images with one of these objections are left out, for example ``("multiclass",)``, the
        duplicates that stand in two classes and so have no right answer. Needs `curation`.

    Returns
    -------
    sklearn.utils.Bunch
        - ``images`` : ndarray of shape (n_samples,), dtype object, paths as str.
        - ``masks`` : ndarray of shape (n_samples,), dtype object, each a bool array (H, W), True
          in the lesion; see `hybridus.inputs.masks.read_mask`. Several masks of one image are
          OR-ed.
        - ``target`` : ndarray of shape (n_samples,), int: 0 normal, 1 malignant, 2 benign.
        - ``target_names`` : list of str, ``["normal", "malignant", "benign"]``.
        - ``filenames`` : list of str, paths relative to `path`, with ``/`` on every system.
        - ``excluded`` : list of str, the filenames of images left out for an objection.
        - ``groups`` : ndarray of shape (n_samples,), dtype object, str; None without `curation`.
        - ``objections``, ``annotations`` : ndarray of shape (n_samples,), dtype object, str
          (empty where there is none); None without `curation`.
        - ``DESCR`` : str.

        Rows stand in the order of their class, then in natural order of their names.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `path` is not a folder or `curation` is not there.
    ValueError
        If there are no such images; an image stands twice; a mask has no image or a lesion no
        mask; sizes differ; a file cannot be read; the mask of a normal scan marks a lesion; the
        table lacks columns or rows; an objection is unknown. If a file is named neither like a
        scan nor like a mask (``benign (1) - Copy.png``), which would else count as a scan.

    Warns
    -----
    UserWarning
        If images without a class or in forms that are not read were passed over, all masks of a
        lesion are empty, masks look odd (see `read_mask`), or the parts of a split are loaded
        together.

    References
    ----------
    Al-Dhabyani, Gomaa, Khaled and Fahmy, "Dataset of breast ultrasound images", Data in Brief 28,
    104863, 2020. doi:10.1016/j.dib.2019.104863

    Pawlowska, Karwat and Zolek, "Re: Dataset of breast ultrasound images", Data in Brief 48,
    109247, 2023. doi:10.1016/j.dib.2023.109247

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from hybridus.datasets import load_busi
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["benign (1).png", "benign (1)_mask.png", "normal (1).png"]:
    ...         Image.new("L", (8, 6), 255).save(pathlib.Path(folder, name))
    ...     busi = load_busi(folder)
    >>> busi.filenames, busi.target.tolist(), [int(mask.sum()) for mask in busi.masks]
    (['normal (1).png', 'benign (1).png'], [0, 2], [0, 48])
    """
    if isinstance(exclude, str):
        exclude = (exclude,)
    excluded = set(exclude)
    if excluded and curation is None:
        raise ValueError(
            f"exclude={sorted(excluded)} needs curation=, the table that lists the objections"
        )
    root = existing_folder(path, _LAYOUT)
    scans = _find_scans(root)
    table, left_out = None, []
    if curation is not None:
        curated = _read_curation(named_path(curation, "the curation table of BUSI"))
        objected = _files_with_objection(curated, excluded)
        _check_listed(curated, scans)
        left_out = [str(scan.image) for scan in scans if _name(scan) in objected]
        scans = [scan for scan in scans if _name(scan) not in objected]
        table = curated.loc[[_name(scan) for scan in scans]]
    filenames = [str(scan.image) for scan in scans]
    target = np.array([scan.label for scan in scans], dtype=np.intp)
    return Bunch(
        images=object_array(str(root / file) for file in filenames),
        masks=_read_masks(root, scans),
        target=target,
        target_names=list(TARGET_NAMES),
        filenames=filenames,
        excluded=left_out,
        groups=None if table is None else object_array(table["group"]),
        objections=None if table is None else object_array(table["objection"]),
        annotations=None if table is None else object_array(table["annotation"]),
        DESCR=_describe(root, target, table),
    )


def list_busi(path: str | os.PathLike[str]) -> Bunch:
    """Pair the scans of BUSI with the files of their masks as `load_busi` does; read none.

    Returns
    -------
    sklearn.utils.Bunch
        ``images``, ``target``, ``target_names`` and ``filenames`` as there; ``root``;
        ``mask_files``, a list of paths relative to it for each image, which may be empty.
    """
    root = existing_folder(path, _LAYOUT)
    scans = _find_scans(root)
    filenames = [str(scan.image) for scan in scans]
    return Bunch(
        root=root,
        images=object_array(str(root / file) for file in filenames),
        mask_files=[scan.masks for scan in scans],
        target=np.array([scan.label for scan in scans], dtype=np.intp),
        target_names=list(TARGET_NAMES),
        filenames=filenames,
    )


def looks_like_busi(folder: str | os.PathLike[str]) -> bool:
    """Whether masks lie beside the scans of BUSI's classes, or in a folder beside their images."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        return False
    folders = {name.casefold(): name for name in subfolders(root)}
    if images_and_masks(folders):
        images = [file for file in walk(root) if is_image(file)]
        return bool(images) and all(_label(PurePosixPath(file)) is not None for file in images)
    return folders.keys() >= set(TARGET_NAMES) and any(
        _role(PurePosixPath(file))[1] for file in walk(root / folders["malignant"])
    )


def _find_scans(root: Path) -> list[_Scan]:
    """Pair every image under `root` with its masks, in the order of the rows."""
    scans: dict[tuple[int, str], _Scan] = {}
    unlabelled = []
    for file in find_images(root):
        stem, is_mask = _role(PurePosixPath(file))
        label = _label(PurePosixPath(file))
        if label is None:
            unlabelled.append(file)
            continue
        if not is_mask and _NO_SCAN.search(stem):
            raise ValueError(
                f"{root}: {file!r} is named neither like a scan nor like a mask (a copy, or a mask "
                f"of another name?); remove it, or name masks {'NAME_mask'!r} or {'NAME_mask_1'!r}"
            )
        scan = scans.setdefault((label, stem.casefold()), _Scan(label, stem))
        if is_mask:
            scan.masks.append(file)
        elif scan.image is None:
            scan.image, scan.stem = file, stem
        else:
            raise ValueError(
                f"{root}: two images have one class and name: {scan.image!r} and {file!r}; "
                "keep one of them"
            )
    if not any(scan.image for scan in scans.values()):
        raise ValueError(f"{root}: no images found in this layout; expected {_LAYOUT}")
    if unlabelled:
        warnings.warn(
            f"{root}: passed over {len(unlabelled)} image file(s) without a class (first: "
            f"{unlabelled[0]!r}); {_LAYOUT.rpartition('; ')[2]}",
            UserWarning,
            stacklevel=3,
        )
    _warn_of_parts(root, [str(scan.image) for scan in scans.values() if scan.image])
    _check_pairs(root, scans.values())
    return sorted(scans.values(), key=lambda scan: (scan.label, natural_key(str(scan.image))))


def _warn_of_parts(root: Path, images: Iterable[str]) -> None:
    parts = parts_of_a_split({folder for file in images for folder in file.split("/")[:-1]})
    if parts:
        warnings.warn(
            f"{root}: {quoted(sorted(parts))} look like the parts of a split, and are loaded "
            "together; give the folder of one part to load it alone",
            UserWarning,
            stacklevel=4,
        )


def _role(file: PurePosixPath) -> tuple[str, bool]:
    """Name that an image shares with its masks, and whether the file is a mask."""
    suffixed = MASK_STEM.fullmatch(file.stem)
    if suffixed:
        return suffixed["image"], True
    return file.stem, any(part.casefold() in _MASK_FOLDERS for part in file.parts[:-1])


def _label(file: PurePosixPath) -> int | None:
    first_word = re.split(r"[^a-z]", file.stem.casefold(), maxsplit=1)[0]
    for word in [*(part.casefold() for part in reversed(file.parts[:-1])), first_word]:
        if word in TARGET_NAMES:
            return TARGET_NAMES.index(word)
    return None


def _check_pairs(root: Path, scans: Iterable[_Scan]) -> None:
    for scan in scans:
        name = TARGET_NAMES[scan.label]
        if scan.image is None:
            raise ValueError(
                f"{root}: the mask {scan.masks[0]!r} has no image: expected a {name} image called "
                f"{scan.stem!r}"
            )
        if not scan.masks and name != "normal":
            raise ValueError(
                f"{root}: the {name} image {scan.image!r} has no mask: expected a file called "
                f"{scan.stem + '_mask'!r} beside it, or {scan.stem!r} in a folder 'mask'"
            )


def _read_masks(root: Path, scans: Sequence[_Scan]) -> np.ndarray:
    """OR of all masks of each image, at the size of the image."""
    lesions = read_mask_files(root, [str(scan.image) for scan in scans], [s.masks for s in scans])
    bare = []
    for scan, lesion in zip(scans, lesions, strict=True):
        if scan.label == 0 and lesion.any():
            raise ValueError(
                f"{root}: the normal image {scan.image!r} has a mask that marks {lesion.sum()} "
                f"pixels as lesion ({scan.masks[0]!r}); correct its class or its mask"
            )
        if scan.label != 0 and not lesion.any():
            bare.append(f"{TARGET_NAMES[scan.label]} image {scan.image!r}")
    if bare:
        warnings.warn(
            f"{root}: all masks of the {bare[0]} are empty ({len(bare)} lesion(s) have such masks)",
            UserWarning,
            stacklevel=3,
        )
    return lesions


def _read_curation(file: Path) -> pd.DataFrame:
    """Curation table with the file names as index."""
    table = pd.DataFrame(read_table(file, _CURATION_COLUMNS), dtype=object)
    table = table.set_index("busi_file")[list(_CURATION_COLUMNS[1:])]
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise ValueError(f"{file}: {twice[0]!r} has more than one row; keep one")
    table["group"] = clean_groups(file, list(table.index), list(table["group"]))
    return table


def _terms(objection: str) -> set[str]:
    return {term.strip().casefold() for term in objection.split("&")} - {""}


def _files_with_objection(table: pd.DataFrame, excluded: set[str]) -> set[str]:
    terms = {str(file): _terms(text) for file, text in table["objection"].items()}
    known = _OBJECTIONS.union(*terms.values())
    if excluded - known:
        raise ValueError(
            f"exclude has unknown objection(s) {sorted(excluded - known)}; there are "
            f"{sorted(known)}"
        )
    return {file for file, objections in terms.items() if objections & excluded}


def _name(scan: _Scan) -> str:
    """Name of a scan as tables have it."""
    return unicodedata.normalize("NFC", scan.stem)


def _check_listed(table: pd.DataFrame, scans: list[_Scan]) -> None:
    unlisted = [_name(scan) for scan in scans if _name(scan) not in table.index]
    if unlisted:
        raise ValueError(
            f"the curation table has no row for {len(unlisted)} of {len(scans)} images, the first "
            f"of them {unlisted[0]!r}; its column busi_file holds file names without their suffix"
        )


def _describe(root: Path, target: np.ndarray, table: pd.DataFrame | None) -> str:
    groups = (
        "No table of duplicates was given: folds that ignore them flatter every model."
        if table is None
        else f"Duplicates: {describe_groups(table['group'])}. Curation: Pawlowska et al. 2023, "
        "doi:10.1016/j.dib.2023.109247."
    )
    return (
        f"BUSI, breast ultrasound images with lesion masks: {len(target)} scans from {root}\n\n"
        f"{class_counts(target, TARGET_NAMES)}\n\n{groups}\n\n"
        "Source: Al-Dhabyani, Gomaa, Khaled and Fahmy, Dataset of breast ultrasound images, "
        "Data in Brief 28, 104863, 2020, doi:10.1016/j.dib.2019.104863.\n"
        "For research; not for diagnosis.\n"
    )
