"""Images with masks in folders of any name: how the name of a mask tells whose mask it is."""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from sklearn.utils import Bunch

from hybridus.datasets.layout import parts_of_a_split
from hybridus.datasets.listing import (
    IMAGE_SUFFIXES,
    class_counts,
    existing_folder,
    find_images,
    natural_key,
    object_array,
    quoted,
)
from hybridus.datasets.mask_files import read_mask_files
from hybridus.inputs.dicom import crop_as_image
from hybridus.inputs.dicom_paths import Crop, Frame, dicom_paths

# "scan_mask", "scan-seg", "scan (1)_mask_1", "scan_Annotation", "scan_segmentation (2)"
_USUAL_MASK = re.compile(
    r"(?P<name>.+?)[_ -](?:masks?|seg|segmentation|annotation|label|gt|ground_?truth)"
    r"(?:[_ -]?\(?\d+\)?)?",
    re.IGNORECASE,
)
_NAME = "{name}"

_Key = tuple[str, str]  # folder below the root, and name, both without regard to case


def load_segmentation_folder(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    *,
    pattern: str | tuple[str, str] | None = None,
    without_mask: str = "error",
    frame: Frame | None = None,
    crop: Crop | None = None,
) -> Bunch:
    """Load images and their lesion masks from folders of any name.

    Images are handed on as paths, which the estimators decode in batches; masks are decoded here.
    Both folders are searched with their sub-folders, and a mask belongs to an image in the same
    sub-folder, by its name. Every mask must have an image.

    Parameters
    ----------
    images, masks : str or Path
        Folder of the images and folder of the masks; they may be one and the same.
    pattern : str or (str, str), default=None
        How a mask is named after its image, such as ``"{name}_Annotation"``: ``{name}`` stands for
        the name of the image without suffix, ``*`` for any text, so ``"{name}_mask*"`` finds all
        masks of an image. With a suffix (``"{name}.png"``) only such files are masks. Where a part
        of the image's name goes as well, give two patterns, for image and mask:
        ``("scan_{name}", "lesion_{name}")``. None takes the same name, and ``{name}_mask``,
        ``{name}-seg``, ``{name}_mask_2`` and their like. Case does not count.
    without_mask : {"error", "empty"}, default="error"
        What images without a mask are: an error, or images without lesion, whose mask is empty.
    frame : int, "first" or "middle", default=None
        Frame of DICOM files, counted from 1; see `hybridus.dicom_path`.
    crop : "ultrasound", default=None
        Region of DICOM files to keep; see `hybridus.dicom_path`. Masks have the size of the whole
        image and are cropped with it.

    Returns
    -------
    sklearn.utils.Bunch
        - ``images`` : ndarray of shape (n_samples,), dtype object, paths as str.
        - ``masks`` : ndarray of shape (n_samples,), dtype object, each a bool array (H, W), True
          in the lesion; see `hybridus.inputs.masks.read_mask`. Several masks of one image are
          OR-ed.
        - ``target`` : ndarray of shape (n_samples,), int, position in ``target_names``, where
          every image lies in one of several sub-folders, which are the classes; else None.
        - ``target_names`` : list of str, names of these sub-folders, or None.
        - ``filenames`` : list of str, paths relative to `images`, with ``/`` on every system.
        - ``groups`` : None; a folder does not tell who is a duplicate of whom.
        - ``DESCR`` : str.

        Rows stand in natural order of their names (``scan 2`` before ``scan 10``).

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `images` or `masks` is not a folder.
    ValueError
        If there are no images or masks; a mask has no image, an image no mask; two images have one
        name; sizes differ; a file cannot be read or is no mask; the sub-folders are the parts of
        a split; or `pattern` lacks ``{name}``.

    Warns
    -----
    UserWarning
        If masks look odd; see `hybridus.inputs.masks.read_mask`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from hybridus.datasets import load_segmentation_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["scans/1.jpg", "scans/2.jpg", "outlines/1_HC.png", "outlines/2_HC.png"]:
    ...         file = pathlib.Path(folder, name)
    ...         file.parent.mkdir(exist_ok=True)
    ...         Image.new("L", (8, 6), 255).save(file)
    ...     data = load_segmentation_folder(
    ...         f"{folder}/scans", f"{folder}/outlines", pattern="{name}_HC"
    ...     )
    >>> data.filenames, [int(mask.sum()) for mask in data.masks]
    (['1.jpg', '2.jpg'], [48, 48])
    """
    if without_mask not in ("error", "empty"):
        raise ValueError(f"without_mask={without_mask!r}: expected 'error' or 'empty'")
    listed = list_segmentation_folder(images, masks, pattern=pattern)
    bare = [
        name for name, found in zip(listed.filenames, listed.mask_files, strict=True) if not found
    ]
    if bare and without_mask == "error":
        raise ValueError(
            f"{listed.root}: {len(bare)} of {len(listed.filenames)} images have no mask in "
            f"{masks}, first {bare[0]!r}; images without lesion may go without one with "
            "without_mask='empty'"
        )
    paths = dicom_paths(listed.images, frame=frame, crop=crop)
    decoded = read_mask_files(listed.root, listed.filenames, listed.mask_files)
    if crop is not None:
        decoded = object_array(
            crop_as_image(path, mask) for path, mask in zip(paths, decoded, strict=True)
        )
    target, names = listed.target, listed.target_names
    n_empty = sum(not mask.any() for mask in decoded)
    counts = "" if target is None or names is None else f"\n\n{class_counts(target, names)}"
    return Bunch(
        images=object_array(paths),
        masks=decoded,
        target=target,
        target_names=names,
        filenames=listed.filenames,
        groups=None,
        DESCR=f"{len(decoded)} images from {listed.root} with masks from {masks}, "
        f"{n_empty} of them without lesion{counts}\n",
    )


def list_segmentation_folder(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    *,
    pattern: str | tuple[str, str] | None = None,
) -> Bunch:
    """Pair images with the files of their masks as `load_segmentation_folder` does; read none.

    Returns
    -------
    sklearn.utils.Bunch
        ``images``, ``target``, ``target_names`` and ``filenames`` as there; ``root``, the folder of
        the images; ``mask_files``, a list of absolute paths for each image, which may be empty.
    """
    naming = _Naming(pattern)
    image_root = existing_folder(images, "a folder of images")
    mask_root = existing_folder(masks, "a folder of masks")
    image_files, mask_files = _list(image_root, mask_root, naming)
    pairs = _pair(image_root, mask_root, image_files, mask_files, naming)
    filenames = list(pairs)
    target, names = _classes(image_root, filenames)
    return Bunch(
        root=image_root,
        images=object_array(str(image_root / file) for file in filenames),
        # Absolute, since a relative path would be looked for among the images.
        mask_files=[
            [str(mask_root.absolute() / mask) for mask in found] for found in pairs.values()
        ],
        target=target,
        target_names=names,
        filenames=filenames,
    )


class _Naming:
    """How masks are named after images."""

    def __init__(self, pattern: str | tuple[str, str] | None) -> None:
        parts = (_NAME, pattern) if pattern is None or isinstance(pattern, str) else pattern
        if len(parts) != 2 or any(part is not None and part.count(_NAME) != 1 for part in parts):
            raise ValueError(
                f"pattern={pattern!r}: expected a text with {_NAME} once in it, such as "
                f"'{_NAME}_mask*', or two of them, for image and mask"
            )
        self.image, self.mask = parts

    def name_of(self, image: str) -> _Key | None:
        """Return what masks call an image: its folder, and the part of its name that counts."""
        folder, text = _key(image, self.image)
        before, _, after = self.image.casefold().partition(_NAME)
        found = re.fullmatch(f"{_glob(before)}(?P<name>.+?){_glob(after)}", text)
        return (folder, found["name"]) if found else None

    def names_in(self, mask: str) -> Iterator[_Key]:
        """Names of images that a mask may belong to, the likeliest first."""
        folder, text = _key(mask, self.mask or _NAME)
        if self.mask is None:
            yield folder, text
            usual = _USUAL_MASK.fullmatch(text)
            if usual:
                yield folder, usual["name"]
            return
        before, _, after = self.mask.casefold().partition(_NAME)
        anywhere = range(len(text) + 1)
        spans = [
            (start, end)
            for start in (anywhere if "*" in before else [len(before)])
            for end in (anywhere if "*" in after else [len(text) - len(after)])
            if start < end
            and re.fullmatch(_glob(before), text[:start])
            and re.fullmatch(_glob(after), text[end:])
            and not (after.startswith("*") and _splits_number(text, end))
            and not (before.endswith("*") and _splits_number(text, start))
        ]
        for start, end in sorted(spans, key=lambda span: span[0] - span[1]):
            yield folder, text[start:end]

    def says_mask(self, file: str) -> bool:
        """Whether a file is named like a mask, also if there is no image of that name."""
        if self.mask is None:
            return _USUAL_MASK.fullmatch(PurePosixPath(file).stem) is not None
        return self.mask.replace("*", "") != _NAME and any(self.names_in(file))


def _splits_number(text: str, place: int) -> bool:
    """Whether digits stand on both sides: "scan 12" is not named "scan 1" with a rest of "2"."""
    return text[:place][-1:].isdigit() and text[place : place + 1].isdigit()


def _glob(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*")


def _key(file: str, pattern: str) -> _Key:
    """Folder and name of a file to compare; the suffix counts where the pattern has one."""
    path = PurePosixPath(unicodedata.normalize("NFC", file).casefold())
    suffixed = PurePosixPath(pattern.casefold()).suffix in IMAGE_SUFFIXES
    bare = not suffixed and path.suffix in IMAGE_SUFFIXES
    return path.parent.as_posix(), path.stem if bare else path.name


def _list(image_root: Path, mask_root: Path, naming: _Naming) -> tuple[list[str], list[str]]:
    """Files of the images and of the masks, each below its folder."""
    if not image_root.samefile(mask_root):
        return (
            _outside(image_root, mask_root, "images"),
            _outside(mask_root, image_root, "masks"),
        )
    files = find_images(image_root)
    names: dict[_Key, set[str]] = {}
    for file in files:
        key = naming.name_of(file)
        if key is not None and not naming.says_mask(file):
            names.setdefault(key, set()).add(file)

    def is_mask(file: str) -> bool:
        if naming.says_mask(file):
            return True
        return naming.mask is not None and any(
            names.get(key, set()) - {file} for key in naming.names_in(file)
        )

    masks = [file for file in files if is_mask(file)]
    images = [file for file in files if file not in set(masks)]
    return _some(images, image_root, "images"), _some(masks, mask_root, "masks")


def _outside(root: Path, other: Path, what: str) -> list[str]:
    """Files below `root` but not below `other`."""
    files = find_images(root)
    if other.resolve().is_relative_to(root.resolve()):
        below = other.resolve().relative_to(root.resolve()).as_posix() + "/"
        files = [file for file in files if not file.startswith(below)]
    return _some(files, root, what)


def _some(files: list[str], root: Path, what: str) -> list[str]:
    if not files:
        raise ValueError(
            f"{root}: no {what} found; expected image files (.png, .jpg, .tif, ...), of which "
            "pattern tells the masks"
        )
    return files


def _pair(
    image_root: Path, mask_root: Path, images: list[str], masks: list[str], naming: _Naming
) -> dict[str, list[str]]:
    """Masks of each image."""
    by_name: dict[_Key, str] = {}
    for image in images:
        key = naming.name_of(image)
        if key is None:
            raise ValueError(
                f"{image_root}: {image!r} is not named like an image, {naming.image!r}; remove it "
                "or correct pattern"
            )
        if key in by_name:
            raise ValueError(
                f"{image_root}: {by_name[key]!r} and {image!r} have one name, so that their masks "
                "cannot be told apart; keep one of them, or tell masks by their suffix, as "
                "pattern='{name}.png' does"
            )
        by_name[key] = image
    pairs: dict[str, list[str]] = {image: [] for image in images}
    lost = []
    for mask in masks:
        key = next((key for key in naming.names_in(mask) if key in by_name), None)
        if key is None:
            lost.append(mask)
        else:
            pairs[by_name[key]].append(mask)
    if lost:
        raise ValueError(
            f"{mask_root}: {len(lost)} of {len(masks)} masks belong to no image of {image_root}, "
            f"first {lost[0]!r}, while the first image is {images[0]!r}; expected masks named "
            f"{naming.mask or 'as their image, or {name}_mask'!r} in the same sub-folder"
            + _suggestion(lost[0], images)
        )
    return pairs


def _suggestion(mask: str, images: list[str]) -> str:
    """Suggest a pattern, where the name of an image stands in that of a mask."""
    text = PurePosixPath(mask).stem
    names = {PurePosixPath(image).stem for image in images} - {text}
    held = max((name for name in names if name in text), key=len, default="")
    return f". Does pattern={text.replace(held, _NAME, 1)!r} fit?" if held else ""


def _classes(root: Path, filenames: list[str]) -> tuple[np.ndarray | None, list[str] | None]:
    """Class of each image by its sub-folder, where there are several."""
    folders = [file.partition("/")[0] if "/" in file else "" for file in filenames]
    names = sorted(set(folders), key=natural_key)
    parts = parts_of_a_split(names)
    if parts:
        raise ValueError(
            f"{root}: {quoted(parts)} are the parts of a split; load one of them by its folders, "
            f"images={str(root / parts[-1])!r} and the like for masks"
        )
    if len(names) < 2 or "" in names:
        return None, None
    return np.array([names.index(folder) for folder in folders], dtype=np.intp), names
