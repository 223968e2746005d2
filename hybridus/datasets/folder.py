"""Images in class folders, and what is no such folder although it looks like one."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from hybridus.datasets.layout import MASK_STEM, images_and_masks, parts_of_a_split
from hybridus.datasets.listing import (
    class_counts,
    existing_folder,
    find_images,
    is_image,
    natural_key,
    object_array,
    quoted,
    subfolders,
)
from hybridus.inputs.dicom_paths import Crop, Frame, dicom_paths


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    class_names: Iterable[str] | None = None,
    split: str | None = None,
    frame: Frame | None = None,
    crop: Crop | None = None,
) -> Bunch:
    """Load any folder of class folders; the images stay on disk and are handed on as paths.

    Parameters
    ----------
    path : str or Path
        Folder with one sub-folder a class; each class folder is searched with all its
        sub-folders. Hidden files and those without the suffix of an image (``.png``, ``.jpg``,
        ``.tif``, ``.bmp``, ``.webp``, ``.dcm``, ... in any case) are passed over, but for those
        without suffix whose bytes say DICOM.
    class_names : iterable of str, default=None
        Class folders to load, in the order of their codes 0, 1, ...; None takes all of them in
        natural order.
    split : str, default=None
        The part to load of a data set that is split already, such as ``"train"``: a folder of that
        name in `path` that holds the class folders, or one in each of the class folders.
    frame : int, "first" or "middle", default=None
        Frame of DICOM files, counted from 1; see `hybridus.dicom_path`.
    crop : "ultrasound", default=None
        Region of DICOM files to keep; see `hybridus.dicom_path`.

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
        `class_names` names a folder twice or one that is not there. If the folders are the parts
        of a split (train, test) or images and masks instead of classes, or one class lies in
        another: the message says how to load them.

    Warns
    -----
    UserWarning
        If files are named like lesion masks (``x_mask.png``), which are no images of a class;
        images beside the class folders or in forms that are not read were passed over; or folders
        in class folders may be what the classes are.

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
    base, below = _place_of_split(root, split)
    names = _class_folders(base, class_names)
    found = [find_images(base / name / below) for name in names]
    empty = [name for name, files in zip(names, found, strict=True) if not files]
    if empty:
        raise ValueError(
            f"{base}: no image files in class folder(s) {quoted(empty)}; remove them, or name the "
            "class folders to load in class_names"
        )
    _check_inside(base, names, found)
    filenames = [
        (base / name / below / file).relative_to(root).as_posix()
        for name, files in zip(names, found, strict=True)
        for file in files
    ]
    _warn_of_masks(root, filenames)
    target = np.repeat(np.arange(len(names)), [len(files) for files in found])
    part = "" if split is None else f" ({split})"
    return Bunch(
        images=object_array(
            dicom_paths([str(root / file) for file in filenames], frame=frame, crop=crop)
        ),
        target=target,
        target_names=names,
        filenames=filenames,
        groups=None,
        DESCR=f"{len(target)} images from the class folders of {root}{part}\n\n"
        f"{class_counts(target, names)}\n",
    )


def _place_of_split(root: Path, split: str | None) -> tuple[Path, str]:
    """Folder that holds the class folders, and the folder in each of them that is to be loaded."""
    if split is None:
        return root, ""
    names = subfolders(root)
    if split in names:
        return root / split, ""
    lacking = [name for name in names if not split or not (root / name / split).is_dir()]
    if lacking or not names:
        raise ValueError(
            f"{root}: split={split!r} is neither one of its folders ({quoted(names)}) nor a folder "
            f"in each of them"
        )
    return root, split


def _class_folders(root: Path, class_names: Iterable[str] | None) -> list[str]:
    folders = subfolders(root)
    if isinstance(class_names, str):
        raise ValueError(f"class_names={class_names!r} is one text; give a list of folder names")
    if class_names is None:
        _refuse_other_layouts(root, folders)
    names = folders if class_names is None else [str(name) for name in class_names]
    absent = [name for name in names if name not in folders]
    if absent:
        raise ValueError(
            f"{root}: class_names has {quoted(absent)}, which are no class folders; "
            f"there are {quoted(folders)}"
        )
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"class_names has {quoted(twice)} more than once")
    if len(names) < 2:
        inside = subfolders(root / names[0]) if names else []
        hint = f". {str(root / names[0])!r} holds {quoted(inside)}: load that?" if inside else ""
        raise ValueError(
            f"{root}: found {len(names)} class folder(s) ({quoted(names)}); expected "
            f"two or more sub-folders, one for each class, with images in them{hint}"
        )
    beside = [file.name for file in root.iterdir() if is_image(file.name) and file.is_file()]
    if beside:
        warnings.warn(
            f"{root}: passed over {len(beside)} image(s) beside the class folders (first: "
            f"{min(beside, key=natural_key)!r})",
            UserWarning,
            stacklevel=3,
        )
    return names


def _refuse_other_layouts(root: Path, folders: Sequence[str]) -> None:
    parts = parts_of_a_split(folders)
    if parts:
        raise ValueError(
            f"{root}: {quoted(parts)} are the parts of a split, not classes; load one of them with "
            f"split={parts[-1]!r} (or name them in class_names if they are classes)"
        )
    pair = images_and_masks(folders)
    if pair is not None:
        raise ValueError(
            f"{root}: {quoted(pair)} hold images and their masks, not classes; load them with "
            f"{_segmentation_call(root, *pair)} (or name them in class_names if they are classes)"
        )


def _segmentation_call(root: Path, images: str, masks: str) -> str:
    folders = f"images={str(root / images)!r}, masks={str(root / masks)!r}"
    return f"load_segmentation_folder({folders})"


def _check_inside(root: Path, names: Sequence[str], found: Sequence[Sequence[str]]) -> None:
    """Refuse or question folders in the class folders that may be something else."""
    classes = {name.casefold(): name for name in names}
    inside: dict[str, list[str]] = {}
    for name, files in zip(names, found, strict=True):
        inner = list(dict.fromkeys(file.partition("/")[0] for file in files if "/" in file))
        inside[name] = inner
        others = [classes[word] for each in inner if (word := each.casefold()) in classes]
        if any(other != name for other in others):
            raise ValueError(
                f"{root}: the class folder {name!r} holds the folder of another class "
                f"({quoted(other for other in others if other != name)}); move it beside {name!r}, "
                "or load the folder whose sub-folders are the classes"
            )
        parts = parts_of_a_split(inner)
        if parts:
            raise ValueError(
                f"{root}: the class folder {name!r} holds the parts of a split ({quoted(parts)}); "
                f"load one of them with split={parts[-1]!r}"
            )
        pair = images_and_masks(inner)
        if pair is not None:
            raise ValueError(
                f"{root}: the class folder {name!r} holds images and their masks ({quoted(pair)}); "
                f"load each class with {_segmentation_call(root / name, *pair)}"
            )
        n_deep = sum("/" in file for file in files)
        if 0 < n_deep < len(files):
            _warn_of_folders(root, f"{name!r} holds images and, beside them, {quoted(inner)}")
    common = set(inside[names[0]])
    if len(common) > 1 and all(set(inner) == common for inner in inside.values()):
        _warn_of_folders(root, f"every class folder holds {quoted(inside[names[0]])}")


def _warn_of_folders(root: Path, what: str) -> None:
    warnings.warn(
        f"{root}: {what}; the images in these folders count to the class folder they lie in. If "
        "the folders are classes themselves, load the folder that holds them",
        UserWarning,
        stacklevel=4,
    )


def _warn_of_masks(root: Path, filenames: list[str]) -> None:
    masks = [file for file in filenames if MASK_STEM.fullmatch(Path(file).stem)]
    if masks:
        warnings.warn(
            f"{root}: {len(masks)} of {len(filenames)} files are named like masks, not images of a "
            f"class (first: {masks[0]!r}); load scans with masks with load_segmentation_folder("
            f"images={str(root)!r}, masks={str(root)!r}), those of BUSI with load_busi",
            UserWarning,
            stacklevel=3,
        )
