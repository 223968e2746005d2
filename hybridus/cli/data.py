"""Data of a command: real scans with what is known of their duplicates, or phantoms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridus.cli.console import warn

if TYPE_CHECKING:
    import numpy as np

UNKNOWN = "unknown"  # groups that nobody tells of, until the audit has looked
SIMULATED = "simulated phantoms"
N_PHANTOMS = 180
N_SEGMENTED = 120  # of them: networks that are trained from scratch take their time
# Between textbook (0) and clinic (1): what so few scans teach is neither nothing nor everything.
PHANTOM_DIFFICULTY = 0.3


@dataclass
class Data:
    """Images to compare models on, and what the reader is told about them."""

    images: np.ndarray
    target: np.ndarray
    target_names: list[str]
    name: str
    masks: np.ndarray | None = None  # of lesions, where there are any
    groups: np.ndarray | None = None
    grouped_by: str = "none"  # "given", "found", or "none found" by the audit
    labelled: bool = True  # whether somebody said which class each image is of
    names: list[str] | None = None  # of the images, where they have any
    notes: list[str] = field(default_factory=list)

    @property
    def named_target(self) -> np.ndarray:
        """Names of the classes in place of their numbers."""
        import numpy as np

        return np.asarray(self.target_names)[self.target]

    def only(self, kept: np.ndarray, note: str) -> Data:
        """Keep some of the images, and say which."""
        import numpy as np

        return replace(
            self,
            images=self.images[kept],
            target=self.target[kept],
            masks=None if self.masks is None else self.masks[kept],
            groups=None if self.groups is None else self.groups[kept],
            names=None if self.names is None else [self.names[i] for i in np.flatnonzero(kept)],
            notes=[*self.notes, note],
        )


def read_phantoms(seed: int) -> Data:
    """Make simulated scans for those who gave no folder."""
    from hybridus.datasets import make_breast_phantoms

    phantoms = make_breast_phantoms(N_PHANTOMS, difficulty=PHANTOM_DIFFICULTY, random_state=seed)
    return Data(
        images=phantoms.images,
        target=phantoms.target,
        target_names=list(phantoms.target_names),
        name=SIMULATED,
        masks=phantoms.masks,
        notes=[
            "No DATA given. Phantoms are independent of one another: no groups are needed.",
        ],
        names=list(phantoms.filenames),
    )


def read_folder(
    folder: Path,
    curation: Path | None,
    groups: str | None,
    masks: Path | None,
    frame: str | None = None,
    crop: str | None = None,
) -> Data:
    """Read a folder in a layout that is known, and the groups that somebody tells of."""
    from hybridus.cli.options import read_frame
    from hybridus.datasets import read_groups
    from hybridus.datasets.recognition import load_folder

    of_dicom: Any = {"frame": read_frame(frame), "crop": crop}
    bunch = load_folder(folder, curation=curation, masks=masks, **of_dicom)
    excluded = bunch.get("excluded", [])
    data = Data(
        images=bunch.images,
        target=bunch.target,
        target_names=list(bunch.target_names),
        name=str(folder),
        masks=bunch.get("masks"),
        notes=[
            f"{len(excluded)} images with objection 'multiclass' are left out: their duplicates "
            "bear another label."
        ]
        * bool(excluded),
        labelled=bunch.labelled,
        names=list(bunch.filenames),
    )
    if groups == "none":
        warn(
            "no groups, so duplicates of one scan, or scans of one patient, may stand on both "
            "sides of a split: in a random split of BUSI 38 % of the test images have a twin in "
            "the training part, and figures flatter by about seven points."
        )
        return data
    if groups is not None:
        return replace(data, groups=read_groups(groups, bunch.filenames), grouped_by="given")
    if bunch.groups is not None:
        return replace(data, groups=bunch.groups, grouped_by="given")
    return replace(data, grouped_by=UNKNOWN)


def read_elsewhere(
    folder: Path, scans: Data, *, segments: bool, frame: str | None, crop: str | None
) -> Data:
    """Read images that nothing is fitted on, with the classes of those that models are fitted on.

    Raises
    ------
    ValueError
        Where there are other classes, or no masks for segmenters.
    """
    import numpy as np

    found = read_folder(folder, None, None, None, frame, crop)
    if segments:
        if found.masks is None:
            raise ValueError(f"--external: {folder} has no masks, which segmenters are judged by")
        return found
    unknown = [name for name in found.target_names if name not in scans.target_names]
    if not found.labelled or unknown:
        raise ValueError(
            f"--external: {folder} has the classes {', '.join(found.target_names)}; expected those "
            f"of DATA, or some of them: {', '.join(scans.target_names)}"
        )
    places = np.array([scans.target_names.index(name) for name in found.target_names])
    return replace(found, target=places[found.target], target_names=scans.target_names)


def group_by(data: Data, groups: np.ndarray) -> Data:
    """Group the images that show one scan, as an audit found them, and say what was found."""
    import pandas as pd

    n_images = len(data.images)
    scans = pd.Series(data.target).groupby(groups)
    n_twins = int((scans.transform("size") > 1).sum())
    n_mixed = int((scans.min() < scans.max()).sum())
    found = f"No two of {n_images} images show the same scan"
    if n_twins:
        found = f"{n_twins} of {n_images} images have a duplicate, as their pixels tell"
        found += f"; {n_mixed} scans bear several labels" * bool(n_mixed)
        found += ". Folds keep all images of a scan on one side"
    note = (
        f"{found}. Pixels do not tell which scans are of one patient: --groups FILE does. "
        "`hybridus audit` shows what was found."
    )
    return replace(
        data,
        groups=groups if n_twins else None,
        grouped_by="found" if n_twins else "none found",
        notes=[*data.notes, note],
    )


def fewer_phantoms(phantoms: Data) -> Data:
    """Take the first of the simulated scans, for segmenters."""
    import numpy as np

    kept = np.arange(len(phantoms.images)) < N_SEGMENTED
    if kept.all():
        return phantoms
    return phantoms.only(kept, "The first of the phantoms alone are segmented, to save time.")


def choose_scans(dataset: Data, lesions_only: bool | None) -> Data:
    """Leave images without lesion out where that is wanted, and say what became of them.

    Raises
    ------
    ValueError
        Where there are no masks, or none without lesion where those were asked for.
    """
    import numpy as np

    if dataset.masks is None:
        raise ValueError(
            f"{dataset.name}: no masks of lesions found, which segmenters need; expected "
            "files such as '1_mask.png' beside '1.png', or the same in folders 'masks' and "
            "'images'; --masks FOLDER names another folder of masks"
        )
    has_lesion = np.array([mask.any() for mask in dataset.masks], dtype=bool)
    n_without = int((~has_lesion).sum())
    if lesions_only is False and not n_without:
        raise ValueError(f"--with-normals: every image of {dataset.name} has a lesion")
    if lesions_only and n_without:
        return dataset.only(has_lesion, f"{n_without} images without lesion are left out.")
    if n_without:
        note = f"{n_without} have no lesion: false positives are counted on them"
        return replace(dataset, notes=[*dataset.notes, f"{note} (--lesions-only omits them)."])
    return dataset
