"""Physics of a B-mode scanner: scatterers, beam, attenuation and log compression make grey."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

_SOUND_MM_PER_US = 1.54
_NEPER_PER_DB = float(np.log(10) / 20)
# What the time gain assumes of soft tissue.
_TISSUE_DB_PER_CM_MHZ = 0.5


@dataclass(frozen=True)
class Grid:
    """Sampling of a square field of view; row 0 touches the probe.

    Parameters
    ----------
    field_mm : float
        Width and depth of the field.
    n : int
        Number of rows and of columns.
    """

    field_mm: float
    n: int

    @property
    def pixel_mm(self) -> float:
        """Distance of two neighbours."""
        return self.field_mm / self.n

    @property
    def x_mm(self) -> np.ndarray:
        """Lateral positions, shape (1, n), float32."""
        return ((np.arange(self.n, dtype=np.float32) + 0.5) * self.pixel_mm)[None, :]

    @property
    def z_mm(self) -> np.ndarray:
        """Depths, shape (n, 1), float32."""
        return self.x_mm.T


@dataclass
class Tissue:
    """What the sound meets, on one grid.

    Parameters
    ----------
    backscatter_db : ndarray of shape (n, n), float32
        Strength of the diffuse scatterers; 0 dB is average fibroglandular tissue.
    interface : ndarray of shape (n, n), float32
        Amplitude of interfaces, which answer partly in phase; 1 is as strong as the diffuse echo
        of one cell of fibroglandular tissue.
    attenuation : ndarray of shape (n, n), float32
        Attenuation in dB/cm/MHz beyond what the time gain compensates.
    """

    backscatter_db: np.ndarray
    interface: np.ndarray
    attenuation: np.ndarray


@dataclass(frozen=True)
class Scanner:
    """Linear probe and settings of one scan.

    Parameters
    ----------
    frequency_mhz : float
        Centre frequency.
    f_number : float
        Focal depth over aperture; sets the width of the beam in its focus.
    focus_mm : float
        Depth of the focus.
    looks : int
        Number of independent views averaged (spatial compounding).
    smoothing_mm : float
        Standard deviation of the filter by which the scanner softens the picture.
    gain_db, dynamic_range_db : float
        Level of fibroglandular echoes relative to white (negative), and the range from black to
        white.
    slope_db_per_mm : float
        Loss with depth that the time gain leaves uncompensated.
    noise_db : float
        Noise of the electronics at the probe relative to fibroglandular echoes.
    """

    frequency_mhz: float
    f_number: float
    focus_mm: float
    looks: int
    smoothing_mm: float
    gain_db: float
    dynamic_range_db: float
    slope_db_per_mm: float
    noise_db: float


def draw_scanner(rng: np.random.Generator, field_mm: float, difficulty: float = 1.0) -> Scanner:
    """Draw probe and settings as they vary between scans of one clinic.

    The easier, the nearer to the middle of their range; half of the variation is left at least.
    """
    share = 0.5 + 0.5 * difficulty

    def near(low: float, high: float) -> float:
        middle = (low + high) / 2
        return float(rng.uniform(middle + share * (low - middle), middle + share * (high - middle)))

    dynamic_range = near(55, 85)
    return Scanner(
        frequency_mhz=near(6, 14),
        f_number=near(1.5, 3),
        focus_mm=field_mm * near(0.2, 0.6),
        looks=int(rng.integers(2, 5)),
        smoothing_mm=near(0.05, 0.18),
        gain_db=-dynamic_range * near(0.32, 0.58),
        dynamic_range_db=dynamic_range,
        slope_db_per_mm=near(0.3, 1.1),
        noise_db=near(-75, -55),
    )


def smooth_noise(
    rng: np.random.Generator, grid: Grid, depth_mm: float, width_mm: float
) -> np.ndarray:
    """Gaussian random field of unit variance with given correlation lengths, shape (n, n).

    The random numbers sit on knots whose spacing does not depend on the grid, so that one seed
    gives one anatomy at every resolution.
    """
    rows, columns = _spline(grid, depth_mm), _spline(grid, width_mm)
    knots = rng.standard_normal((rows.shape[1], columns.shape[1]), dtype=np.float32)
    return rows @ knots @ columns.T


def smooth_curve(rng: np.random.Generator, grid: Grid, width_mm: float) -> np.ndarray:
    """Gaussian random curve of unit variance along the columns, shape (n,)."""
    columns = _spline(grid, width_mm)
    return columns @ rng.standard_normal(columns.shape[1], dtype=np.float32)


def _spline(grid: Grid, scale_mm: float) -> np.ndarray:
    knots = np.arange(-2, grid.field_mm / scale_mm + 3, dtype=np.float32) * scale_mm
    weights = np.exp(-0.5 * ((grid.z_mm - knots) / (0.7 * scale_mm)) ** 2)
    return weights / np.sqrt(np.sum(weights**2, axis=1, keepdims=True))


def scan(tissue: Tissue, scanner: Scanner, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Image tissue as a B-mode scanner does.

    Every cell holds many unresolved scatterers, so its echo is a complex Gaussian number [1]_, to
    which interfaces add, half in phase. The sum is convolved with the point spread function in
    the base band [2]_: laterally a beam whose width depends on depth, axially the pulse. The
    envelope, weakened by what lies above and averaged over looks, is compressed to decibels and
    cut to the dynamic range.

    Parameters
    ----------
    tissue : Tissue
        What is scanned.
    scanner : Scanner
        What it is scanned with.
    grid : Grid
        Sampling of `tissue`.
    rng : numpy.random.Generator
        Source of the speckle.

    Returns
    -------
    ndarray of shape (n, n), float32
        Grey values from 0 (black) to 1 (white).

    References
    ----------
    .. [1] Wagner, Smith, Sandrik and Lopez, "Statistics of speckle in ultrasound B-scans", IEEE
       Transactions on Sonics and Ultrasonics 30(3), 156-163, 1983.
    .. [2] Bamber and Dickinson, "Ultrasonic B-scanning: a computer simulation", Physics in
       Medicine and Biology 25(3), 463-479, 1980.
    """
    # A rough interface answers half in phase, half as scatterers do.
    in_phase = 0.6 * tissue.interface
    amplitude = _from_db(tissue.backscatter_db) + 0.6 * tissue.interface
    transmitted = _from_db(-shadow_db(tissue.attenuation, scanner, grid))
    # The time gain lifts echoes and noise alike: noise grows with depth.
    lifted = 2 * _TISSUE_DB_PER_CM_MHZ * scanner.frequency_mhz * grid.z_mm / 10
    noise = _from_db(scanner.noise_db + lifted)
    beam, pulse = _beam_transfer(scanner, grid), _pulse(scanner, grid)
    envelope = np.zeros((grid.n, grid.n), dtype=np.float32)
    scatterers = _circular_noise(rng, grid.n)
    for look in range(scanner.looks):
        # Moved and turned upside down, the same numbers are new to every place: other
        # scatterers for the next look, and the noise of the electronics.
        cells = np.roll(scatterers, look * grid.n // scanner.looks, axis=0)
        echo = amplitude * cells + in_phase
        # Beams at one edge see a trace of the other; speckle hides it.
        echo = fft.ifft(fft.fft(echo, axis=1) * beam, axis=1)
        echo = _along_depth(echo, pulse) * transmitted
        envelope += np.abs(echo + noise * cells[::-1])
    level = np.log(envelope / scanner.looks + 1e-6) / _NEPER_PER_DB
    level += scanner.gain_db - scanner.slope_db_per_mm * grid.z_mm
    level = ndimage.gaussian_filter(level, scanner.smoothing_mm / grid.pixel_mm, mode="nearest")
    return np.clip(1 + level / scanner.dynamic_range_db, 0, 1)


def _from_db(level: np.ndarray) -> np.ndarray:
    return np.exp(_NEPER_PER_DB * level)


def shadow_db(attenuation: np.ndarray, scanner: Scanner, grid: Grid) -> np.ndarray:
    """Loss there and back, shape (n, n); negative where less is lost than was compensated."""
    loss = np.cumsum(attenuation, axis=0) * (2 * scanner.frequency_mhz * grid.pixel_mm / 10)
    # The aperture sees around an obstacle: shadows have soft flanks.
    return ndimage.gaussian_filter1d(loss, 0.5 / grid.pixel_mm, axis=1, mode="nearest")


def _circular_noise(rng: np.random.Generator, n: int) -> np.ndarray:
    """Complex Gaussian numbers of unit power, shape (n, n)."""
    pairs = rng.standard_normal((n, 2 * n), dtype=np.float32)
    pairs *= float(np.sqrt(0.5))
    return pairs.view(np.complex64)


def beam_sigma_mm(scanner: Scanner, depth_mm: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the lateral beam profile at each depth.

    In its focus the beam is as wide as the wavelength times the f-number (full width at half
    maximum). It keeps that width over the depth of field, 7 wavelengths times the f-number
    squared, and spreads beyond.
    """
    wavelength = _SOUND_MM_PER_US / scanner.frequency_mhz
    waist = wavelength * scanner.f_number / 2.355
    depth_of_field = 7 * wavelength * scanner.f_number**2
    return waist * np.hypot(1, (depth_mm - scanner.focus_mm) / depth_of_field)


def _beam_transfer(scanner: Scanner, grid: Grid) -> np.ndarray:
    """Fourier transform of the beam profile of each row, shape (n, n); keeps speckle's power."""
    sigma = beam_sigma_mm(scanner, grid.z_mm)
    cycles = fft.fftfreq(grid.n, grid.pixel_mm).astype(np.float32)
    transfer = np.exp(-2 * (np.pi * sigma * cycles) ** 2)
    return transfer / np.sqrt(np.mean(transfer**2, axis=1, keepdims=True))


def _pulse(scanner: Scanner, grid: Grid) -> np.ndarray:
    """Axial profile of a pulse of about two periods; keeps speckle's power."""
    sigma = 0.8 * _SOUND_MM_PER_US / scanner.frequency_mhz / grid.pixel_mm
    reach = max(1, int(np.ceil(3 * sigma)))
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (profile / np.sqrt(np.sum(profile**2))).astype(np.float32)


def _along_depth(echo: np.ndarray, pulse: np.ndarray) -> np.ndarray:
    reach = len(pulse) // 2
    rows = np.pad(echo, ((reach, reach), (0, 0)), mode="edge")
    result = pulse[0] * rows[: len(echo)]
    for k in range(1, len(pulse)):
        result += pulse[k] * rows[k : k + len(echo)]
    return result
