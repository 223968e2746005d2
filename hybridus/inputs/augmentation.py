"""Augmentation: what may change in an image without changing what it shows, declared as data.

Parameters are drawn with NumPy, one row an image; pixels and masks are moved by the same geometry.
"""

# Keras's own random layers do not serve: what they draw for an image depends on its place in the
# batch, so a stored view of an image would depend on what else it was encoded with.

import hashlib
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hybridus.inputs.resizing import resize_image

Flip = Literal["none", "horizontal", "vertical", "both"]
FillMode = Literal["constant", "nearest", "reflect"]

# Uniform numbers an image takes, always all of them: two policies given the same numbers make
# the same choices and differ in their strength alone. Those of changes that were added later are
# drawn from the last of these, so that what was drawn before stays what it was.
_COLUMNS = 10
_LATER = 3

# What a strength may be. Comparisons with NaN are false, so NaN is refused by all.
_LIMITS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "shift": ("at least 0 and below 1", lambda value: 0 <= value < 1),
    "rotation": ("at least 0 and at most 180 degrees", lambda value: 0 <= value <= 180),
    "zoom": ("finite and at least 0", lambda value: 0 <= value < np.inf),
    "brightness": ("at least 0 and at most 1", lambda value: 0 <= value <= 1),
    "contrast": ("finite and at least 0", lambda value: 0 <= value < np.inf),
    "gamma": ("finite and at least 0", lambda value: 0 <= value < np.inf),
    "speckle": ("finite and at least 0", lambda value: 0 <= value < np.inf),
    "aspect": ("finite and at least 0", lambda value: 0 <= value < np.inf),
    "gain": ("finite and at least 0", lambda value: 0 <= value < np.inf),
    "resolution": ("finite and at least 0", lambda value: 0 <= value < np.inf),
}


@dataclass(frozen=True)
class Augmentation:
    """How far images may be changed in training: a policy that is plain, hashable data.

    Geometry is one affine map (flip, zoom, aspect, rotation about the centre, shift) with one
    bilinear interpolation; then come contrast, brightness, gain, resolution, gamma and speckle. A
    value is the largest change,
    and 0 is none; how much an image is changed is drawn. Declaring and drawing need no Keras.

    Parameters
    ----------
    flip : {"none", "horizontal", "vertical", "both"}, default="horizontal"
        Axes along which an image is mirrored, each with probability one half.
    shift : float, default=0.0
        Largest shift either way, as a fraction of the height and of the width; below 1.
    rotation : float, default=0.0
        Largest rotation either way, in degrees; at most 180.
    zoom : float, default=0.0
        The scale is log-uniform between 1 / (1 + zoom) and 1 + zoom.
    brightness : float, default=0.0
        Largest offset either way, as a fraction of full scale (255); at most 1.
    contrast : float, default=0.0
        The factor by which pixels depart from their image's mean is log-uniform between
        1 / (1 + contrast) and 1 + contrast.
    gamma : float, default=0.0
        The exponent of pixels / 255 is log-uniform between 1 / (1 + gamma) and 1 + gamma; above 1
        darkens.
    speckle : float, default=0.0
        Standard deviation of the Gaussian noise of mean 1 by which pixels are multiplied, the same
        for all channels of a pixel.
    fill_mode : {"constant", "nearest", "reflect"}, default="constant"
        What lies beyond the border: black, the border's own pixels, or the image mirrored.
    aspect : float, default=0.0
        The width over the height is multiplied by a factor that is log-uniform between
        1 / (1 + aspect) and 1 + aspect: images that were stretched otherwise.
    gain : float, default=0.0
        The factor of all pixels is log-uniform between 1 / (1 + gain) and 1 + gain.
    resolution : float, default=0.0
        The image is brought down to 1 / f of its pixels a side and up again, by area and by
        bilinear interpolation; f is log-uniform between 1 and 1 + resolution.

    Raises
    ------
    ValueError
        If a value is unknown, negative, not a finite number or above its limit.

    Notes
    -----
    Geometry is defined in fractions of height and width, so that an image and its mask move alike
    at whatever sizes they are held. A rotation therefore keeps angles on square images only; on
    others it is what the rotation of the image stretched to a square would be.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.inputs.augmentation import Augmentation
    >>> policy = Augmentation(rotation=10, gamma=0.2)
    >>> transforms = policy.draw(3, np.random.default_rng(0))
    >>> transforms.rotations.round(1).tolist()
    [6.3, 4.6, 2.3]
    >>> scans = np.full((3, 64, 64, 1), 128, dtype=np.uint8)
    >>> transforms.images(scans).shape
    (3, 64, 64, 1)
    >>> transforms.masks(scans > 0).dtype
    dtype('uint8')
    """

    flip: Flip = "horizontal"
    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    speckle: float = 0.0
    fill_mode: FillMode = "constant"
    aspect: float = 0.0
    gain: float = 0.0
    resolution: float = 0.0

    def __post_init__(self) -> None:
        for name, kind in (("flip", Flip), ("fill_mode", FillMode)):
            if getattr(self, name) not in get_args(kind):
                choices = ", ".join(repr(choice) for choice in get_args(kind))
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {choices}")
        for name, (expected, holds) in _LIMITS.items():
            value = getattr(self, name)
            real = isinstance(value, Real) and not isinstance(value, bool)
            if not (real and holds(float(value))):
                raise ValueError(f"{name}={value!r}: expected a number, {expected}")
            # One type, so that policies that are equal also print alike.
            object.__setattr__(self, name, float(value))

    @property
    def identity(self) -> bool:
        """Whether the policy never changes an image."""
        return self == Augmentation(flip="none", fill_mode=self.fill_mode)

    def draw(self, n_images: int, rng: np.random.Generator) -> "Transforms":
        """Draw the transforms of `n_images` images.

        Each image takes the same count of numbers from `rng`, so drawing for 8 images and then for
        4 is the same as drawing for 12.

        Parameters
        ----------
        n_images : int
        rng : numpy.random.Generator

        Returns
        -------
        Transforms of length `n_images`
        """
        return self._transforms(rng.random((n_images, _COLUMNS)))

    def view(self, key: bytes, number: int) -> "Transforms":
        """Give the transforms of one numbered view of an image.

        They are a pure function of policy, `key` and `number`, the same in every process and with
        every version of NumPy, so that a stored view can be found again.

        Parameters
        ----------
        key : bytes
            What names the image, such as the digest of its pixels.
        number : int
            Number of the view; 0 is the image itself, unchanged.

        Returns
        -------
        Transforms of length 1

        Raises
        ------
        TypeError
            If `key` is not bytes or `number` not an integer.
        ValueError
            If `number` is negative.

        Examples
        --------
        >>> from hybridus.inputs.augmentation import Augmentation
        >>> policy = Augmentation(rotation=10)
        >>> [policy.view(b"scan 17", i).rotations.round(1).item() for i in (1, 2)]
        [-2.1, 3.2]
        """
        number = operator.index(number)
        if number < 0:
            raise ValueError(f"number={number}: views are numbered from 0, the image itself")
        if not isinstance(key, bytes):
            raise TypeError(f"key={key!r}: expected bytes, got {type(key).__name__}")
        digest = hashlib.shake_128(number.to_bytes(8, "little") + key).digest(8 * _COLUMNS)
        bits = np.frombuffer(digest, dtype="<u8") >> np.uint64(11)
        uniform = bits[np.newaxis] * 2.0**-53
        still = Augmentation(flip="none", fill_mode=self.fill_mode)
        return (self if number else still)._transforms(uniform)

    def _transforms(self, uniform: NDArray[np.floating]) -> "Transforms":
        """Map uniform numbers in [0, 1), one row an image, to transforms."""
        either_way = 2 * uniform - 1

        def log_uniform(column: int, strength: float) -> NDArray[np.floating]:
            return np.exp(either_way[:, column] * np.log1p(strength))

        seeds = (uniform[:, 9] * 2.0**53).astype(np.uint64)
        changed = self.aspect or self.gain or self.resolution
        later = _later(seeds) if changed else np.full((len(seeds), _LATER), 0.5)

        axes = [self.flip in ("vertical", "both"), self.flip in ("horizontal", "both")]
        return Transforms(
            flips=(uniform[:, :2] < 0.5) & np.array(axes),
            shifts=either_way[:, 2:4] * self.shift,
            rotations=either_way[:, 4] * self.rotation,
            scales=log_uniform(5, self.zoom),
            brightnesses=either_way[:, 6] * self.brightness,
            contrasts=log_uniform(7, self.contrast),
            gammas=log_uniform(8, self.gamma),
            speckles=np.full(len(uniform), self.speckle),
            seeds=seeds,
            aspects=np.exp((2 * later[:, 0] - 1) * np.log1p(self.aspect)),
            gains=np.exp((2 * later[:, 1] - 1) * np.log1p(self.gain)),
            coarsenesses=np.exp(later[:, 2] * np.log1p(self.resolution)),
            fill_mode=self.fill_mode,
        )


@dataclass(frozen=True, eq=False)
class Transforms:
    """What is done to each image of a batch: arrays of parameters, one row an image.

    Drawn by `Augmentation.draw` and `Augmentation.view`. ``transforms[rows]`` takes a slice, an
    index array or a boolean mask. What becomes of an image depends on its own row alone, never on
    the images around it.

    Attributes
    ----------
    flips : bool array of shape (n, 2)
        Whether the image is mirrored top to bottom, and left to right.
    shifts : float array of shape (n, 2)
        Shift down and to the right, as fractions of height and width.
    rotations : float array of shape (n,)
        Degrees, counter-clockwise as the image is seen.
    scales : float array of shape (n,)
        Above 1 enlarges.
    brightnesses, contrasts, gammas, speckles : float arrays of shape (n,)
        As in `Augmentation`.
    seeds : uint64 array of shape (n,)
        Where the speckle noise of each image starts from.
    aspects : float array of shape (n,)
        Factor of width over height.
    gains : float array of shape (n,)
        Factor of all pixels.
    coarsenesses : float array of shape (n,)
        By how much the pixels a side are fewer for a moment; 1 leaves them.
    fill_mode : {"constant", "nearest", "reflect"}
    """

    flips: NDArray[np.bool_]
    shifts: NDArray[np.floating]
    rotations: NDArray[np.floating]
    scales: NDArray[np.floating]
    brightnesses: NDArray[np.floating]
    contrasts: NDArray[np.floating]
    gammas: NDArray[np.floating]
    speckles: NDArray[np.floating]
    seeds: NDArray[np.uint64]
    aspects: NDArray[np.floating]
    gains: NDArray[np.floating]
    coarsenesses: NDArray[np.floating]
    fill_mode: FillMode = "constant"

    def __len__(self) -> int:
        return len(self.flips)

    def __getitem__(self, rows: Any) -> "Transforms":
        index = np.atleast_1d(np.arange(len(self))[rows])
        return Transforms(
            **{name: getattr(self, name)[index] for name in _ARRAYS}, fill_mode=self.fill_mode
        )

    @staticmethod
    def concatenate(parts: "Sequence[Transforms]") -> "Transforms":
        """Join transforms of one fill mode, in order.

        Raises
        ------
        ValueError
            If there are none, or their fill modes differ.
        """
        modes = {part.fill_mode for part in parts}
        if len(modes) != 1:
            raise ValueError(
                f"transforms to join have the fill modes {sorted(modes)}: expected exactly one"
            )
        return Transforms(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS},
            fill_mode=modes.pop(),
        )

    def images(self, batch: NDArray) -> NDArray[np.float32]:
        """Transform images.

        Parameters
        ----------
        batch : array of shape (n, H, W, 1) or (n, H, W, 3), uint8 or float
            Pixels on the scale 0..255; they are not written to.

        Returns
        -------
        float32 array of the same shape
            Clipped to 0..255 wherever anything but geometry changed. Rows that are flipped at most
            keep their pixels exactly.

        Raises
        ------
        ValueError
            If the shape or type of `batch` is another, or its length is not that of the transforms.
        """
        batch = np.asarray(batch)
        if batch.ndim != 4 or batch.shape[3] not in (1, 3):
            raise ValueError(f"batch has shape {batch.shape}: expected (n, H, W, 1 or 3)")
        if batch.dtype != np.uint8 and not np.issubdtype(batch.dtype, np.floating):
            raise ValueError(f"batch is of type {batch.dtype}: expected uint8 or float, 0..255")
        self._check_length(batch)
        pixels = np.array(batch, dtype=np.float32, order="C")
        # One image at a time stays in the processor's cache.
        exposed = (self.contrasts != 1) | (self.brightnesses != 0) | (self.gains != 1)
        for i in np.flatnonzero(exposed):
            self._expose(pixels[i], i)
        pixels = self._move(pixels)
        developed = (self.gammas != 1) | (self.speckles != 0) | (self.coarsenesses != 1)
        for i in np.flatnonzero(exposed | developed):
            self._develop(pixels[i], i)
        return pixels

    def masks(self, batch: NDArray) -> NDArray[np.uint8]:
        """Move masks as `images` moves their images; the two may be held at different sizes.

        Parameters
        ----------
        batch : array of shape (n, H, W) or (n, H, W, 1), bool, integer or float
            Nonzero is lesion; it is not written to.

        Returns
        -------
        uint8 array of the same shape
            1 where the interpolated mask is at least one half, else 0. Beyond the border lies no
            lesion where the fill mode is "constant".

        Raises
        ------
        ValueError
            If the shape of `batch` is another, or its length is not that of the transforms.
        """
        batch = np.asarray(batch)
        if batch.ndim not in (3, 4) or batch.shape[3:] not in ((), (1,)):
            raise ValueError(f"masks have shape {batch.shape}: expected (n, H, W) or (n, H, W, 1)")
        self._check_length(batch)
        moved = self._move((batch != 0).astype(np.float32).reshape(*batch.shape[:3], 1))
        return (moved >= 0.5).astype(np.uint8).reshape(batch.shape)

    def _check_length(self, batch: NDArray) -> None:
        if len(batch) != len(self):
            raise ValueError(f"batch has length {len(batch)}: expected {len(self)}, as drawn")

    def _move(self, moved: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the geometry in place; rows that are flipped at most are not interpolated."""
        interpolated = (self.shifts != 0).any(axis=1) | (self.rotations != 0)
        interpolated |= (self.scales != 1) | (self.aspects != 1)
        for i in np.flatnonzero(self.flips.any(axis=1) & ~interpolated):
            vertical, horizontal = self.flips[i]
            moved[i] = moved[i, :: -1 if vertical else 1, :: -1 if horizontal else 1].copy()
        if interpolated.any():
            rows = slice(None) if interpolated.all() else np.flatnonzero(interpolated)
            moved[rows] = self[rows]._interpolate(moved[rows])
        return moved

    def _interpolate(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        from hybridus._keras import keras

        moved = keras.ops.image.affine_transform(
            batch,
            self._inverse_maps(*batch.shape[1:3]).astype(np.float32),
            interpolation="bilinear",
            fill_mode=self.fill_mode,
            fill_value=0,
            data_format="channels_last",
        )
        return keras.ops.convert_to_numpy(moved)

    def _inverse_maps(self, height: int, width: int) -> NDArray[np.floating]:
        """Rows (n, 8) that lead from an output pixel's indices (x, y) to those in the input."""
        angle = np.deg2rad(self.rotations)
        cos, sin = np.cos(angle) / self.scales, np.sin(angle) / self.scales
        wider = np.sqrt(self.aspects)
        mirror_y, mirror_x = np.where(self.flips, -1.0, 1.0).T
        # In fractions of width and height from the centre; pixel x lies at (x + 0.5) / width - 0.5.
        xx, xy = mirror_x * cos / wider, -mirror_x * sin / wider
        yx, yy = mirror_y * sin * wider, mirror_y * cos * wider
        down, right = self.shifts.T
        # The same in pixel indices, where the centre of the image is (width - 1) / 2.
        xy, yx = xy * width / height, yx * height / width
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        from_x, from_y = centre_x + right * width, centre_y + down * height
        zero = np.zeros(len(self))
        x0 = centre_x - xx * from_x - xy * from_y
        y0 = centre_y - yx * from_x - yy * from_y
        return np.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=1)

    def _expose(self, pixels: NDArray[np.float32], i: np.integer) -> None:
        """Apply contrast, brightness and gain to image `i` in place, unclipped.

        All are linear and so may come before the interpolation as well as after it; coming before,
        they leave black what lies beyond the border, and the mean is that of the image alone.
        """
        offset = pixels.mean(dtype=np.float64) * (1 - self.contrasts[i])
        pixels *= float(self.contrasts[i])
        pixels += float(offset + 255 * self.brightnesses[i])
        if self.gains[i] != 1:
            pixels *= float(self.gains[i])

    def _develop(self, pixels: NDArray[np.float32], i: np.integer) -> None:
        """Clip image `i` and apply resolution, gamma and speckle, in place."""
        np.clip(pixels, 0, 255, out=pixels)
        if self.coarsenesses[i] != 1:
            pixels[...] = _coarsened(pixels, float(self.coarsenesses[i]))
        if self.gammas[i] != 1:
            pixels /= 255
            np.power(pixels, np.float32(self.gammas[i]), out=pixels)
            pixels *= 255
        if self.speckles[i] != 0:
            rng = np.random.Generator(np.random.SFC64(int(self.seeds[i])))
            noise = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
            noise *= float(self.speckles[i])
            noise += 1
            pixels *= noise
            np.clip(pixels, 0, 255, out=pixels)


def _later(seeds: NDArray[np.uint64]) -> NDArray[np.floating]:
    """Uniform numbers of the changes that were added later, from an image's seed alone."""
    of_image = [np.random.Generator(np.random.SFC64([int(seed), 1])) for seed in seeds]
    return np.array([one.random(_LATER) for one in of_image]).reshape(-1, _LATER)


def _coarsened(pixels: NDArray[np.float32], times: float) -> NDArray[np.float32]:
    """Bring pixels (H, W, channels) down to fewer, and up again."""
    size = [max(2, round(side / times)) for side in pixels.shape[:2]]
    plane = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    down = resize_image(plane, (size[0], size[1]))
    return resize_image(down, (pixels.shape[0], pixels.shape[1])).reshape(pixels.shape)


_ARRAYS = [field.name for field in fields(Transforms) if field.name != "fill_mode"]

# For breast ultrasound: depth is vertical and shadows fall downwards, so nothing is turned upside
# down; the probe may be tilted, moved and pressed, and gain is set by hand.
PRESETS = {
    "light": Augmentation(shift=0.05, rotation=5, zoom=0.1, brightness=0.05, contrast=0.1),
    "strong": Augmentation(
        shift=0.1,
        rotation=15,
        zoom=0.25,
        brightness=0.1,
        contrast=0.3,
        gamma=0.3,
        speckle=0.1,
    ),
}


def resolve_augmentation(augmentation: str | Augmentation | None) -> Augmentation | None:
    """Give the policy that a user named.

    Parameters
    ----------
    augmentation : None, str or Augmentation
        Nothing, the name of a preset ("light" or "strong"), or a policy.

    Returns
    -------
    Augmentation or None

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> from hybridus.inputs.augmentation import resolve_augmentation
    >>> resolve_augmentation("light").rotation
    5.0
    """
    if augmentation is None or isinstance(augmentation, Augmentation):
        return augmentation
    if isinstance(augmentation, str) and augmentation in PRESETS:
        return PRESETS[augmentation]
    choices = ", ".join(repr(name) for name in PRESETS)
    raise ValueError(
        f"augmentation={augmentation!r}: expected None, one of {choices}, or an Augmentation"
    )
