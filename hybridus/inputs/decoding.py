"""Picture files: opened and decoded here, with Pillow, for images and for masks alike.

Knows what may be wrong with a file, and that a picture stands upright, is a single frame and has
black at zero.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap height and width
_MIN_IS_WHITE, _PHOTOMETRIC, _BITS = 0, 262, 258  # of TIFF
_QUARTER = 64  # of full scale; compare values._SHOWN
# Where a PNG file keeps its orientation; it may stand after the pixels.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


class Refused(ValueError):
    """What is wrong with a picture, to be put behind its name."""


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
        Where the file is absent, a folder, cannot be read or decoded, holds several frames or more
        than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels; the message begins with `name` and the path.
    """
    with _opened(os.fspath(path), name, kind) as (file, handle):
        return Decoded(_as_seen(file), _is_lossy(file, handle))


def as_seen(picture: Image.Image, *, name: str, kind: str = "an image") -> Decoded:
    """Treat a picture that a caller opened or made as `decode` treats that of a file.

    Raises
    ------
    ValueError
        Where it cannot be decoded or holds several frames; the message begins with `name`.
    """
    with named(name, kind):
        return Decoded(_as_seen(picture), _is_lossy(picture))


def decoded_size(path: str | os.PathLike, *, name: str, kind: str = "an image") -> tuple[int, int]:
    """Read height and width of a picture, upright, from the header of its file.

    Raises
    ------
    ValueError
        Where the file is absent, a folder, no picture or one of too many pixels; the message begins
        with `name` and the path.
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


@contextmanager
def _opened(path: str, name: str, kind: str) -> Iterator[tuple[ImageFile.ImageFile, BinaryIO]]:
    """Open a file, and make whatever Pillow raises meanwhile into an error that names it."""
    with named(f"{name}: {path!r}", kind):
        try:
            with open(path, "rb") as handle, Image.open(handle) as file:
                # Up to the double Pillow only warns, and names no file.
                if math.prod(file.size) > (Image.MAX_IMAGE_PIXELS or math.inf):
                    raise _too_many_pixels()
                yield file, handle
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _too_many_pixels() from None
        except UnidentifiedImageError:
            with open(path, "rb") as handle:
                if handle.read(132)[128:] == b"DICM":
                    raise Refused(
                        f"is a DICOM file, as which {kind} is not read; save it as PNG"
                    ) from None
            raise Refused(
                f"cannot be decoded as {kind}: its bytes are those of no picture that Pillow knows"
            ) from None


def _too_many_pixels() -> Refused:
    return Refused(
        f"is of more than {Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's limit, since a small file "
        "may unpack to more than fits into memory; save it smaller or, where you trust it, set "
        "PIL.Image.MAX_IMAGE_PIXELS to more"
    )


@contextmanager
def named(name: str, kind: str) -> Iterator[None]:
    """Make whatever is raised meanwhile into an error that begins with `name`."""
    try:
        yield
    except MemoryError:
        raise
    except Refused as error:
        raise ValueError(f"{name} {error}") from None
    except FileNotFoundError:
        raise ValueError(f"{name} does not exist") from None
    except IsADirectoryError:
        what = "; load_image_folder lists the images in it" if kind == "an image" else ""
        raise ValueError(f"{name} is a folder, expected the file of {kind}{what}") from None
    except Exception as error:  # damaged files make decoders raise nearly anything
        raise ValueError(f"{name} cannot be decoded as {kind} ({error})") from error


def _as_seen(picture: Image.Image) -> Image.Image:
    # The second frame of an MPO file is a preview.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if frames > 1:
        raise Refused(
            f"holds {frames} frames, expected one picture; save the frame that you want as a "
            "file of its own, or pass a copy() of it"
        )
    deep_colour = _is_deep_colour(picture)
    upright = _upright(picture)
    if picture.format == "TIFF":
        upright = _black_at_zero(upright, picture)
    if picture.mode == "I" and picture.format in ("PNG", "PPM"):  # before Pillow 11.1
        upright = Image.fromarray(np.asarray(upright).astype(np.uint16))
    if deep_colour and np.asarray(upright)[..., :3].max() < _QUARTER:
        raise Refused(
            "has 16-bit colours, all of them below a quarter of 65535, and only the upper 8 "
            "bits of each would be read; save it in grey, or with 8 bits a channel"
        )
    return upright


def _upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says that it is to be seen."""
    if isinstance(picture, ImageFile.ImageFile) and picture.filename:
        # Pillow maps the rows of a TIFF file that is to be turned at their turned length
        # (Pillow 13); it maps only files that it knows the name of.
        filename, picture.filename = picture.filename, ""
        try:
            picture.load()
        finally:
            picture.filename = filename
    return ImageOps.exif_transpose(picture)


def _is_deep_colour(picture: Image.Image) -> bool:
    """Whether Pillow will keep only the upper half of 16-bit channels; known before it loads."""
    tiles = getattr(picture, "tile", None) or [(None, None, None, "")]
    layout = tiles[0][3]
    return picture.mode in ("RGB", "RGBA", "CMYK") and ";16" in str(
        layout[0] if isinstance(layout, tuple) else layout
    )


def _black_at_zero(picture: Image.Image, file: Image.Image) -> Image.Image:
    """Invert what a TIFF file says is white at zero; Pillow does it up to 8 bits."""
    tags = getattr(file, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) != _MIN_IS_WHITE:
        return picture
    if picture.mode.startswith("I;16"):
        white = 2 ** tags.get(_BITS, (16,))[0] - 1
        return Image.fromarray((white - np.asarray(picture, dtype=np.int32)).astype(np.uint16))
    if picture.mode == "F":
        raise Refused("has floats of which 0 is white; save them with 0 as black")
    return picture


def _is_lossy(picture: Image.Image, handle: BinaryIO | None = None) -> bool:
    if picture.format == "WEBP" and handle is not None:  # only its bytes tell
        handle.seek(0)
        return b"VP8L" not in handle.read()
    compression = str(picture.info.get("compression"))
    return picture.format in ("JPEG", "MPO") or "jpeg" in compression
