"""Batches to train on: images, augmentation and stored activations joined.

One interface for pixels and for activations at the cut: `plain` gives samples as they are, `drawn`
gives them augmented, with the transforms that a mask must follow.
"""

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hybridus._environment import n_threads
from hybridus.encoders.engine import open_engine
from hybridus.encoders.frozen import FrozenEncoder
from hybridus.inputs.augmentation import Augmentation, Transforms
from hybridus.inputs.files import KnownFiles
from hybridus.inputs.images import Images, content_key
from hybridus.inputs.resizing import Resize, map_ahead, resize_image, to_grey, widen
from hybridus.store.activations import ACTIVATIONS, Key, Rows, most_bytes, scratch_array

if TYPE_CHECKING:
    from hybridus.encoders.partition import Partition

TOGETHER = 32  # images that are decoded, augmented and predicted together


class Batches(Protocol):
    """Samples that a network takes, by index."""

    def plain(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray:
        """Give samples as they are."""

    def drawn(
        self, rows: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[NDArray, Transforms | None]:
        """Give augmented samples, and what was done to them; None where nothing was."""


class PixelBatches:
    """Images resized to the network's input, RGB or grey on the 0..255 scale.

    Resized pixels are kept while training goes on, in 8 bit where the images are; more of them
    than `most_bytes`, or than the disk has room for, are read again for each batch.
    """

    def __init__(
        self,
        images: Images,
        size: tuple[int, int],
        *,
        resize: Resize = "stretch",
        channels: Literal[1, 3] = 3,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._images, self._size, self._resize = images, size, resize
        self._channels = channels
        self._augmentation = augmentation
        self._kept = None
        with contextlib.suppress(OSError):  # no room on the disk
            self._kept = self._read_all()

    def plain(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float32]:
        """Return pixels, float32 of shape (n, H, W, channels)."""
        return self._pixels(rows).astype(np.float32)

    def drawn(
        self, rows: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Transforms | None]:
        """Return pixels, augmented anew with each call, and the transforms."""
        if self._augmentation is None:
            return self.plain(rows), None
        transforms = self._augmentation.draw(len(rows), rng)
        return _with_channels(transforms.images(self._stored(rows)), self._channels), transforms

    def _pixels(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray:
        return _with_channels(self._stored(rows), self._channels)

    def _stored(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray:
        """Pixels as they are kept, of one channel where all images are grey."""
        if self._kept is not None:
            return self._kept[np.asarray(rows, dtype=np.intp)]
        return stack_pixels([self._read(int(i)) for i in rows])

    def _read(self, i: int) -> NDArray:
        image = resize_image(self._images[i], self._size, resize=self._resize)
        return to_grey(image) if self._channels == 1 else image

    def _read_all(self) -> NDArray | None:
        """Read all images into one array, grey and 8 bit until an image is not.

        None where they would take more room than there is, however late that shows.
        """
        kept = self._room(1, np.dtype(np.uint8))
        if kept is None:
            return None
        read = map_ahead(self._read, range(len(self._images)), n_threads=n_threads())
        for i, image in enumerate(read):
            channels = 3 if image.ndim == 3 else kept.shape[-1]
            dtype = np.result_type(kept.dtype, image.dtype)
            if channels > kept.shape[-1] or dtype != kept.dtype:
                wider = self._room(channels, dtype)
                if wider is None:
                    return None
                wider[:i] = kept[:i]
                kept = wider
            kept[i] = image if image.ndim == 3 else image[..., np.newaxis]
        return kept

    def _room(self, channels: int, dtype: np.dtype) -> NDArray | None:
        shape = (len(self._images), *self._size, channels)
        if math.prod(shape) * dtype.itemsize > most_bytes():
            return None
        return scratch_array(shape, dtype)


class ActivationBatches:
    """Activations of a frozen prefix, computed once for each image or for each of its views."""

    def __init__(self, rows: Rows, n_views: int, transforms: list[Transforms] | None) -> None:
        self._rows, self._n_views, self._transforms = rows, n_views, transforms

    def plain(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray:
        """Return activations of the images as they are, (n, values), as they are kept."""
        return self._rows.take([int(i) * self._n_views for i in rows])

    def drawn(
        self, rows: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[NDArray, Transforms | None]:
        """Return activations of a random view of each image, and the views' transforms."""
        if self._transforms is None:
            return self.plain(rows), None
        places = np.asarray(rows) * self._n_views + rng.integers(self._n_views, size=len(rows))
        chosen = [self._transforms[place] for place in places]
        return self._rows.take(places), Transforms.concatenate(chosen)


def open_batches(
    images: Images,
    frozen: FrozenEncoder,
    partition: "Partition",
    *,
    augmentation: Augmentation | None = None,
    n_views: int = 1,
    dtype: str = "float32",
    passing: bool = False,
) -> Batches | None:
    """Make images into what comes after the cut of an encoder takes: pixels, or activations.

    Returns
    -------
    Batches or None
        None where activations would take more room than there is.
    """
    if not partition.taps:
        return PixelBatches(
            images, frozen.image_size, resize=frozen.resize, augmentation=augmentation
        )
    return activation_batches(
        images,
        replace(frozen, taps=partition.taps, pooling=partition.poolings),
        partition.width,
        augmentation=augmentation,
        n_views=n_views,
        dtype=dtype,
        passing=passing,
    )


def activation_batches(
    images: Images,
    frozen: FrozenEncoder,
    width: int,
    *,
    augmentation: Augmentation | None = None,
    n_views: int = 1,
    dtype: str = "float32",
    passing: bool = False,
) -> ActivationBatches | None:
    """Compute, or recall, what a frozen prefix makes of images.

    Parameters
    ----------
    images : Images
    frozen : FrozenEncoder
        The prefix.
    width : int
        Values in one row.
    augmentation : Augmentation or None
    n_views : int
        Views of each image where there is an augmentation; the first is the image itself, the
        others depend on its pixels, the policy and their number alone.
    dtype : {"float32", "float16"}
    passing : bool, default=False
        Whether the images may never come again; see `ActivationStore.rows`.

    Returns
    -------
    ActivationBatches or None
        None where they would take more room than there is.
    """
    if augmentation is None:
        n_views = 1
    resized = _Pixels(len(images), frozen.image_size)

    def prepare(image: NDArray) -> NDArray:
        return resize_image(image, frozen.image_size, resize=frozen.resize)

    # Files that are read for their digest are not read again for their pixels.
    contents = content_keys(images, keep=lambda i, image: resized.put(i, prepare(image)))
    transforms = None
    if augmentation is not None:
        transforms = [augmentation.view(key, v) for key in contents for v in range(n_views)]
    # The first view is the same under every policy.
    keys: list[Key] = [
        (key, f"{augmentation!r}/{v}" if v else "") for key in contents for v in range(n_views)
    ]

    def encode(places: list[int]) -> Iterator[NDArray[np.float32]]:
        engine = open_engine(frozen)

        def read(i: int) -> NDArray:
            kept = resized.get(i)
            return prepare(images[i]) if kept is None else kept

        return engine.run(_views(read, places, n_views, transforms, batch_size=engine.batch_size))

    name = f"{frozen.fingerprint}/{dtype}"
    rows = ACTIVATIONS.rows(name, keys, width, encode, dtype=dtype, passing=passing)
    return None if rows is None else ActivationBatches(rows, n_views, transforms)


def content_keys(
    images: Images, *, keep: Callable[[int, NDArray], None] = lambda i, image: None
) -> list[bytes]:
    """Digest of each image; a file that has not changed is read once in this process.

    ``keep(i, image)`` is given those files that are read.
    """

    def read_key(i: int) -> bytes:
        image = images[i]
        keep(i, image)
        return content_key(image)

    if images.paths is None:
        return [content_key(image) for image in images]
    stamps = images.stamps
    keys = dict(enumerate(_known_files.recall(stamps)))
    unknown = [i for i, key in keys.items() if key is None]
    read = list(map_ahead(read_key, unknown, n_threads=n_threads()))
    _known_files.remember([stamps[i] for i in unknown], read)
    keys.update(zip(unknown, read, strict=True))
    return [key for key in keys.values() if key is not None]


_known_files: KnownFiles[bytes] = KnownFiles(1_000_000)


class _Pixels:
    """Resized pixels of some images, in files without names where they are many.

    Those that would take more room than there is are not kept.
    """

    def __init__(self, n_images: int, size: tuple[int, int]) -> None:
        self._n_images, self._size = n_images, size
        self._blocks: dict[Any, NDArray | None] = {}
        self._kinds: dict[int, Any] = {}
        self._lock = threading.Lock()

    def put(self, i: int, pixels: NDArray) -> None:
        """Keep the pixels of an image."""
        kind = (pixels.shape[2:], pixels.dtype)
        with self._lock:
            if kind not in self._blocks:
                self._blocks[kind] = self._room(*kind)
        block = self._blocks[kind]
        if block is not None:
            block[i] = pixels
            self._kinds[i] = kind

    def get(self, i: int) -> NDArray | None:
        """Return the pixels of an image, None where they were not kept."""
        block = self._blocks[self._kinds[i]] if i in self._kinds else None
        return None if block is None else block[i]

    def _room(self, channels: tuple[int, ...], dtype: np.dtype) -> NDArray | None:
        shape = (self._n_images, *self._size, *channels)
        if math.prod(shape) * dtype.itemsize > most_bytes():
            return None
        try:
            return scratch_array(shape, dtype)
        except OSError:  # no room on the disk
            return None


def decoded_parts(images: Images) -> Iterator[Images]:
    """Yield images in parts that can be read many times: files are decoded once, a few at a time.

    Images in memory are one part.
    """
    if images.paths is None:
        yield images
        return
    for start in range(0, len(images), TOGETHER):
        rows = range(start, min(len(images), start + TOGETHER))
        held = list(map_ahead(lambda i: images[i], rows, n_threads=n_threads()))
        yield Images(held.__getitem__, len(held))


def subset(images: Images, rows: Sequence[int] | NDArray[np.intp]) -> Images:
    """Give some of the images, in the order of `rows`."""
    places = [int(i) for i in rows]
    paths = None if images.paths is None else [images.paths[i] for i in places]
    return Images(
        lambda i: images[places[i]],
        len(places),
        shape=images.shape,
        paths=paths,
        value_range=images.value_range,
    )


def stack_pixels(images: Sequence[NDArray]) -> NDArray:
    """Stack canonical images of one size: (n, H, W, 1) where all are grey, else (n, H, W, 3)."""
    if all(image.ndim == 2 for image in images):
        return np.stack(images)[..., np.newaxis]
    return widen(images)


def _with_channels(pixels: NDArray, channels: int) -> NDArray:
    return pixels if pixels.shape[-1] == channels else np.repeat(pixels, channels, axis=-1)


def _views(
    read: Callable[[int], NDArray],
    places: Sequence[int],
    n_views: int,
    transforms: list[Transforms] | None,
    *,
    batch_size: int,
) -> Iterator[NDArray]:
    """Yield batches of pixels, RGB, for an engine: view ``place % n_views`` of each image.

    ``read(i)`` gives a resized image. Views of 8-bit images are rounded to 8 bits, as a file of
    them would be.
    """
    by_image = itertools.groupby(places, key=lambda place: place // n_views)
    wanted = [(i, list(group)) for i, group in by_image]
    read_ahead = map_ahead(read, [i for i, _ in wanted], n_threads=n_threads())
    pixels = (
        (place, image)
        for (_, group), image in zip(wanted, read_ahead, strict=True)
        for place in group
    )
    while chunk := list(itertools.islice(pixels, TOGETHER)):
        batch = stack_pixels([image for _, image in chunk])
        if transforms is not None:
            views = Transforms.concatenate([transforms[place] for place, _ in chunk])
            eight_bit = np.array([image.dtype == np.uint8 for _, image in chunk])
            batch = views.images(batch)
            batch[eight_bit] = np.rint(batch[eight_bit])
            batch = batch.astype(np.uint8) if eight_bit.all() else batch
        batch = _with_channels(batch, 3)
        for start in range(0, len(batch), batch_size):
            yield batch[start : start + batch_size]
