"""What the command line reads: real scans with what is known of their duplicates, or phantoms."""

from __future__ import annotations

import csv
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hybridus.cli.console import warn

if TYPE_CHECKING:
    import numpy as np

N_PHANTOMS = 240
N_PHANTOMS_TO_SEGMENT = 120  # networks trained from scratch are among the models


@dataclass
class Data:
    """Images to compare models on, and what the reader is told about them."""

    images: np.ndarray
    target: np.ndarray
    target_names: list[str]
    name: str
    masks: np.ndarray | None = None  # of lesions, where there are any
    groups: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def only(self, kept: np.ndarray, note: str) -> Data:
        """Keep some of the images, and say which."""
        return replace(
            self,
            images=self.images[kept],
            target=self.target[kept],
            masks=None if self.masks is None else self.masks[kept],
            groups=None if self.groups is None else self.groups[kept],
            notes=[*self.notes, note],
        )


def read_phantoms(n_phantoms: int, seed: int) -> Data:
    """Make simulated scans for those who gave no folder."""
    from hybridus.datasets import make_breast_phantoms

    phantoms = make_breast_phantoms(n_phantoms, random_state=seed)
    return Data(
        images=phantoms.images,
        target=phantoms.target,
        target_names=list(phantoms.target_names),
        name="simulated phantoms",
        masks=phantoms.masks,
        notes=[
            "No DATA given. Phantoms are independent of one another: no groups are needed.",
        ],
    )


def read_folder(folder: Path, curation: Path | None, groups: str | None) -> Data:
    """Read BUSI or a folder of class folders, with what is known of duplicates."""
    import numpy as np

    from hybridus.datasets import load_busi, load_image_folder

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_busi = curation is not None or _looks_like_busi(folder)
        bunch = load_busi(folder, curation=curation) if is_busi else load_image_folder(folder)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            warn(str(warning.message))
    objections = [""] * len(bunch.target) if curation is None else bunch.objections
    # Duplicates that stand in two classes: no answer to them would be right.
    kept = np.flatnonzero(["multiclass" not in text.split("&") for text in objections])
    left_out = len(objections) - len(kept)
    if groups is None:
        known_groups = None if bunch.groups is None else bunch.groups[kept]
    elif groups == "none":
        known_groups = None
    else:
        known_groups = _read_groups(Path(groups), [bunch.filenames[i] for i in kept])
    if known_groups is None:
        warn(
            "no groups, so duplicates of one scan, or scans of one patient, may stand on both "
            "sides of a split: in a random split of BUSI 38 % of the test images have a twin in "
            "the training part, and figures flatter by about seven points."
            + (" --curation FILE tells the duplicates." if is_busi and curation is None else "")
            + (" --groups FILE tells which images belong together." if groups is None else "")
        )
    return Data(
        images=bunch.images[kept],
        target=bunch.target[kept],
        target_names=list(bunch.target_names),
        name=str(folder),
        masks=bunch.masks[kept] if is_busi else None,
        groups=known_groups,
        notes=[
            f"{left_out} images with objection 'multiclass' are left out: their duplicates bear "
            "another label."
        ]
        * bool(left_out),
    )


def _looks_like_busi(folder: Path) -> bool:
    """Whether masks lie beside the scans of BUSI's classes, or in a folder beside ``images``."""
    if not folder.is_dir():
        return False
    folders = {entry.name.casefold(): entry for entry in folder.iterdir() if entry.is_dir()}
    if "images" in folders and folders.keys() & {"mask", "masks"}:
        return True
    return {"normal", "malignant", "benign"} <= folders.keys() and any(
        "_mask" in file.stem.casefold() for file in folders["malignant"].iterdir()
    )


def _read_groups(file: Path, filenames: list[str]) -> np.ndarray:
    """Group of each image by its relative path or, where only one has it, by its base name."""
    import numpy as np

    with file.open(newline="", encoding="utf-8-sig") as text:
        reader = csv.DictReader(text)
        if not {"filename", "group"} <= set(reader.fieldnames or ()):
            raise ValueError(
                f"{file}: expected columns filename and group, found {reader.fieldnames}"
            )
        rows = [(row["filename"].replace("\\", "/"), row["group"]) for row in reader]
    by_path: dict[str, str] = {}
    for name, group in rows:
        path = str(PurePosixPath(name))
        if not group:
            raise ValueError(f"{file}: {name!r} has no group; give it one of its own")
        if by_path.setdefault(path, group) != group:
            raise ValueError(f"{file}: {name!r} stands in groups {by_path[path]!r} and {group!r}")
    by_base = defaultdict(set)
    for path, group in by_path.items():
        by_base[PurePosixPath(path).name].add((path, group))
    images_of_base = Counter(PurePosixPath(name).name for name in filenames)

    def find(name: str) -> str | None:
        base = PurePosixPath(name).name
        if name not in by_path and len(by_base[base]) == 1 == images_of_base[base]:
            return next(iter(by_base[base]))[1]
        return by_path.get(name)

    found = [find(name) for name in filenames]
    if None in found:
        raise ValueError(
            f"{file}: {found.count(None)} of {len(found)} images have no group, first "
            f"{filenames[found.index(None)]!r}; list each by its path below DATA (or by a base "
            "name that no other image has); an image without duplicates is a group of its own"
        )
    return np.array(found, dtype=object)
