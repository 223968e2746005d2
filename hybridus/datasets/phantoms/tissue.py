"""Tissue of a breast without a lesion: layers from skin to chest wall, septa, shadows.

All lengths are in mm and no draw depends on the grid, so one seed is one breast at every size.
"""

import numpy as np

from hybridus.datasets.phantoms.physics import Grid, Tissue, smooth_curve, smooth_noise


def grow_breast(
    rng: np.random.Generator,
    grid: Grid,
    push_mm: np.ndarray | float = 0.0,
    difficulty: float = 1.0,
) -> Tissue:
    """Draw skin, fat, gland, retromammary fat, muscle and chest wall with what runs through them.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the anatomy.
    grid : Grid
        Field of view; row 0 is the surface of the skin.
    push_mm : ndarray of shape (n, n) or float, default=0.0
        How far a lesion has moved the tissue down.
    difficulty : float, default=1.0
        How often shadows and ribs deceive; 0 for never.

    Returns
    -------
    Tissue
        Breast without a lesion.
    """
    edges = _draw_edges(rng, grid)
    widths = (0.15, 0.6, 0.6, 0.3, 0.5)
    below = [_step(grid.z_mm - edge, width) for edge, width in zip(edges, widths, strict=True)]
    skin, fat, gland, retro, muscle = (
        upper - lower for upper, lower in zip([1.0, *below[:-1]], below, strict=True)
    )
    chest = below[-1]
    # Random fields of the texture, from the size of fat lobules down to single fibres.
    lobules = np.tanh(2.5 * smooth_noise(rng, grid, rng.uniform(1.5, 3.5), rng.uniform(3, 7)))
    leaves = smooth_noise(rng, grid, rng.uniform(0.7, 1.4), rng.uniform(1.8, 4))
    fibres = smooth_noise(rng, grid, rng.uniform(0.3, 0.6), rng.uniform(0.6, 1.4))
    strands = smooth_noise(rng, grid, rng.uniform(0.6, 1.0), rng.uniform(3, 8))
    patches = smooth_noise(rng, grid, rng.uniform(1.5, 4), rng.uniform(2, 6))
    islands = np.tanh(3 * smooth_noise(rng, grid, rng.uniform(2, 5), rng.uniform(4, 10)) + fibres)

    fat_db, muscle_db = rng.uniform(-9, -1), rng.uniform(-12, -3)
    backscatter = 2 * skin
    backscatter += fat * (fat_db + 1.5 * lobules + fibres)
    backscatter += gland * (
        rng.uniform(1, 3) * leaves
        + rng.uniform(1, 2.5) * fibres
        + rng.uniform(1, 3) * patches
        + rng.uniform(0, 4) * islands
    )
    backscatter += retro * (fat_db + 2 * leaves)
    backscatter += muscle * (muscle_db + 3 * strands + 2.5 * fibres + 2 * leaves)
    backscatter += chest * (muscle_db - 6 + 2 * fibres)

    # An interface answers as strongly as the impedance changes along the beam.
    septa = rng.uniform(0.3, 1.4) * _slope(lobules, grid) * (fat + retro + 0.3 * gland)
    sheets = _slope(np.tanh(leaves + 0.8 * fibres), grid)
    septa += rng.uniform(0.15, 0.8) * sheets * (gland + 0.3 * fat)
    septa += rng.uniform(0.15, 0.7) * _slope(strands + 0.5 * fibres, grid) * muscle
    interface = septa * np.exp(0.9 * patches) + _fasciae(rng, edges, grid)
    interface += _ligaments(rng, fat, grid)

    bend = rng.uniform(0.5, 2) * smooth_noise(rng, grid, 14, rng.uniform(7, 14))
    bend += rng.uniform(0.2, 0.9) * smooth_noise(rng, grid, 5, rng.uniform(3, 6))
    # The probe holds the skin flat.
    bend = (bend + push_mm) * np.clip(grid.z_mm / 8, 0.05, 1)
    tissue = Tissue(
        backscatter_db=_move_down(backscatter, bend, grid),
        interface=_move_down(interface, bend, grid),
        attenuation=_uneven_loss(rng, grid, difficulty) * (fat + gland),
    )
    if rng.random() < 0.2 * difficulty:
        _add_rib(rng, tissue, grid)
    return tissue


def _draw_edges(rng: np.random.Generator, grid: Grid) -> list[np.ndarray]:
    """Lower edges of skin, fat, gland, retromammary fat and muscle: depths of shape (n,)."""
    skin = rng.uniform(0.8, 1.8)
    fat = skin + grid.field_mm * rng.uniform(0.03, 0.3)
    gland = fat + grid.field_mm * rng.uniform(0.3, 0.7)
    retro = gland + grid.field_mm * rng.uniform(0.02, 0.07)
    muscle = retro + grid.field_mm * rng.uniform(0.15, 0.3)
    return [
        skin + 0.1 * smooth_curve(rng, grid, 15),
        fat + rng.uniform(0.4, 1.5) * smooth_curve(rng, grid, rng.uniform(4, 9)),
        gland + rng.uniform(0.3, 1.2) * smooth_curve(rng, grid, 10),
        retro + 0.3 * smooth_curve(rng, grid, 16),
        muscle + 0.3 * smooth_curve(rng, grid, 20),
    ]


def _step(distance: np.ndarray, width: float) -> np.ndarray:
    """0 where `distance` is negative, 1 where it is positive, soft over `width`."""
    return 0.5 + 0.5 * np.tanh(distance / (2 * width))


def _slope(impedance: np.ndarray, grid: Grid) -> np.ndarray:
    """How steeply impedance changes along the beam, per mm."""
    slope = np.empty_like(impedance)
    slope[1:-1] = impedance[2:] - impedance[:-2]
    slope[0], slope[-1] = slope[1], slope[-2]
    return np.abs(slope) / (2 * grid.pixel_mm)


def _move_down(values: np.ndarray, shift_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Values after every cell has moved down by its shift; mirrored at top and bottom."""
    rows = np.arange(grid.n, dtype=np.float32)[:, None] - shift_mm / grid.pixel_mm
    last = grid.n - 1
    rows = np.clip(last - np.abs(last - np.abs(rows)), 0, last - 1e-3)
    above = rows.astype(np.intp)
    part = rows - above.astype(np.float32)
    upper = np.take_along_axis(values, above, axis=0)
    return upper + part * (np.take_along_axis(values, above + 1, axis=0) - upper)


def _fasciae(rng: np.random.Generator, edges: list[np.ndarray], grid: Grid) -> np.ndarray:
    """Bright lines at the skin and between the layers, of changing strength."""
    lines = np.repeat(6 * np.exp(-(((grid.z_mm - 0.2) / 0.2) ** 2)), grid.n, axis=1)
    for edge, strength in zip(edges, (1.5, 1, 1, 2, 2), strict=True):
        gain = rng.uniform(0.2, 1) * strength * np.exp(0.8 * smooth_curve(rng, grid, 3))
        lines += gain * np.exp(-(((grid.z_mm - edge) / 0.15) ** 2))
    return lines


def _ligaments(rng: np.random.Generator, fat: np.ndarray, grid: Grid) -> np.ndarray:
    """Cooper's ligaments: thin arches through the fat, from the gland up to the skin."""
    lines = np.zeros((grid.n, grid.n), dtype=np.float32)
    for _ in range(rng.integers(1, 6)):
        foot, lean = rng.uniform(0, grid.field_mm), rng.uniform(-4, 4)
        course = foot + lean * grid.z_mm + rng.uniform(0.2, 1) * np.sin(0.8 * grid.z_mm + foot)
        length = float(np.hypot(1, lean))
        # A leaning sheet answers only as far as it faces the probe.
        strength = rng.uniform(0.5, 2) * abs(lean) / length
        lines += strength * np.exp(-(((grid.x_mm - course) / (0.15 * length)) ** 2))
    return lines * fat


def _uneven_loss(rng: np.random.Generator, grid: Grid, difficulty: float) -> np.ndarray:
    """Attenuation that differs between columns; at times one deep shadow (nipple, poor contact)."""
    loss = smooth_curve(rng, grid, rng.uniform(2.5, 7)) * rng.uniform(0, 0.2)
    if rng.random() < 0.25 * difficulty:
        center, width = rng.uniform(0, grid.field_mm), rng.uniform(1.5, 6)
        loss += rng.uniform(0.2, 0.8) * np.exp(-(((grid.x_mm[0] - center) / width) ** 2))
    return loss


def _add_rib(rng: np.random.Generator, tissue: Tissue, grid: Grid) -> None:
    """Add a rib in cross-section: its cortex reflects, and nothing is seen below."""
    radius = rng.uniform(3.5, 6)
    x, z = rng.uniform(0, 1) * grid.field_mm, rng.uniform(0.85, 1) * grid.field_mm
    distance = np.hypot(grid.x_mm - x, 1.5 * (grid.z_mm - z)) - radius
    bone = _step(-distance, 0.2)
    facing = np.clip((z - grid.z_mm) / radius, 0, 1)
    tissue.backscatter_db -= 8 * bone
    tissue.interface *= 1 - bone
    tissue.interface += 5 * facing * np.exp(-((distance / 0.3) ** 2))
    tissue.attenuation += 2 * bone
