"""Simulated breast ultrasound scans with lesion masks, for work without patients' images.

This module knows how a seed becomes a data set: which class, breast and scan each sample is.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch, check_random_state, check_scalar
from threadpoolctl import ThreadpoolController

from hybridus.datasets.listing import class_counts, object_array
from hybridus.datasets.phantoms.lesions import Lesion, draw_benign, draw_malignant, place_lesion
from hybridus.datasets.phantoms.marks import Marks, draw_marks, write_marks
from hybridus.datasets.phantoms.physics import Grid, Scanner, draw_scanner, scan
from hybridus.datasets.phantoms.tissue import grow_breast

TARGET_NAMES = ("normal", "malignant", "benign")
# Speckle and septa are finer than the pixels of a small image; they are simulated on at least
# so many rows and averaged, as a scanner's picture is when it is made smaller.
_LEAST_ROWS = 224
_GOLDEN_RATIO = (5**0.5 - 1) / 2
# Below this many decibels the tissue under a lesion does not look brighter or darker.
_VISIBLE_DB = 3.0


def make_breast_phantoms(
    n_samples: int = 100,
    *,
    image_size: int = 128,
    difficulty: float = 1.0,
    class_weights: Sequence[float] | None = None,
    start: int = 0,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> Bunch:
    """Simulate B-mode scans of breasts without a lesion, with a malignant and with a benign one.

    Each scan is a small physical simulation. A breast is grown in layers (skin, fat with Cooper's
    ligaments, fibroglandular tissue, retromammary fat, muscle, chest wall, at times a rib), a
    lesion with the signs of its class is put into it, and a linear probe scans it: unresolved
    scatterers make speckle [3]_ through a point spread function that widens away from the focus
    [4]_, attenuation makes shadows and enhancement, echoes are compressed to decibels. Depth,
    frequency, focus, compounding, gain, dynamic range, noise, uneven contact and what is written
    over the scan (calipers, text, ruler) vary from scan to scan alike for all classes, so that the
    class lies in what is seen, not in how bright it is.

    Lesions show the signs of the BI-RADS lexicon [1]_ and of Stavros et al. [2]_:

    - benign: oval, circumscribed or gently lobulated, wider than tall (parallel to the skin),
      with a thin capsule; simple cysts have no echoes inside and enhance what lies below,
      fibroadenomas are evenly hypoechoic, lipomas as bright as the tissue around them. A simple
      cyst is a benign finding, so it counts as a lesion and never stands in a normal scan.
    - malignant: spiculated, angular or microlobulated, mostly taller than wide, markedly
      hypoechoic and uneven, often with an echogenic rim, a shadow below, calcifications and
      layers drawn in.
    - normal: none. Fat lobules, ribs and shadows of nipple or ligaments may deceive, and calipers
      may measure ordinary tissue.

    Signs overlap between the classes as they do in patients: a quarter of the carcinomas are
    wider than tall, a third cast no shadow, a quarter have no rim (less with `difficulty`).

    Parameters
    ----------
    n_samples : int, default=100
        Number of scans.
    image_size : int, default=128
        Width and height in pixels, 32 or more. The same seed shows the same breasts at any size.
        On one core a scan of 32 to 256 pixels takes about 15 to 30 ms, one of 512 about 70 ms.
    difficulty : float, default=1.0
        From 0, cases of a textbook, to 1, those of a clinic. The easier, the larger are the
        smallest lesions (a quarter of the field at 0, a tenth at 1), the more often carcinomas
        have all of their signs, the flatter are cysts, the fewer shadows and ribs deceive, and the
        less the scanner's settings vary (by half at 0).
    class_weights : sequence of 3 floats, default=None
        Shares of normal, malignant and benign scans, which are scaled to sum to 1; None means
        equal ones. Any run of samples keeps to them within a sample or two.
    start : int, default=0
        Index of the first sample. Sample `i` depends on `random_state` and `i` alone, so that an
        endless set can be made in batches of any size.
    random_state : int, RandomState, Generator or None, default=None
        Seed. An int gives the same samples at each call; None and RandomState or Generator objects
        give others each time.

    Returns
    -------
    sklearn.utils.Bunch
        - ``images`` : ndarray of shape (n_samples, image_size, image_size), uint8.
        - ``masks`` : ndarray of the same shape, bool, True in the lesion.
        - ``target`` : ndarray of shape (n_samples,), int: 0 normal, 1 malignant, 2 benign.
        - ``target_names`` : list of str, ``["normal", "malignant", "benign"]``.
        - ``filenames`` : list of str, ``class (sample).png``: names for tables and for those who
          save the scans; no files are written.
        - ``groups`` : ndarray of shape (n_samples,), dtype object, str. Each phantom is a breast
          of its own, so each is a group of its own.
        - ``lesions`` : DataFrame with a row for each sample, its index in the endless set as
          index: class, signs and geometry of the lesion (mm, dB; NaN or "none" in normal scans),
          then the settings of the scanner and the marks. ``posterior_db`` is the loss below the
          lesion's center line: positive for a shadow.
        - ``DESCR`` : str.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of its range.

    Notes
    -----
    Not simulated: refraction (but for thin shadows below the edges of smooth lesions), multiple
    scattering, curved probes, several lesions in one scan, Doppler. What a model learns here has
    to prove itself on patients' scans.

    References
    ----------
    .. [1] Mendelson et al., "ACR BI-RADS Ultrasound", in: ACR BI-RADS Atlas, Breast Imaging
       Reporting and Data System, American College of Radiology, 2013.
    .. [2] Stavros, Thickman, Rapp, Dennis, Parker and Sisney, "Solid breast nodules: use of
       sonography to distinguish between benign and malignant lesions", Radiology 196(1), 123-134,
       1995. doi:10.1148/radiology.196.1.7784555
    .. [3] Wagner, Smith, Sandrik and Lopez, "Statistics of speckle in ultrasound B-scans", IEEE
       Transactions on Sonics and Ultrasonics 30(3), 156-163, 1983.
    .. [4] Bamber and Dickinson, "Ultrasonic B-scanning: a computer simulation", Physics in
       Medicine and Biology 25(3), 463-479, 1980.

    Examples
    --------
    >>> from hybridus.datasets import make_breast_phantoms
    >>> phantoms = make_breast_phantoms(6, image_size=64, random_state=0)
    >>> phantoms.images.shape, phantoms.images.dtype, phantoms.masks.dtype
    ((6, 64, 64), dtype('uint8'), dtype('bool'))
    >>> later = make_breast_phantoms(2, image_size=64, start=4, random_state=0)
    >>> bool((later.images == phantoms.images[4:]).all())
    True
    """
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    check_scalar(image_size, "image_size", Integral, min_val=32)
    check_scalar(difficulty, "difficulty", Real, min_val=0, max_val=1)
    check_scalar(start, "start", Integral, min_val=0)
    seed = _seed(random_state)
    target = _labels(seed, np.arange(start, start + n_samples), class_weights)
    images = np.empty((n_samples, image_size, image_size), dtype=np.uint8)
    masks = np.empty((n_samples, image_size, image_size), dtype=bool)
    records = []
    # Threads of the matrix product cost three times what they save on products this small.
    with _thread_pools().limit(limits=1, user_api="blas"):
        for k, label in enumerate(target):
            images[k], masks[k], record = _phantom(
                seed, start + k, int(label), image_size, float(difficulty)
            )
            records.append(record)
    index = pd.RangeIndex(start, start + n_samples, name="sample")
    return Bunch(
        images=images,
        masks=masks,
        target=target,
        target_names=list(TARGET_NAMES),
        filenames=[f"{TARGET_NAMES[label]} ({start + k}).png" for k, label in enumerate(target)],
        groups=object_array(f"phantom {start + k}" for k in range(n_samples)),
        lesions=pd.DataFrame(records, index=index),
        DESCR=_describe(target, start, image_size, seed),
    )


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def _seed(random_state: int | np.random.RandomState | np.random.Generator | None) -> int:
    if isinstance(random_state, Integral):
        if random_state < 0:
            raise ValueError(f"random_state={random_state}; a seed must be 0 or more")
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**62))
    return int(check_random_state(random_state).randint(2**31 - 1))


def _labels(seed: int, samples: np.ndarray, class_weights: Sequence[float] | None) -> np.ndarray:
    """Class of each sample, a function of the seed and its index.

    Multiples of the golden ratio fill the unit interval evenly over any run of indices, so every
    batch is balanced without knowing of the others.
    """
    weights = np.ones(3) if class_weights is None else np.asarray(class_weights, dtype=float)
    valid = weights.shape == (3,) and np.isfinite(weights).all() and (weights >= 0).all()
    if not valid or not weights.any():
        raise ValueError(
            f"class_weights={class_weights!r}; expected three shares of 0 or more, not all 0, in "
            f"the order of {list(TARGET_NAMES)}"
        )
    offset = np.random.default_rng(seed).random()
    position = (offset + samples * _GOLDEN_RATIO) % 1
    ends = np.cumsum(weights / weights.sum())
    # The last class ends at 1, whatever rounding made of the sum; one of no weight gets nothing.
    ends[np.flatnonzero(weights)[-1] :] = 1
    return np.searchsorted(ends, position, side="right")


def _phantom(
    seed: int, sample: int, label: int, image_size: int, difficulty: float
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Image, mask and parameters of one sample."""
    anatomy, speckle, writing = (
        np.random.default_rng(child)
        for child in np.random.SeedSequence(seed, spawn_key=(sample,)).spawn(3)
    )
    finer = -(-_LEAST_ROWS // image_size)
    grid = Grid(field_mm=anatomy.uniform(32, 52), n=finer * image_size)
    scanner = draw_scanner(anatomy, grid.field_mm, difficulty)
    draw = {"normal": None, "malignant": draw_malignant, "benign": draw_benign}
    draw_lesion = draw[TARGET_NAMES[label]]
    if draw_lesion is None:
        lesion, tissue = None, grow_breast(anatomy, grid, difficulty=difficulty)
        mask = np.zeros((grid.n, grid.n), dtype=bool)
    else:
        lesion = draw_lesion(anatomy, grid.field_mm, difficulty)
        tissue = grow_breast(anatomy, grid, lesion.push_mm(grid), difficulty)
        mask = place_lesion(tissue, lesion, anatomy, grid)
    grey = _smaller(scan(tissue, scanner, grid, speckle), finer)
    image = np.round(255 * grey).astype(np.uint8)

    marks = draw_marks(writing)
    measured = lesion
    if measured is None:
        # Somebody measured what turned out to be ordinary tissue.
        pretend = draw_benign if writing.random() < 0.5 else draw_malignant
        measured = pretend(writing, grid.field_mm, difficulty)
    write_marks(image, marks, measured, grid.field_mm)
    return image, _smaller(mask, finer) >= 0.5, _record(label, lesion, grid, scanner, marks)


def _smaller(values: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of `factor` times `factor` values."""
    size = values.shape[0] // factor
    return values.reshape(size, factor, size, factor).mean(axis=(1, 3), dtype=np.float32)


def _record(
    label: int, lesion: Lesion | None, grid: Grid, scanner: Scanner, marks: Marks
) -> dict[str, Any]:
    """Row of the table of parameters."""
    return {
        "class": TARGET_NAMES[label],
        **(_NO_SIGNS if lesion is None else _signs(lesion, scanner)),
        "field_mm": grid.field_mm,
        **asdict(scanner),
        "calipers": marks.calipers,
        "ruler": marks.ruler,
        "text": marks.text,
    }


def _signs(lesion: Lesion, scanner: Scanner) -> dict[str, Any]:
    behind = 2 * scanner.frequency_mhz * lesion.attenuation * lesion.height_mm / 10
    posterior = "shadowing" if behind > 0 else "enhancement"
    return {
        "kind": lesion.kind,
        "margin": lesion.margin,
        "orientation": "parallel" if lesion.width_mm > lesion.height_mm else "not parallel",
        "posterior": posterior if abs(behind) > _VISIBLE_DB else "none",
        "posterior_db": behind,
        **{name: float(getattr(lesion, name)) for name in _MEASURES},
    }


_MEASURES = (
    *("center_x_mm", "center_z_mm", "width_mm", "height_mm", "tilt_rad"),
    *("backscatter_db", "texture_db", "rim_mm", "capsule", "blur_mm", "calcifications", "push"),
)
_NO_SIGNS = {
    **dict.fromkeys(("kind", "margin", "orientation", "posterior"), "none"),
    **dict.fromkeys(("posterior_db", *_MEASURES), np.nan),
}


def _describe(target: np.ndarray, start: int, image_size: int, seed: int) -> str:
    return (
        f"{len(target)} simulated breast ultrasound scans of {image_size} x {image_size} pixels "
        f"(seed {seed}, from sample {start})\n\n{class_counts(target, TARGET_NAMES)}\n\n"
        "Layered tissue with speckle, and lesions with the sonographic signs of BI-RADS and of "
        "Stavros et al. 1995; see the documentation of make_breast_phantoms. No patient is shown.\n"
    )
