"""Marks that a scanner writes over a scan: calipers, a line of text, a ruler.

Marks are drawn alike for all classes, so that none of them gives a class away.
"""

from dataclasses import dataclass

import numpy as np

from hybridus.datasets.phantoms.lesions import Lesion

# Rows of 3 x 5 letters, one octal digit a row.
_LETTERS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717",
    "6": "74757", "7": "71111", "8": "75757", "9": "75717", "H": "55755", "I": "72227",
    "L": "44447", "O": "75557", "Q": "75571", "R": "65655", "T": "72222", "U": "55557",
    " ": "00000",
}  # fmt: skip


@dataclass(frozen=True)
class Marks:
    """What is written over one scan.

    Parameters
    ----------
    calipers, dotted, ruler : bool
        Whether there are crosses at the ends of two axes, dots between them, ticks at the edge.
    text : str
        Side and quadrant or clock position; may be empty.
    text_at : tuple of float
        Left and top of the text, as parts of the image.
    """

    calipers: bool
    dotted: bool
    ruler: bool
    text: str
    text_at: tuple[float, float]


def draw_marks(rng: np.random.Generator) -> Marks:
    """Draw which marks a scan bears."""
    place = str(rng.choice(["UOQ", "UIQ", "LOQ", "LIQ", f"{rng.integers(1, 13)}H"]))
    text = f"{rng.choice(['RT', 'LT'])} {place}" if rng.random() < 0.25 else ""
    return Marks(
        calipers=bool(rng.random() < 0.25),
        dotted=bool(rng.random() < 0.5),
        ruler=bool(rng.random() < 0.25),
        text=text,
        text_at=(rng.uniform(0.02, 0.6), rng.uniform(0.55, 0.93)),
    )


def write_marks(image: np.ndarray, marks: Marks, measured: Lesion, field_mm: float) -> None:
    """Write marks over a uint8 image of shape (S, S), which is changed.

    Parameters
    ----------
    image : ndarray of shape (S, S), uint8
        Scan to write on.
    marks : Marks
        What to write.
    measured : Lesion
        Whose axes the calipers measure.
    field_mm : float
        Width and depth of the image.
    """
    size = image.shape[0]
    stroke = max(1, round(size / 128))
    if marks.calipers:
        _write_calipers(image, measured, size / field_mm, stroke, marks.dotted)
    if marks.ruler:
        for depth in np.arange(5, field_mm, 5):
            _fill(image, size - 2 * stroke, depth * size / field_mm, 2 * stroke, stroke)
    left, top = (int(part * size) for part in marks.text_at)
    for k, letter in enumerate(marks.text):
        for row, digit in enumerate(_LETTERS[letter]):
            for column in range(3):
                if int(digit, 8) & (4 >> column):
                    x, z = left + (4 * k + column) * stroke, top + row * stroke
                    _fill(image, x, z, stroke, stroke)


def _write_calipers(
    image: np.ndarray, measured: Lesion, pixels_per_mm: float, stroke: int, dotted: bool
) -> None:
    x, z = measured.center_x_mm * pixels_per_mm, measured.center_z_mm * pixels_per_mm
    cos, sin = np.cos(measured.tilt_rad), np.sin(measured.tilt_rad)
    for axis_mm, dx, dz in ((measured.width_mm, cos, sin), (measured.height_mm, -sin, cos)):
        half = axis_mm / 2 * pixels_per_mm
        for end in (-half, half):
            _fill(image, x + end * dx - 2 * stroke, z + end * dz, 5 * stroke, stroke)
            _fill(image, x + end * dx, z + end * dz - 2 * stroke, stroke, 5 * stroke)
        if dotted:
            for step in np.arange(-half, half, 4 * stroke):
                _fill(image, x + step * dx, z + step * dz, stroke, stroke)


def _fill(image: np.ndarray, x: float, z: float, width: int, height: int) -> None:
    """White rectangle; what lies outside of the image is cut off."""
    left, top = round(x), round(z)
    image[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 235
