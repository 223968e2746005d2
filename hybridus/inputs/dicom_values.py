"""Values of DICOM pixels: where black and white lie, and what is seen between them.

Knows the order of things: stored values, modality LUT, VOI LUT or window, inversion.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hybridus.inputs.decoding import Refused
from hybridus.inputs.values import ValueRange, canonical, check_scale

if TYPE_CHECKING:
    from pydicom import Dataset

# Without a window a scan of more than 8 bits must spread over this share of its range.
_SHOWN = 1 / 4
GREY = ("MONOCHROME1", "MONOCHROME2")


def shown(pixels: NDArray, header: Dataset, declared: ValueRange | None) -> NDArray:
    """Bring grey values to 0..255 as the file, or `declared`, says that they are to be seen."""
    padding = _padding(pixels, header)
    values, full = pixels, _stored_range(header)
    if header.get("ModalityLUTSequence"):
        values, full = _look_up(pixels, header.ModalityLUTSequence[0], header)
    elif header.get("RescaleSlope") is not None and header.get("RescaleIntercept") is not None:
        slope, intercept = float(header.RescaleSlope), float(header.RescaleIntercept)
        if not slope or not math.isfinite(slope) or not math.isfinite(intercept):
            raise Refused(f"has RescaleSlope {slope:g} and RescaleIntercept {intercept:g}")
        if (slope, intercept) != (1, 0):
            values = pixels * slope + intercept
            low, high = sorted(end * slope + intercept for end in full)
            full = low, high
    if declared is not None:
        if declared[0] < full[0] or declared[1] > full[1]:
            raise Refused(
                f"has values within {full[0]:g}..{full[1]:g}, and not value_range="
                f"{declared}, the values of black and white that were declared"
            )
        black, white = declared
    elif header.get("VOILUTSequence"):
        values, (black, white) = _look_up(values, header.VOILUTSequence[0], header)
    elif header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        values, (black, white) = _windowed(values, header), (0, 1)
    else:
        black, white = full
        _check_shown(values if padding is None else values[~padding], header, full)
    image = canonical(np.clip(values, black, white), (black, white))
    if header.PhotometricInterpretation == "MONOCHROME1":
        image = 255 - image
    if padding is not None:
        image[padding] = 0
    return image


def coloured(pixels: NDArray, header: Dataset, declared: ValueRange | None, name: str) -> NDArray:
    """Bring colours to 0..255; `declared` says what is black and white in each channel."""
    full = _stored_range(header)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        pixels = apply_color_lut(pixels, header)
        full = 0, int(np.iinfo(pixels.dtype).max)
        if pixels.dtype == np.uint16 and not (pixels & 255).any():
            pixels, full = (pixels >> 8).astype(np.uint8), (0, 255)  # 8 bits, written as k * 256
    if declared is not None:
        check_scale(pixels[None], lambda _: name, declared)
    return canonical(pixels, declared or full)


def _stored_range(header: Dataset) -> ValueRange:
    bits = int(header.BitsStored)
    if header.get("PixelRepresentation", 0):
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _look_up(pixels: NDArray, table: Dataset, header: Dataset) -> tuple[NDArray, ValueRange]:
    """Values of a LUT, and their range; what lies before or behind it gets its end."""
    entries, first, depth = (int(value) for value in table.LUTDescriptor)
    data = table.LUTData
    if isinstance(data, bytes):
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        packed = depth == 8 and len(data) in (entries, entries + 1)
        data = np.frombuffer(data, "u1" if packed else f"{order}u2")
    values = np.asarray(data)
    values = values.astype(np.int64)[: entries or 2**16]
    places = np.clip(np.rint(pixels).astype(np.int64) - first, 0, len(values) - 1)
    return values[places], (0, 2**depth - 1)


def _windowed(values: NDArray, header: Dataset) -> NDArray:
    """Values 0..1 by the first window of the file; PS3.3 C.11.2.1."""
    center, width = (
        float(np.atleast_1d(np.asarray(value, dtype=float))[0])
        for value in (header.WindowCenter, header.WindowWidth)
    )
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Refused(f"has VOILUTFunction {function!r}, which is not known")
    if not width >= (1 if function == "LINEAR" else math.ulp(0)) or not math.isfinite(center):
        raise Refused(
            f"has a window of center {center:g} and width {width:g}, which shows nothing; declare "
            "value_range=(black, white)"
        )
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if not width:
        return (values > center).astype(float)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _padding(pixels: NDArray, header: Dataset) -> NDArray | None:
    """Which pixels lie outside of the scan, as far as the file tells; None where none do."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    low, high = sorted((value, header.get("PixelPaddingRangeLimit", value)))
    padding = (pixels >= low) & (pixels <= high)
    return padding if padding.any() else None


def _check_shown(values: NDArray, header: Dataset, full: ValueRange) -> None:
    """Refuse a scan of many bits without a window that would be nearly of one shade."""
    if header.BitsStored <= 8 or not values.size:
        return
    smallest, largest = float(values.min()), float(values.max())
    start = smallest if header.get("PixelRepresentation", 0) else full[0]
    if largest - start < (full[1] - full[0]) * _SHOWN and smallest != largest:
        raise Refused(
            f"has no window, and its values {smallest:g}..{largest:g} are less than a quarter of "
            f"{full[0]:g}..{full[1]:g}, what its {header.BitsStored} bits can say: it would be "
            f"nearly of one shade. Declare the values of black and white that all scans share, "
            f"such as value_range=({smallest:g}, {largest:g})"
        )
