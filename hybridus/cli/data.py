"""What the command line reads: real scans with what is known of their duplicates, or phantoms."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
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
    from hybridus.datasets import load_busi, load_image_folder, read_groups
    from hybridus.datasets.busi import looks_like_busi

    # Duplicates that stand in two classes: no answer to them would be right.
    exclude = () if curation is None else ("multiclass",)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_busi = curation is not None or looks_like_busi(folder)
        bunch = (
            load_busi(folder, curation=curation, exclude=exclude)
            if is_busi
            else load_image_folder(folder)
        )
        if groups is None or groups == "none":
            known_groups = bunch.groups if groups is None else None
        else:
            known_groups = read_groups(groups, bunch.filenames)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            warn(str(warning.message))
    if known_groups is None:
        warn(
            "no groups, so duplicates of one scan, or scans of one patient, may stand on both "
            "sides of a split: in a random split of BUSI 38 % of the test images have a twin in "
            "the training part, and figures flatter by about seven points."
            + (" --curation FILE tells the duplicates." if is_busi and curation is None else "")
            + (" --groups FILE tells which images belong together." if groups is None else "")
        )
    excluded = bunch.get("excluded", [])
    return Data(
        images=bunch.images,
        target=bunch.target,
        target_names=list(bunch.target_names),
        name=str(folder),
        masks=bunch.get("masks"),
        groups=known_groups,
        notes=[
            f"{len(excluded)} images with objection 'multiclass' are left out: their duplicates "
            "bear another label."
        ]
        * bool(excluded),
    )
