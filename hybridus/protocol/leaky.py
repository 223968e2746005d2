"""Leaky folds: the protocol behind much published work, reproduced so that its leak can be seen.

Images are augmented first and split afterwards, so copies of a test image are trained on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedShuffleSplit

from hybridus._environment import n_threads
from hybridus.inputs.augmentation import Augmentation, Transforms, resolve_augmentation
from hybridus.inputs.images import as_images, content_key
from hybridus.inputs.labels import check_labels
from hybridus.inputs.resizing import map_ahead, resize_image
from hybridus.protocol.folds import Folds

# What such work does to its images before it splits them.
LEAKY_AUGMENTATION = Augmentation(flip="horizontal", shift=0.1, rotation=15, zoom=0.1)
N_COPIES = 4
TEST_SIZE = 0.2


def leaky_folds(
    y: ArrayLike,
    *,
    n_copies: int = N_COPIES,
    test_size: float = TEST_SIZE,
    n_repeats: int = 1,
    random_state: int = 0,
) -> Folds:
    """Split `augmented_copies` at random, without regard to copies and duplicates.

    With four copies and a fifth tested, 99 of 100 test images have a copy of themselves in the
    training part. **Not for reporting**: the honest scores of the same models are those of
    `hybridus.compare` on the images themselves. Nothing in the models is to know of groups either:
    a search takes a number for `cv`, say.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Classes of the images, not of their copies.
    n_copies : int, default=4
        Copies of each image, itself among them; 1 augments nothing, and what leaks then are the
        duplicates alone.
    test_size : float, default=0.2
        Share of the copies that is tested.
    n_repeats : int, default=1
        Random splits.
    random_state : int, default=0
        Split r has the seed ``random_state + r``. Copies are the same for every seed.

    Returns
    -------
    list of (train, test)
        Positions in the copies, whose classes are ``np.repeat(y, n_copies)``.

    Raises
    ------
    ValueError
        For an `n_copies` below 1 or a `test_size` that leaves a class without a test image.

    Notes
    -----
    Of 780 images of BUSI, 346 have a duplicate: in a random 80/20 split 38 % of the test images
    have a twin in the training part, and random folds alone flatter frozen features by about seven
    points of accuracy. Augmenting before the split gives nearly every test image a twin. Claims of
    95 % and more on BUSI come from such data; on folds that keep duplicates together, published
    and measured accuracies in three classes lie between 75 and 85 %.

    References
    ----------
    Pawlowska et al. 2023, on the duplicates in BUSI, Data in Brief 48:109247. Kapoor and Narayanan
    2023, Leakage and the reproducibility crisis in machine-learning-based science, Patterns
    4:100804.

    Examples
    --------
    Labels that have nothing to do with the images can be told apart all the same:

    >>> import numpy as np
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from hybridus import compare
    >>> from hybridus.inputs.images import as_images
    >>> from hybridus.protocol.leaky import augmented_copies, leaky_folds
    >>> def pixels(X):
    ...     return np.stack([image.ravel() for image in as_images(X)]) / 255
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.random((60, 16, 16)), rng.integers(2, size=60)
    >>> nearest = {"1-NN": make_pipeline(FunctionTransformer(pixels), KNeighborsClassifier(1))}
    >>> copies = augmented_copies(X, 4, image_size=16, augmentation=None)
    >>> leak = compare(nearest, copies, np.repeat(y, 4), folds=leaky_folds(y), groups="independent")
    >>> leak.table.loc["1-NN", "accuracy_mean"].item()
    1.0
    """
    _check_copies(n_copies)
    target = np.repeat(check_labels(y), n_copies)
    seeds = range(random_state, random_state + n_repeats)
    return [
        next(StratifiedShuffleSplit(1, test_size=test_size, random_state=s).split(target, target))
        for s in seeds
    ]


def augmented_copies(
    X: Any,
    n_copies: int = N_COPIES,
    *,
    image_size: int | tuple[int, int] = 224,
    augmentation: str | Augmentation | None = LEAKY_AUGMENTATION,
) -> NDArray[np.object_]:
    """Make copies of each image, the image itself and augmented ones, at one size in 8 bits.

    A copy depends on the pixels of its image, the policy and its number alone, so it is the same
    in every run.

    Parameters
    ----------
    X : images
        Any form that `hybridus.inputs.images.as_images` knows, paths too.
    n_copies : int, default=4
        Images that are made of each, itself among them; 1 augments nothing.
    image_size : int or (int, int), default=224
        Height and width of the copies in pixels: best those of the network's input.
    augmentation : {"light", "strong"}, Augmentation or None
        What copies are made by; by default mirroring left to right, shifts of 10 %, rotations of
        15 degrees and zoom of 10 %. None makes copies that are identical.

    Returns
    -------
    object array of shape (n_samples * n_copies,)
        Images, uint8 of shape (H, W) or (H, W, 3); the copies of an image follow one another, and
        the first is the image itself.

    Raises
    ------
    ValueError
        For images that cannot be read and an `n_copies` below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.leaky import augmented_copies
    >>> copies = augmented_copies(np.zeros((3, 40, 50), np.uint8), 4, image_size=32)
    >>> len(copies), copies[0].shape, copies[0].dtype
    (12, (32, 32), dtype('uint8'))
    """
    _check_copies(n_copies)
    images = as_images(X)
    policy = resolve_augmentation(augmentation) or Augmentation(flip="none")
    height, width = image_size if isinstance(image_size, tuple | list) else (image_size,) * 2

    def read(i: int) -> tuple[bytes, NDArray]:
        image = images[i]
        return content_key(image), resize_image(image, (height, width))

    # One array for each image, grey ones with one channel: a third of the memory of one for all.
    copies = np.empty(len(images) * n_copies, dtype=object)
    read_ahead = map_ahead(read, range(len(images)), n_threads=n_threads())
    for i, (key, pixels) in enumerate(read_ahead):
        views = Transforms.concatenate([policy.view(key, number) for number in range(n_copies)])
        batch = np.stack([pixels] * n_copies).reshape(n_copies, height, width, -1)
        moved = np.rint(views.images(batch).clip(0, 255)).astype(np.uint8)
        for number in range(n_copies):
            copies[i * n_copies + number] = moved[number].reshape(pixels.shape)
    return copies


def _check_copies(n_copies: int) -> None:
    if n_copies < 1:
        raise ValueError(f"n_copies={n_copies}: expected 1, the image itself, or more")
