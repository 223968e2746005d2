"""DICOM files: the one module that opens them, with pydicom, and makes canonical images of them.

Knows what may be wrong with one, and asks for no field that tells who the patient is.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus.inputs.decoding import Refused, named
from hybridus.inputs.dicom_paths import Reading, is_marked, split_reading
from hybridus.inputs.dicom_values import GREY, coloured, shown
from hybridus.inputs.values import ValueRange

if TYPE_CHECKING:
    from pydicom import Dataset

_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MOST_INFLATED = 2**30
# What decides how pixels are seen, and nothing that tells whose they are.
_ASKED_FOR = [
    "SOPClassUID",
    "SequenceOfUltrasoundRegions",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "PixelAspectRatio",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "BurnedInAnnotation",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
]
# What to install for pixels that pydicom and Pillow cannot decompress, by their transfer syntax.
_DECODERS = {
    "1.2.840.10008.1.2.4.51": "pylibjpeg[libjpeg]",
    "1.2.840.10008.1.2.4.57": "pylibjpeg[libjpeg]",
    "1.2.840.10008.1.2.4.70": "pylibjpeg[libjpeg]",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.91": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.201": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.202": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.203": "pylibjpeg[openjpeg]",
}
_BURNT_IN = (
    "DICOM files of this data set say that text is burnt into their pixels (BurnedInAnnotation is "
    "YES): it may name patients, it goes wherever the pixels go (pictures, overlays, reports), and "
    "a model may learn from it; crop='ultrasound' keeps the scan alone where the file tells its "
    "place"
)
_NOT_SQUARE = (
    "DICOM files of this data set have pixels that are not square (PixelAspectRatio); images are "
    "taken as they are stored, as their masks are, so shapes look stretched"
)


def read_dicom(reading: Reading, *, name: str, declared: ValueRange | None = None) -> NDArray:
    """Decode one frame into a canonical image.

    Grey values go through the modality LUT (rescaling) and the first VOI LUT or window of the file;
    without one, black and white are the ends of the range of BitsStored. `declared` takes the place
    of the window, in the units that the modality LUT gives (Hounsfield units of a CT). MONOCHROME1
    is inverted, padding is black, palettes and YBR become RGB.

    Parameters
    ----------
    reading : Reading
    name : str
        What error messages call it, such as ``images[3]``.
    declared : tuple of float, optional
        Values of black and white.

    Returns
    -------
    array of shape (H, W) or (H, W, 3), uint8 or float32

    Raises
    ------
    ImportError
        Without pydicom.
    ValueError
        Where the file holds no image that can be shown; the message begins with `name` and path.

    Warns
    -----
    UserWarning
        Where text is burnt in, or pixels are not square; Python shows each once a process.
    """
    with _opened(reading, name) as handle:
        header = _header(handle)
        frame = _frame_of(header, reading)
        _take_functional_groups(header, frame)
        _check_picture(header)
        _warn_of_doubts(header, reading)
        pixels = _decode(handle, header, frame)
        if header.PhotometricInterpretation in GREY:
            image = shown(pixels, header, declared)
        else:
            image = coloured(pixels, header, declared, name)
        return _cropped(image, header, reading)


def dicom_size(reading: Reading, *, name: str) -> tuple[int, int]:
    """Read height and width of what `read_dicom` gives, from the header."""
    with _opened(reading, name) as handle:
        header = _header(handle)
        _check_picture(header)
        top, left, bottom, right = _box(header, reading)
        return bottom - top, right - left


def crop_as_image(path: str, mask: NDArray) -> NDArray:
    """Cut from a mask what `path` keeps of its image."""
    reading = split_reading(path)
    if reading.crop is None:
        return mask
    with _opened(reading, "image") as handle:
        top, left, bottom, right = _box(_header(handle), reading)
        return np.ascontiguousarray(mask[top:bottom, left:right])


@contextmanager
def _opened(reading: Reading, name: str) -> Iterator[BinaryIO]:
    """Open a file, and make whatever is raised meanwhile into an error that names it."""
    if importlib.util.find_spec("pydicom") is None:
        raise ImportError(
            f"{name}: {reading.file!r} is a DICOM file, which needs the package pydicom: "
            "pip install 'hybridus[dicom]'"
        )
    with named(f"{name}: {reading.file!r}", "a DICOM image"), open(reading.file, "rb") as handle:
        yield handle


def _header(handle: BinaryIO) -> Dataset:
    """Read what is said about the pixels, and nothing about the patient."""
    if not is_marked(handle):
        raise Refused(
            "lacks the mark DICM that DICOM files have at byte 128; where it is DICOM none the "
            "less, write it anew with pydicom: dcmread(path, force=True).save_as(new, "
            "enforce_file_format=True)"
        )
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    # The file meta information, behind which stands what may be deflated.
    meta = read_dataset(handle, False, True, stop_when=lambda tag, _, __: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        _check_inflated(handle)
    handle.seek(0)
    return dcmread(handle, stop_before_pixels=True, specific_tags=list(_ASKED_FOR))


def _check_inflated(handle: BinaryIO) -> None:
    """Refuse a small file that unpacks to more than fits into memory."""
    unpacker, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    data = handle.read()
    while data and not unpacker.eof:
        length += len(unpacker.decompress(data, 2**20))
        data = unpacker.unconsumed_tail
        if length > _MOST_INFLATED:
            raise Refused(
                f"is deflated and unpacks to more than {_MOST_INFLATED:,} bytes; write it in "
                "another transfer syntax where you trust it"
            )


def _frame_of(header: Dataset, reading: Reading) -> int:
    """Position of the frame that is meant, from 0."""
    n_frames = int(header.get("NumberOfFrames") or 1)
    frame = reading.frame
    if n_frames > 1 and frame is None:
        raise Refused(
            f"holds {n_frames} frames, expected one picture; say which one is meant, with "
            f"hybridus.dicom_path(path, frame=...): 1 to {n_frames}, 'first' or 'middle'"
        )
    if frame in (None, "first"):
        return 0
    if frame == "middle":
        return (n_frames - 1) // 2
    number = int(frame)  # type: ignore[arg-type]
    if number > n_frames:
        raise Refused(f"has no frame {number}: it holds {n_frames}, counted from 1")
    return number - 1


def _take_functional_groups(header: Dataset, frame: int) -> None:
    """Put what enhanced files tell of a frame where plain files tell it."""
    shared = header.get("SharedFunctionalGroupsSequence") or []
    each = header.get("PerFrameFunctionalGroupsSequence") or []
    for group in [*shared[:1], *each[frame : frame + 1]]:
        for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (group.get(sequence) or [])[:1]:
                for element in item:
                    header[element.tag] = element


def _check_picture(header: Dataset) -> None:
    """Refuse what holds no picture, one that is too large, or colours that are not known."""
    rows, columns = header.get("Rows"), header.get("Columns")
    photometric = header.get("PhotometricInterpretation")
    if not rows or not columns or not photometric:
        what = header.get("SOPClassUID")
        raise Refused(
            f"holds no picture: it is DICOM of the kind {what.name!r}"
            if what
            else "holds no picture: it is DICOM without Rows, Columns or PhotometricInterpretation"
        )
    if rows * columns > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Refused(
            f"claims {rows} x {columns} pixels, more than {Image.MAX_IMAGE_PIXELS:,}, Pillow's "
            "limit; where you trust it, set PIL.Image.MAX_IMAGE_PIXELS to more"
        )
    if photometric not in (*GREY, *_COLOUR, "PALETTE COLOR"):
        raise Refused(
            f"has PhotometricInterpretation {photometric!r}, which is not read; expected "
            f"{', '.join((*GREY, *_COLOUR, 'PALETTE COLOR'))}"
        )
    samples = header.get("SamplesPerPixel", 1)
    if samples != (3 if photometric in _COLOUR else 1):
        raise Refused(f"has {samples} samples a pixel, which {photometric} has not")
    if not header.get("BitsStored"):
        raise Refused("does not tell BitsStored: its values are floats or on no known scale")


def _warn_of_doubts(header: Dataset, reading: Reading) -> None:
    if header.get("BurnedInAnnotation") == "YES" and reading.crop is None:
        warnings.warn(_BURNT_IN, UserWarning, stacklevel=4)
    ratio = header.get("PixelAspectRatio")
    if ratio is not None and len(ratio) == 2 and ratio[0] != ratio[1]:
        warnings.warn(_NOT_SQUARE, UserWarning, stacklevel=4)


def _decode(handle: BinaryIO, header: Dataset, frame: int) -> NDArray:
    """Decompress one frame; of a long loop only this frame is read."""
    from pydicom import dcmread
    from pydicom.pixels import get_decoder, pixel_array

    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise Refused("does not tell its transfer syntax, so its pixels cannot be read")
    try:
        decoder = get_decoder(syntax)
        ready = decoder.is_available
    except NotImplementedError:
        raise Refused(
            f"has pixels in the transfer syntax {syntax.name!r}, which pydicom does not decode; "
            "write it anew uncompressed, with dcmdjpeg or gdcmconv --raw, or save its frames as PNG"
        ) from None
    install = f"pip install '{_DECODERS.get(str(syntax), 'python-gdcm')}'"
    if not ready:
        raise Refused(
            f"has pixels in the transfer syntax {syntax.name!r}, for which no decoder is "
            f"installed: {install}"
        )
    handle.seek(0)
    try:
        # Of what is deflated as a whole, pydicom finds the pixels in a data set only.
        return pixel_array(dcmread(handle) if syntax == _DEFLATED else handle, index=frame)
    except MemoryError:
        raise
    except Exception as error:
        hint = ""
        if syntax.is_compressed and str(syntax) in _DECODERS:
            hint = f"; its transfer syntax is {syntax.name!r}: if the file is sound, {install}"
        seen = " ".join(str(error).split())
        raise Refused(f"has pixels that cannot be decoded ({seen}){hint}") from error


def _box(header: Dataset, reading: Reading) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of what is kept."""
    rows, columns = int(header.Rows), int(header.Columns)
    if reading.crop is None:
        return 0, 0, rows, columns
    boxes = []
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        left, top = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
        right, bottom = int(region.RegionLocationMaxX1) + 1, int(region.RegionLocationMaxY1) + 1
        is_2d, is_tissue = region.get("RegionSpatialFormat") == 1, region.get("RegionDataType") == 1
        right, bottom = min(right, columns), min(bottom, rows)
        if is_2d and 0 <= left < right and 0 <= top < bottom:
            area = (right - left) * (bottom - top)
            boxes.append((is_tissue, area, (top, left, bottom, right)))
    if not boxes:
        raise Refused(
            "tells of no two-dimensional ultrasound region (SequenceOfUltrasoundRegions), to which "
            "it should be cropped; read it without crop='ultrasound', or cut it out yourself"
        )
    return max(boxes, key=lambda box: box[:2])[2]


def _cropped(image: NDArray, header: Dataset, reading: Reading) -> NDArray:
    if image.shape[:2] != (header.Rows, header.Columns):
        raise Refused(
            f"has pixels of shape {image.shape}, but says {header.Rows} x {header.Columns}"
        )
    top, left, bottom, right = _box(header, reading)
    return np.ascontiguousarray(image[top:bottom, left:right])
