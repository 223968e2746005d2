"""Answers of a model to images: rows of a table, and for segmenters masks and overlays as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hybridus.persistence.card import ModelCard

_OUTLINE = (255, 196, 0)


class Classes:
    """Answers of a classifier: label, probabilities, margin, and whether to refer."""

    def __init__(self, estimator: Any, card: ModelCard) -> None:
        self.estimator = estimator
        self._names = list(card.classes or map(str, estimator.classes_))
        self._margin = card.referral.get("margin")
        self._sure = hasattr(estimator, "predict_proba")
        self.refers = self._sure and self._margin is not None
        self.columns = ["file", "label"]
        if self._sure:
            self.columns += [f"probability_{name}" for name in self._names]
            self.columns += ["margin"] + ["refer"] * self.refers

    def rows(self, paths: list[str], places: Sequence[int]) -> list[list[Any]]:
        """Say of each image what the columns name."""
        import numpy as np

        from hybridus.protocol.final import margins

        if not self._sure:
            codes = np.searchsorted(self.estimator.classes_, self.estimator.predict(paths))
            return [[self._names[code]] for code in codes]
        said = self.estimator.predict_proba(paths)
        rows = []
        for row, margin in zip(said, margins(said), strict=True):
            told = [self._names[int(row.argmax())], *(f"{one:.4f}" for one in row)]
            told.append(f"{margin:.4f}")
            if self.refers:
                told.append("yes" if margin < self._margin else "no")
            rows.append(told)
        return rows


class Masks:
    """Answers of a segmenter: masks and overlays as files, and what they measure."""

    refers = False

    def __init__(self, estimator: Any, out: Path, names: list[str], overlays: bool) -> None:
        self.estimator, self._out, self._names = estimator, out, names
        self._overlays = overlays
        self.columns = [
            "file",
            "lesion",
            "lesion_pixels",
            "lesion_share",
            "height",
            "width",
            "mask",
        ]

    def rows(self, paths: list[str], places: Sequence[int]) -> list[list[Any]]:
        """Write the mask of each image; say what it measures."""
        from hybridus.inputs.images import images_as_seen_by

        images = images_as_seen_by(self.estimator, paths)
        rows = []
        for image, found, place in zip(images, self.estimator.predict(paths), places, strict=True):
            mask = found[..., 0] > 0
            file = self._out / "masks" / f"{self._names[place]}_mask.png"
            _write_png(mask.astype("uint8") * 255, file)
            if self._overlays:
                drawn = self._out / "overlays" / f"{self._names[place]}.png"
                _write_png(_overlay(image, mask), drawn)
            area, share = int(mask.sum()), float(mask.mean())
            there = "yes" if area else "no"
            rows.append([there, area, f"{share:.4f}", *mask.shape, str(file)])
        return rows


def why_unreadable(estimator: Any, path: str) -> str:
    """Say why an image cannot be read as an estimator reads it; empty where it can."""
    from hybridus.inputs.images import images_as_seen_by

    try:
        images_as_seen_by(estimator, [path])[0]
    except (ValueError, OSError) as error:
        return str(error).removeprefix("images[0]").lstrip(": ")
    return ""


def _overlay(image: NDArray, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Outline of a mask over its image, one pixel wide."""
    import numpy as np
    from skimage.segmentation import find_boundaries

    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    drawn = np.repeat(pixels[..., np.newaxis], 3, axis=2) if pixels.ndim == 2 else pixels.copy()
    if mask.shape == pixels.shape[:2]:
        drawn[find_boundaries(mask, mode="outer")] = _OUTLINE
    return drawn


def _write_png(pixels: NDArray[np.uint8], file: Path) -> None:
    from PIL import Image

    from hybridus.inputs.files import replacing

    with replacing(file) as temporary:
        Image.fromarray(pixels).save(temporary)
