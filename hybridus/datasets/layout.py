"""Layouts of data sets: names of folders and files that tell parts of a split, images and masks."""

import re
from collections.abc import Iterable

SPLIT_FOLDERS = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
)
IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs", "scan", "scans"})
MASK_FOLDERS = frozenset(
    {"mask", "masks", "segmentation", "segmentations", "annotation", "annotations", "gt"}
    | {"ground truth", "ground_truth", "groundtruth", "label", "labels"}
)
# "scan (1)_mask.png", "scan (1)_mask_1.png", "scan (1)_masks.png", "scan (1)_mask (1).png"
MASK_STEM = re.compile(r"(?P<image>.+?)[_ -]masks?(?:[_ -]?\(?\d+\)?)?", re.IGNORECASE)


def parts_of_a_split(names: Iterable[str]) -> list[str]:
    """Names of folders that are the parts of a split: empty where fewer than two are.

    Examples
    --------
    >>> parts_of_a_split(["Test", "train", "notes"]), parts_of_a_split(["bus", "train"])
    (['Test', 'train'], [])
    """
    parts = [name for name in names if name.casefold() in SPLIT_FOLDERS]
    return parts if len(parts) > 1 else []


def images_and_masks(names: Iterable[str]) -> tuple[str, str] | None:
    """Names of the folders of images and of masks; None where not both are there.

    Examples
    --------
    >>> images_and_masks(["Masks", "Images"]), images_and_masks(["images", "notes"])
    (('Images', 'Masks'), None)
    """
    names = list(names)
    images = [name for name in names if name.casefold() in IMAGE_FOLDERS]
    masks = [name for name in names if name.casefold() in MASK_FOLDERS]
    return (images[0], masks[0]) if images and masks else None
