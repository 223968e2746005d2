"""The protocol behind much published work, reproduced so that its leak can be seen.

Images are augmented first and split afterwards, so copies of a test image are trained on.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_validate,
)
from sklearn.utils import check_consistent_length

from hybridus._environment import n_threads
from hybridus.inputs.augmentation import Augmentation, Transforms, resolve_augmentation
from hybridus.inputs.images import as_images, content_key
from hybridus.inputs.resizing import map_ahead, resize_image
from hybridus.protocol.model_selection import DEFAULT_SCORING

# What such work does to its images before it splits them.
REPORTED_AUGMENTATION = Augmentation(flip="horizontal", shift=0.1, rotation=15, zoom=0.1)
N_COPIES = 4
TEST_SIZE = 0.2


def score_reported(
    models: Mapping[str, BaseEstimator],
    X: Any,
    y: ArrayLike,
    *,
    n_copies: int = N_COPIES,
    test_size: float = TEST_SIZE,
    n_repeats: int = 1,
    image_size: int | tuple[int, int] = 224,
    augmentation: str | Augmentation | None = REPORTED_AUGMENTATION,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Score classifiers as much published work does, to show by how much that flatters.

    Every image is augmented, and the augmented set is split at random, without regard to copies
    and duplicates. With four copies and a fifth tested, 99 of 100 test images have a copy of
    themselves in the training part. **Not for reporting**: the honest scores of the same models
    are those of `compare`.

    Parameters
    ----------
    models : dict of str to classifier
        As for `compare`. The inner folds of a search (`GridSearchCV`, `RandomizedSearchCV`) are
        replaced by as many that are drawn at random, and nothing is told of groups.
    X : images
        Any form that `hybridus.inputs.images.as_images` knows, paths too.
    y : array-like of shape (n_samples,)
        Classes.
    n_copies : int, default=4
        Images that are made of each, itself among them; 1 augments nothing, and what leaks then
        are the duplicates alone.
    test_size : float, default=0.2
        Share of the augmented images that is tested.
    n_repeats : int, default=1
        Random splits.
    image_size : int or (int, int), default=224
        Height and width of the augmented images in pixels: best those of the network's input.
    augmentation : {"light", "strong"}, Augmentation or None
        What copies are made by; by default mirroring left to right, shifts of 10 %, rotations of
        15 degrees and zoom of 10 %. None makes copies that are identical.
    random_state : int, default=0
        Split r has the seed ``random_state + r``. Copies are the same for every seed.
    n_jobs : int or None, default=None
        Splits fitted at the same time, in processes of their own.

    Returns
    -------
    pandas.DataFrame
        One row for each model and split, with the columns of `score_folds`; ``fold`` is always 0.

    Raises
    ------
    ValueError
        For images that cannot be read, an `n_copies` below 1 or a `test_size` that leaves a class
        without a test image.

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
    >>> from hybridus.inputs.images import as_images
    >>> from hybridus.protocol.reported_protocol import score_reported
    >>> def pixels(X):
    ...     return np.stack([image.ravel() for image in as_images(X)]) / 255
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.random((60, 16, 16)), rng.integers(2, size=60)
    >>> nearest = make_pipeline(FunctionTransformer(pixels), KNeighborsClassifier(1))
    >>> scores = score_reported({"1-NN": nearest}, X, y, image_size=16, augmentation=None)
    >>> scores["accuracy"].item()
    1.0
    """
    if not models:
        raise ValueError("models is empty: give at least one, such as {'svm': SVC()}")
    check_consistent_length(X, y)
    copies = augmented_copies(X, n_copies, image_size=image_size, augmentation=augmentation)
    target = np.repeat(np.asarray(y), n_copies)
    splits = [
        next(
            StratifiedShuffleSplit(1, test_size=test_size, random_state=seed).split(copies, target)
        )
        for seed in range(random_state, random_state + n_repeats)
    ]
    tables = []
    for name, model in models.items():
        is_search = isinstance(model, GridSearchCV | RandomizedSearchCV)
        results = cross_validate(
            _searched_at_random(model, random_state) if is_search else model,
            copies,
            target,
            cv=splits,
            scoring=DEFAULT_SCORING,
            n_jobs=n_jobs,
            return_estimator=is_search,
            error_score="raise",
        )
        columns: dict[str, Any] = {
            "model": name,
            "repeat": np.arange(n_repeats),
            "fold": 0,
            "n_train": [len(train) for train, _ in splits],
            "n_test": [len(test) for _, test in splits],
            "test_set": [f"{zlib.crc32(test.tobytes()):08x}" for _, test in splits],
        }
        columns |= {metric: results[f"test_{metric}"] for metric in DEFAULT_SCORING}
        columns["fit_seconds"] = results["fit_time"]
        columns["score_seconds"] = results["score_time"]
        columns["best_params"] = [
            json.dumps(search.best_params_, default=str) for search in results.get("estimator", [])
        ] or ""
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    table.attrs["split"] = (
        f"{n_copies} copies of each image, {100 * test_size:.0f} % of all copies tested at random"
    )
    return table


def augmented_copies(
    X: Any,
    n_copies: int = N_COPIES,
    *,
    image_size: int | tuple[int, int] = 224,
    augmentation: str | Augmentation | None = REPORTED_AUGMENTATION,
) -> NDArray[np.object_]:
    """Make copies of each image, the image itself and augmented ones, at one size in 8 bits.

    A copy depends on the pixels of its image, the policy and its number alone, so it is the same
    in every run.

    Parameters
    ----------
    X, n_copies, image_size, augmentation
        Those of `score_reported`.

    Returns
    -------
    object array of shape (n_samples * n_copies,)
        Images, uint8 of shape (H, W) or (H, W, 3); the copies of an image follow one another, and
        the first is the image itself.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.reported_protocol import augmented_copies
    >>> copies = augmented_copies(np.zeros((3, 40, 50), np.uint8), 4, image_size=32)
    >>> len(copies), copies[0].shape, copies[0].dtype
    (12, (32, 32), dtype('uint8'))
    """
    if n_copies < 1:
        raise ValueError(f"n_copies={n_copies}: expected 1, the image itself, or more")
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


def _searched_at_random(search: Any, random_state: int) -> Any:
    """Give a search inner folds that know nothing of groups."""
    n_folds = search.cv if isinstance(search.cv, int) else getattr(search.cv, "n_splits", 5)
    inner = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    return clone(search).set_params(cv=inner)
