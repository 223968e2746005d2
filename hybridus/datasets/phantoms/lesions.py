"""The lesion of a simulated scan: its sonographic signs by class, its outline, its echoes."""

from dataclasses import dataclass, field

import numpy as np

from hybridus.datasets.phantoms.physics import Grid, Tissue, smooth_noise

_STEPS = 720
_WELL_SEEN = 0.25  # of the field: least mean axis of the easiest lesions
_ANGLES = np.linspace(-np.pi, np.pi, _STEPS, endpoint=False)


@dataclass(frozen=True)
class Lesion:
    """One lesion and its signs.

    Parameters
    ----------
    kind : str
        "cyst", "fibroadenoma" or "lipoma" (benign), "carcinoma" (malignant).
    margin : str
        "circumscribed", "lobulated", "spiculated", "angular" or "microlobulated".
    center_x_mm, center_z_mm : float
        Lateral position and depth.
    width_mm, height_mm, tilt_rad : float
        Axes and rotation of the ellipse that the outline follows.
    backscatter_db, texture_db : float
        Echo level inside, relative to fibroglandular tissue, and its heterogeneity.
    attenuation : float
        Beyond the surroundings, in dB/cm/MHz: negative enhances what lies below, positive shades.
    rim_mm : float
        Thickness of the echogenic rim; 0 for none.
    capsule : float
        Strength of a thin bright capsule; 0 for none.
    blur_mm : float
        How gradually the lesion passes into its surroundings.
    calcifications : int
        Number of bright specks inside.
    push : float
        By how much of its own size it has pushed layers apart; negative where it draws them in.
    outline : ndarray of shape (720,), float32
        Reach at angles from -pi on, relative to the ellipse.
    """

    kind: str
    margin: str
    center_x_mm: float
    center_z_mm: float
    width_mm: float
    height_mm: float
    tilt_rad: float
    backscatter_db: float
    texture_db: float
    attenuation: float
    rim_mm: float
    capsule: float
    blur_mm: float
    calcifications: int
    push: float
    outline: np.ndarray = field(repr=False)

    def axes(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates along width and height; the ellipse is where their squares add up to 1."""
        dx, dz = grid.x_mm - self.center_x_mm, grid.z_mm - self.center_z_mm
        cos, sin = float(np.cos(self.tilt_rad)), float(np.sin(self.tilt_rad))
        u = (cos * dx + sin * dz) * (2 / self.width_mm)
        v = (cos * dz - sin * dx) * (2 / self.height_mm)
        return u, v

    def push_mm(self, grid: Grid) -> np.ndarray:
        """How far the lesion has moved the tissue down, shape (n, n)."""
        u, v = self.axes(grid)
        return 0.5 * self.push * self.height_mm * v * np.exp(-0.5 * (u**2 + v**2))


def draw_benign(rng: np.random.Generator, field_mm: float, difficulty: float = 1.0) -> Lesion:
    """Draw a cyst, fibroadenoma or lipoma: oval, circumscribed, parallel to the skin.

    Easy ones are large enough to be seen well, and never round.
    """
    kind = str(rng.choice(["cyst", "fibroadenoma", "lipoma"], p=[0.35, 0.55, 0.1]))
    roundest = 0.7 + difficulty * (0.98 - 0.7)
    ends = (0.55, roundest) if kind == "cyst" else (0.42, min(0.85, roundest))
    aspect = rng.uniform(*ends)
    lobulated = kind == "fibroadenoma" and rng.random() < 0.35
    echoes = {"cyst": (-45, -28), "fibroadenoma": (-16, -8), "lipoma": (-3, 3)}[kind]
    loss = {"cyst": (-0.7, -0.4), "fibroadenoma": (-0.4, 0.1), "lipoma": (-0.1, 0.1)}[kind]
    return Lesion(
        kind=kind,
        margin="lobulated" if lobulated else "circumscribed",
        **_place(rng, field_mm, _size(rng, (0.1, 0.45), difficulty) * field_mm, aspect),
        tilt_rad=rng.uniform(-0.2, 0.2),
        backscatter_db=rng.uniform(*echoes),
        texture_db=0.0 if kind == "cyst" else rng.uniform(0.5, 1.5),
        attenuation=rng.uniform(*loss),
        rim_mm=0.0,
        capsule=rng.uniform(0.3, 1.5) if rng.random() < 0.8 else 0.0,
        blur_mm=rng.uniform(0.1, 0.25),
        calcifications=int(rng.integers(1, 3)) if kind != "cyst" and rng.random() < 0.08 else 0,
        push=rng.uniform(0.1, 0.4),
        outline=_smooth_outline(rng, 0.05, [3, 4]) if lobulated else _smooth_outline(rng, 0.02),
    )


def draw_malignant(rng: np.random.Generator, field_mm: float, difficulty: float = 1.0) -> Lesion:
    """Draw a carcinoma: irregular, often taller than wide, with rim and shadow.

    Easy ones are large enough to be seen well, and lack none of these signs.
    """
    margin = str(rng.choice(["spiculated", "angular", "microlobulated"], p=[0.45, 0.25, 0.3]))
    tall, shadow, rim = (1 - difficulty * without for without in (0.25, 0.3, 0.25))
    aspect = rng.uniform(1.02, 1.55) if rng.random() < tall else rng.uniform(0.7, 1.02)
    shadows = rng.random() < shadow
    return Lesion(
        kind="carcinoma",
        margin=margin,
        **_place(rng, field_mm, _size(rng, (0.16, 0.48), difficulty) * field_mm, aspect),
        tilt_rad=rng.uniform(-0.35, 0.35),
        backscatter_db=rng.uniform(-24, -12),
        texture_db=rng.uniform(1.5, 4.5),
        attenuation=rng.uniform(0.25, 0.8) if shadows else rng.uniform(-0.25, 0.25),
        rim_mm=rng.uniform(1, 3) if rng.random() < rim else 0.0,
        capsule=0.0,
        blur_mm=rng.uniform(0.2, 0.8),
        calcifications=int(rng.integers(2, 9)) if rng.random() < 0.4 else 0,
        push=rng.uniform(-0.3, 0.0),
        outline=_OUTLINES[margin](rng),
    )


def _size(rng: np.random.Generator, ends: tuple[float, float], difficulty: float) -> float:
    """Mean axis as a share of the field, as often doubled as halved; easy ones are not small."""
    low, high = np.log(ends)
    low += (1 - difficulty) * (np.log(_WELL_SEEN) - low)
    return float(np.exp(rng.uniform(low, high)))


def _place(
    rng: np.random.Generator, field_mm: float, size_mm: float, aspect: float
) -> dict[str, float]:
    """Center and axes of an ellipse with mean axis `size_mm` and height over width `aspect`."""
    root = float(np.sqrt(aspect))
    height = size_mm * root
    shallowest = 2.5 + height / 2
    deepest = max(shallowest + 1, min(0.65 * field_mm, field_mm - 0.7 * height))
    return {
        "center_x_mm": rng.uniform(0.25, 0.75) * field_mm,
        "center_z_mm": rng.uniform(shallowest, deepest),
        "width_mm": size_mm / root,
        "height_mm": height,
    }


def _smooth_outline(
    rng: np.random.Generator, depth: float, waves: tuple[int, ...] | list[int] = (2, 3)
) -> np.ndarray:
    radius = np.ones(_STEPS)
    for wave in waves:
        radius += rng.normal(0, depth) * np.cos(wave * _ANGLES + rng.uniform(0, 2 * np.pi))
    return radius.astype(np.float32)


def _spiculated_outline(rng: np.random.Generator) -> np.ndarray:
    """Uneven body with pointed spicules in all directions."""
    radius = 0.85 * _smooth_outline(rng, 0.05, [2, 3, 4, 5])
    spicules = rng.integers(7, 15)
    for k in range(spicules):
        direction = 2 * np.pi * (k + rng.uniform(-0.35, 0.35)) / spicules
        away = np.abs(np.angle(np.exp(1j * (_ANGLES - direction))))
        radius += min(0.1 + rng.exponential(0.25), 0.9) * np.exp(-away / rng.uniform(0.05, 0.15))
    return radius.astype(np.float32)


def _angular_outline(rng: np.random.Generator) -> np.ndarray:
    """Polygon of a few unequal corners."""
    corners = rng.integers(5, 9)
    turns = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    points = rng.uniform(0.75, 1.35, corners) * np.exp(1j * turns)
    sides = np.linspace(points, np.roll(points, -1), 60, endpoint=False).T.ravel()
    return np.interp(_ANGLES, np.angle(sides), np.abs(sides), period=2 * np.pi).astype(np.float32)


def _microlobulated_outline(rng: np.random.Generator) -> np.ndarray:
    """Many short bulges with notches between them."""
    bulges = np.abs(np.sin(0.5 * rng.integers(8, 16) * _ANGLES + rng.uniform(0, np.pi)))
    radius = 0.92 * _smooth_outline(rng, 0.06, [2, 3, 4]) + rng.uniform(0.12, 0.22) * bulges
    return radius.astype(np.float32)


_OUTLINES = {
    "spiculated": _spiculated_outline,
    "angular": _angular_outline,
    "microlobulated": _microlobulated_outline,
}


def place_lesion(
    tissue: Tissue, lesion: Lesion, rng: np.random.Generator, grid: Grid
) -> np.ndarray:
    """Put a lesion into `tissue`, which is changed, and return where it lies.

    Parameters
    ----------
    tissue : Tissue
        Breast, changed in place.
    lesion : Lesion
        What is put into it.
    rng : numpy.random.Generator
        Source of the texture inside.
    grid : Grid
        Sampling of `tissue`.

    Returns
    -------
    ndarray of shape (n, n), bool
        True inside the outline.
    """
    u, v = lesion.axes(grid)
    reach = np.hypot(u, v) + 1e-6
    turn = (np.arctan2(v, u) * (_STEPS / (2 * np.pi))).astype(np.intp) + _STEPS // 2
    turn %= _STEPS
    # Distance to the outline along the ray from the center, negative inside.
    ray = np.hypot(grid.x_mm - lesion.center_x_mm, grid.z_mm - lesion.center_z_mm)
    distance = ray * (1 - lesion.outline[turn] / reach)
    inside = 0.5 - 0.5 * np.tanh(distance / (2 * lesion.blur_mm))
    texture = 0.6 * smooth_noise(rng, grid, 0.7, 1.0) + 0.8 * smooth_noise(rng, grid, 2.5, 3.0)

    if lesion.rim_mm:
        rim = np.exp(-(((distance - 0.5 * lesion.rim_mm) / (0.7 * lesion.rim_mm)) ** 2))
        tissue.backscatter_db += (6 + 1.5 * texture) * rim
    if lesion.margin == "spiculated":
        tissue.backscatter_db += _strands(rng, lesion)[turn] * np.exp(
            -np.maximum(distance, 0) / (0.25 * (lesion.width_mm + lesion.height_mm))
        )
    level = lesion.backscatter_db + lesion.texture_db * texture
    if lesion.kind == "cyst":
        # Reverberation of the wall in front.
        front = grid.z_mm - lesion.center_z_mm + lesion.height_mm / 2
        level = level + 14 * np.exp(-np.maximum(front, 0) / 1.2)
    tissue.backscatter_db += inside * (level - tissue.backscatter_db)
    tissue.interface *= 1 - inside
    tissue.attenuation += inside * (lesion.attenuation - tissue.attenuation)
    if lesion.capsule:
        # A wall is bright where it faces the probe, and its flanks bend the beam away.
        facing = (v / lesion.height_mm) ** 2
        facing /= facing + (u / lesion.width_mm) ** 2 + 1e-9
        wall = np.exp(-((distance / 0.2) ** 2)) * np.exp(0.5 * texture)
        tissue.interface += lesion.capsule * facing * wall
        flank = np.exp(-(((np.abs(u) - 1) / 0.08) ** 2)) * (np.abs(v) < 0.6)
        tissue.attenuation += 0.15 * flank
    _calcify(tissue, lesion, rng, grid)
    return distance < 0


def _strands(rng: np.random.Generator, lesion: Lesion) -> np.ndarray:
    """Echo level by direction around a spiculated lesion: bright and dark strands in turn."""
    noise = rng.standard_normal(_STEPS)
    return 3 * np.convolve(np.r_[noise[-6:], noise, noise[:6]], np.hanning(13), "valid").astype(
        np.float32
    )


def _calcify(tissue: Tissue, lesion: Lesion, rng: np.random.Generator, grid: Grid) -> None:
    for _ in range(lesion.calcifications):
        x = lesion.center_x_mm + 0.35 * lesion.width_mm * rng.uniform(-1, 1)
        z = lesion.center_z_mm + 0.35 * lesion.height_mm * rng.uniform(-1, 1)
        speck = np.exp(-(((grid.x_mm - x) / 0.2) ** 2)) * np.exp(-(((grid.z_mm - z) / 0.2) ** 2))
        tissue.interface += rng.uniform(1.5, 5) * speck
