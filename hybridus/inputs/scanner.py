"""Scanner changes: what another scanner, or another setting of one, does to a scan and its mask.

They are crude on purpose: gain, curve, resolution, speckle and field of view each by themselves.
A model that loses much under them will not carry; one that loses little may still not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hybridus.inputs.resizing import resize_image

# Raised whenever a change of ours changes what a ScannerChange makes of an image.
VIEWS_VERSION = 1

_GRAIN = 0.005  # of the longer side: deviation of the filter that correlates speckle


@dataclass(frozen=True)
class ScannerChange:
    """A change of scans, a pure function of their pixels.

    Parameters
    ----------
    kind : str
        "gain": grey levels times `strength`. "gamma": to the power of `strength`, as another
        dynamic range. "blur": Gaussian filter whose deviation is `strength` times the longer side.
        "resolution": down to 1 / `strength` of the pixels a side, and up again. "speckle":
        multiplied by correlated noise of deviation `strength`. "despeckle": median over squares
        whose side is `strength` times the longer side. "crop": the middle `strength` of height and
        width. "aspect": width times `strength`. "mirror": from left to right.
    strength : float

    Raises
    ------
    ValueError
        For another kind, or a strength that is not above zero.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.inputs.scanner import ScannerChange
    >>> image = np.full((40, 60), 100, np.uint8)
    >>> ScannerChange("gain", 0.5)(image)[0, 0], ScannerChange("crop", 0.5)(image).shape
    (np.uint8(50), (20, 30))
    """

    kind: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in _CHANGES:
            raise ValueError(f"kind={self.kind!r}: expected one of {', '.join(_CHANGES)}")
        if not self.strength > 0 or (self.kind == "crop" and self.strength > 1):
            raise ValueError(
                f"strength={self.strength!r}: expected a number above 0"
                + ", at most 1" * (self.kind == "crop")
            )

    def __call__(self, image: NDArray) -> NDArray:
        """Change a canonical image, (H, W) or (H, W, 3), 0..255; its type stays what it is.

        Values are kept within 0..255.
        """
        changed = _CHANGES[self.kind](image.astype(np.float32), self.strength)
        changed = np.clip(changed, 0, 255)
        return np.rint(changed).astype(np.uint8) if image.dtype == np.uint8 else changed

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Change the mask of an image as the image is changed."""
        if self.kind not in ("crop", "aspect", "mirror"):
            return mask
        return _CHANGES[self.kind](mask.astype(np.float32) * 255, self.strength) >= 127.5


def apply_changes(changes: Sequence[ScannerChange], image: NDArray) -> NDArray:
    """Apply changes one after another."""
    for change in changes:
        image = change(image)
    return image


def _gain(image: NDArray, strength: float) -> NDArray:
    return image * strength


def _gamma(image: NDArray, strength: float) -> NDArray:
    return 255 * (np.clip(image, 0, 255) / 255) ** strength


def _blur(image: NDArray, strength: float) -> NDArray:
    return _smoothed(image, strength * max(image.shape[:2]))


def _resolution(image: NDArray, strength: float) -> NDArray:
    size = tuple(max(2, round(side / strength)) for side in image.shape[:2])
    return resize_image(resize_image(image, size), image.shape[:2])  # type: ignore[arg-type]


def _speckle(image: NDArray, strength: float) -> NDArray:
    # Seeded by the image, so that it is the same wherever it is drawn.
    seed = int(np.abs(image).sum()) + image.size
    noise = np.random.default_rng(seed).normal(size=image.shape[:2]).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, _GRAIN * max(image.shape[:2]))
    noise *= strength / max(float(noise.std()), 1e-6)
    return image * (1 + (noise if image.ndim == 2 else noise[..., np.newaxis]))


def _despeckle(image: NDArray, strength: float) -> NDArray:
    side = 2 * max(1, round(strength * max(image.shape[:2]) / 2)) + 1
    return ndimage.median_filter(image, size=(side, side, 1)[: image.ndim])


def _crop(image: NDArray, strength: float) -> NDArray:
    height, width = image.shape[:2]
    rows, columns = max(1, round(height * strength)), max(1, round(width * strength))
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _aspect(image: NDArray, strength: float) -> NDArray:
    height, width = image.shape[:2]
    return resize_image(image, (height, max(1, round(width * strength))))


def _mirror(image: NDArray, strength: float) -> NDArray:
    return np.ascontiguousarray(image[:, ::-1])


def _smoothed(image: NDArray, deviation: float) -> NDArray:
    return ndimage.gaussian_filter(image, (deviation, deviation, 0)[: image.ndim])


_CHANGES = {
    "gain": _gain,
    "gamma": _gamma,
    "blur": _blur,
    "resolution": _resolution,
    "speckle": _speckle,
    "despeckle": _despeckle,
    "crop": _crop,
    "aspect": _aspect,
    "mirror": _mirror,
}

# What the benchmark tries, from hardly seen to what makes a radiologist frown.
SCANNER_CHANGES: dict[str, dict[str, tuple[ScannerChange, ...]]] = {
    level: {
        "darker": (ScannerChange("gain", gains[0]),),
        "brighter": (ScannerChange("gain", gains[1]),),
        "softer curve": (ScannerChange("gamma", 1 / gamma),),
        "harder curve": (ScannerChange("gamma", gamma),),
        "blurred": (ScannerChange("blur", blur),),
        "coarser": (ScannerChange("resolution", coarser),),
        "speckled": (ScannerChange("speckle", speckle),),
        "smoothed": (ScannerChange("despeckle", median),),
        "cropped": (ScannerChange("crop", crop),),
        "wider": (ScannerChange("aspect", aspect),),
        "all at once": (
            ScannerChange("crop", crop),
            ScannerChange("aspect", aspect),
            ScannerChange("resolution", coarser),
            ScannerChange("speckle", speckle),
            ScannerChange("gamma", gamma),
        ),
    }
    for level, gains, gamma, blur, coarser, speckle, median, crop, aspect in (
        ("mild", (0.8, 1.2), 1.2, 0.003, 1.5, 0.1, 0.01, 0.95, 1.1),
        ("medium", (0.6, 1.5), 1.5, 0.006, 2.5, 0.2, 0.02, 0.85, 1.2),
        ("strong", (0.4, 2.0), 2.0, 0.012, 4.0, 0.35, 0.04, 0.75, 1.35),
    )
}
