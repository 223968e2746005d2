"""Image files: decoding one file into a canonical image, and what shape an image may have."""

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus.inputs.decoding import decode, decoded_size
from hybridus.inputs.dicom import dicom_size, read_dicom
from hybridus.inputs.dicom_paths import DICOM_SUFFIXES, Reading, is_dicom, split_reading
from hybridus.inputs.values import ValueRange, canonical, check_scale, check_value_range


def read_image(
    path: str | os.PathLike, *, name: str = "image", value_range: Sequence[float] | None = None
) -> NDArray:
    """Decode one file into a canonical image.

    Colour, grey, 1-bit, palette, 16-bit and float files are read; transparent pixels are laid on
    black; a photograph is turned upright by its EXIF orientation. Values are those of `as_images`.
    DICOM files are known by their bytes; see `hybridus.inputs.dicom.read_dicom`.

    Raises
    ------
    ImportError
        For a DICOM file where pydicom is not installed.
    ValueError
        Where the file is absent, cannot be decoded, holds several frames, or its values lie on
        another scale.
    """
    declared = check_value_range(value_range)
    reading = _dicom_reading(path, name)
    if reading is not None:
        return read_dicom(reading, name=name, declared=declared)
    picture = decode(path, name=name).picture
    name = f"{name}: {os.fspath(path)!r}"
    pixels = pixels_of(picture)
    check_image(pixels, name, declared)
    return canonical(pixels, declared)


def image_size(path: str | os.PathLike, *, name: str = "image") -> tuple[int, int]:
    """Read height and width of what `read_image` gives, from the header of the file.

    Raises
    ------
    ImportError
        For a DICOM file where pydicom is not installed.
    ValueError
        Where the file is absent or no picture; the message begins with `name` and the path.
    """
    reading = _dicom_reading(path, name)
    return decoded_size(path, name=name) if reading is None else dicom_size(reading, name=name)


def _dicom_reading(path: str | os.PathLike, name: str) -> Reading | None:
    """Say what is to be read of a DICOM file; None for all other files."""
    reading = split_reading(path)
    if is_dicom(reading.file) or (
        os.path.splitext(reading.file)[1].lower() in DICOM_SUFFIXES and os.path.isfile(reading.file)
    ):
        return reading
    if reading.options and os.path.exists(reading.file):
        raise ValueError(
            f"{name}: {reading.file!r} is no DICOM file, of which alone {reading.options!r} can be "
            "read"
        )
    return None


def check_shape(image: NDArray, name: str) -> None:
    """Raise unless an array has the shape of one image."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        hint = ""
        if image.ndim == 3 and image.shape[2] == 4:
            hint = "; drop the alpha channel with image[..., :3]"
        elif image.ndim == 3 and image.shape[0] in (1, 3):
            hint = "; bring channels to the end with np.moveaxis(image, 0, -1)"
        raise ValueError(
            f"{name} has shape {image.shape}, expected (H, W), (H, W, 1) or (H, W, 3){hint}"
        )
    if image.size == 0:
        raise ValueError(f"{name} is empty: shape {image.shape}")


def check_image(image: NDArray, name: str, declared: ValueRange | None) -> None:
    """Raise unless an array has the shape and the values of one image."""
    check_shape(image, name)
    check_scale(image[None], lambda _: name, declared)


def pixels_of(picture: Image.Image) -> NDArray:
    """Pixels of an upright picture, with palettes looked up and transparency laid on black."""
    if picture.mode.startswith(("I", "F")) or (
        picture.mode == "L" and "transparency" not in picture.info
    ):
        return np.asarray(picture)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.mode == "La":  # Pillow knows no way from it to RGBA
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return np.asarray(picture.convert("RGB"))
