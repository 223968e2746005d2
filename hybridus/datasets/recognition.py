"""Recognition of data sets: which loader the layout of a folder is for."""

import os
from pathlib import Path, PurePosixPath

import numpy as np
from sklearn.utils import Bunch

from hybridus.datasets.busi import list_busi, load_busi, looks_like_busi
from hybridus.datasets.folder import load_image_folder
from hybridus.datasets.layout import MASK_STEM, images_and_masks
from hybridus.datasets.listing import existing_folder, is_image, object_array, subfolders, walk
from hybridus.datasets.mask_files import open_mask_files
from hybridus.datasets.segmentation import list_segmentation_folder, load_segmentation_folder
from hybridus.inputs.dicom_paths import Crop, Frame, dicom_paths


def load_folder(
    path: str | os.PathLike[str],
    *,
    curation: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    frame: Frame | None = None,
    crop: Crop | None = None,
) -> Bunch:
    """Load a folder by the loader that its layout is for, as the command line does.

    Parameters
    ----------
    path : str or Path
        BUSI in any of its layouts; folders of images and of masks side by side, or images with
        ``NAME_mask`` files beside them; or class folders.
    curation : str or Path, default=None
        Table of `hybridus.datasets.load_busi`; images that it says stand in two classes are left
        out, since no answer to them would be right.
    masks : str or Path, default=None
        Folder of the masks of images that are not BUSI's, where its name does not tell.
    frame : int, "first" or "middle", default=None
        Frame of DICOM files, counted from 1; see `hybridus.dicom_path`.
    crop : "ultrasound", default=None
        Region of DICOM files to keep; see `hybridus.dicom_path`.

    Returns
    -------
    sklearn.utils.Bunch
        What the loader gives, and ``labelled``, whether somebody said which class each image is
        of. Images with masks that tell no classes get two, "no lesion" (0) and "lesion" (1).

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        As the loaders do.
    """
    root = existing_folder(path, "a folder of images")
    if masks is not None:
        return _with_classes(load_segmentation_folder(root, masks, frame=frame, crop=crop))
    if curation is not None or looks_like_busi(root):
        exclude = () if curation is None else ("multiclass",)
        busi = load_busi(root, curation=curation, exclude=exclude)
        dicom_paths(busi.images, frame=frame, crop=crop)  # none of them is DICOM, which it says
        return _with_classes(busi)
    pair = _images_and_masks(root)
    if pair is not None:
        return _with_classes(load_segmentation_folder(*pair, frame=frame, crop=crop))
    return _with_classes(load_image_folder(root, frame=frame, crop=crop))


def list_folder(
    path: str | os.PathLike[str],
    *,
    masks: str | os.PathLike[str] | None = None,
    frame: Frame | None = None,
    crop: Crop | None = None,
) -> Bunch:
    """List what is in a folder as `load_folder` does, but read masks when they are asked for.

    What cannot be read, or does not fit, is then found one by one.

    Parameters
    ----------
    path, masks, frame, crop
        See `load_folder`. Masks are those of whole images: with them `crop` is an error.

    Returns
    -------
    sklearn.utils.Bunch
        ``images``, ``filenames``, ``target`` and ``target_names`` (None where no folders tell
        classes), and ``masks``, `hybridus.inputs.masks.Masks` or None.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        As the loaders do where files cannot be paired.
    """
    root = existing_folder(path, "a folder of images")
    if masks is not None:
        listed = list_segmentation_folder(root, masks)
    elif looks_like_busi(root):
        listed = list_busi(root)
    elif pair := _images_and_masks(root):
        listed = list_segmentation_folder(*pair)
    else:
        bunch = load_image_folder(root, frame=frame, crop=crop)
        return Bunch(
            images=bunch.images,
            masks=None,
            target=bunch.target,
            target_names=list(bunch.target_names),
            filenames=bunch.filenames,
        )
    if crop is not None:
        raise ValueError(
            f"crop={crop!r}: masks in {root} belong to whole images, and are looked at so; leave "
            "crop out"
        )
    opened = open_mask_files(listed.root, listed.filenames, listed.mask_files)
    return Bunch(
        images=object_array(dicom_paths(listed.images, frame=frame)),
        masks=opened,
        target=listed.target,
        target_names=listed.target_names,
        filenames=listed.filenames,
    )


def _images_and_masks(root: Path) -> tuple[Path, Path] | None:
    """Folders of images and of masks, which may be one; None where nothing tells masks."""
    pair = images_and_masks(subfolders(root))
    if pair is not None:
        return root / pair[0], root / pair[1]
    if any(is_image(file) and MASK_STEM.fullmatch(PurePosixPath(file).stem) for file in walk(root)):
        return root, root
    return None


def _with_classes(bunch: Bunch) -> Bunch:
    bunch.labelled = bunch.target is not None
    if not bunch.labelled:
        bunch.target = np.array([mask.any() for mask in bunch.masks], dtype=np.intp)
        bunch.target_names = ["no lesion", "lesion"]
    return bunch
