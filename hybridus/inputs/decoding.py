"""Picture files: opened and decoded here, with Pillow, for images and for masks alike.

Knows what may be wrong with a file, and that a picture stands upright, is a single frame and has
black at zero.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap height and width
_MIN_IS_WHITE, _PHOTOMETRIC, _BITS = 0, 262, 258  # of TIFF
# Where a PNG file keeps its orientation; it may stand after the pixels.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


class Decoded(NamedTuple):
    """A decoded file.

    Attributes
    ----------
    picture : PIL.Image.Image
        Loaded, upright, with black at zero.
    lossy : bool
        Whether compression changed the values: JPEG, lossy WebP, and TIFF with JPEG inside.
    """

    picture: Image.Image
    lossy: bool


def decode(path: str | os.PathLike, *, name: str, kind: str = "an image") -> Decoded:
    """Decode a file with one picture.

    Parameters
    ----------
    path : str or path-like
    name : str
        What error messages call it, such as ``images[3]``.
    kind : str, default="an image"
        What error messages say was expected.

    Returns
    -------
    Decoded

    Raises
    ------
    ValueError
        Where the file is absent, a folder, cannot be read or decoded, or holds several frames; the
        message begins with `name` and the path.
    """
    path = os.fspath(path)
    with _opened(path, name, kind) as (file, handle):
        # The second frame of an MPO file is a preview.
        frames = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
        if frames == 1:
            picture = upright(file)
            if file.format == "TIFF":
                picture = _black_at_zero(picture, file)
            lossy = _is_lossy(file, handle)
    if frames > 1:
        raise ValueError(
            f"{name}: {path!r} holds {frames} frames, expected one picture a file; save the frame "
            "that you want as a file of its own"
        )
    return Decoded(picture, lossy)


def decoded_size(path: str | os.PathLike, *, name: str, kind: str = "an image") -> tuple[int, int]:
    """Read height and width of a picture, upright, from the header of its file.

    Raises
    ------
    ValueError
        Where the file is absent, a folder or no picture; the message begins with `name` and the
        path.
    """
    with _opened(os.fspath(path), name, kind) as (file, handle):
        width, height = file.size
        if file.format == "TIFF":  # Pillow has turned it already
            return height, width
        if file.format == "PNG":
            # Pillow decodes the pixels to look behind them.
            place = handle.tell()
            handle.seek(0)
            data = handle.read()
            handle.seek(place)
            if not any(mark in data for mark in _PNG_ORIENTATION):
                return height, width
        if file.getexif().get(ExifTags.Base.Orientation) in _TURNED:
            return width, height
        return height, width


def upright(picture: Image.Image) -> Image.Image:
    """Return a picture as its EXIF orientation says that it is to be seen."""
    if isinstance(picture, ImageFile.ImageFile) and picture.filename:
        # Pillow maps the rows of a TIFF file that is to be turned at their turned length
        # (Pillow 13); it maps only files that it knows the name of.
        filename, picture.filename = picture.filename, ""
        try:
            picture.load()
        finally:
            picture.filename = filename
    return ImageOps.exif_transpose(picture)


@contextmanager
def _opened(path: str, name: str, kind: str) -> Iterator[tuple[ImageFile.ImageFile, BinaryIO]]:
    """Open a file, and make whatever Pillow raises meanwhile into an error that names it."""
    try:
        with open(path, "rb") as handle, Image.open(handle) as file:
            yield file, handle
    except FileNotFoundError:
        raise ValueError(f"{name}: {path!r} does not exist") from None
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name}: {path!r} cannot be decoded as {kind}: its bytes are those of no picture "
            "that Pillow knows"
        ) from error
    except Exception as error:  # damaged files make decoders raise nearly anything
        if os.path.isdir(path):
            what = "; load_image_folder lists the images in it" if kind == "an image" else ""
            raise ValueError(
                f"{name}: {path!r} is a folder, expected the file of {kind}{what}"
            ) from None
        raise ValueError(f"{name}: {path!r} cannot be decoded as {kind} ({error})") from error


def _black_at_zero(picture: Image.Image, file: Image.Image) -> Image.Image:
    """Invert what a TIFF file says is white at zero; Pillow does it up to 8 bits."""
    tags = file.tag_v2  # type: ignore[attr-defined]
    if tags.get(_PHOTOMETRIC) != _MIN_IS_WHITE:
        return picture
    if picture.mode.startswith("I;16"):
        white = 2 ** tags.get(_BITS, (16,))[0] - 1
        return Image.fromarray((white - np.asarray(picture, dtype=np.int32)).astype(np.uint16))
    if picture.mode == "F":
        raise ValueError("floats of which 0 is white; save them with 0 as black")
    return picture


def _is_lossy(file: Image.Image, handle: BinaryIO) -> bool:
    if file.format == "WEBP":
        handle.seek(0)
        return b"VP8L" not in handle.read()
    return file.format in ("JPEG", "MPO") or "jpeg" in str(file.info.get("compression"))
