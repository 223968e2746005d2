"""Images: the door through which every form in which callers hand over images comes in.

Everything else sees `Images`, a sequence of canonical images: uint8 where the values are k/255 of
full scale, else unclipped float32 on the 0..255 scale; (H, W) when grey, (H, W, 3) when colour.
"""

import hashlib
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridus.inputs.forms import Images, holds_rows, read_form, unwrap
from hybridus.inputs.image_files import image_size, read_image
from hybridus.inputs.values import check_value_range

__all__ = [
    "Images",
    "as_images",
    "content_key",
    "image_size",
    "images_as_seen_by",
    "read_image",
    "tag_images",
    "validate_images",
]

_ONE_IMAGE = "for one image of shape (H, W) pass image[None]"


def as_images(
    X: Any,
    *,
    image_shape: tuple[int, ...] | None = None,
    value_range: Sequence[float] | None = None,
) -> Images:
    """Read any accepted form of images.

    Parameters
    ----------
    X : array of shape (n, H, W), (n, H, W, 1), (n, H, W, 3) or (n, n_values); or list of images; \
            or sequence of paths
        Rows are flattened images: a square number of values is a grey image, three times a square a
        colour image, and any other number up to 1024 a grey image of height 1. Images of a list may
        differ in size and may be Pillow pictures. Paths may be str or Path, in a list, an array or
        a pandas Series. `Images` are handed on as they are.
    image_shape : tuple of int, optional
        Shape of the images whose flattened rows are given: (H, W), (H, W, 1) or (H, W, 3).
    value_range : (low, high), optional
        The values of black and white, in arrays and in files; (0, 4095) for 12 bits. By default
        bool is 0/1, uint8 0..255, uint16 0..65535, other integers 0..255 and floats 0..1. Where
        neither the type nor the values show that scale, the image is refused: see Raises. Of DICOM
        files it takes the place of the window: what lies beyond is black or white.

    Returns
    -------
    Images
        A sequence of canonical images. Arrays are checked here, files when they are read.

    Raises
    ------
    ValueError
        Where X has none of these forms, or shapes are not those of images; where values are not
        finite or lie outside their range (floats may overshoot it by 5 %); where no `value_range`
        is declared and the largest value of an image of integers, of more than 8 bits, lies below
        a quarter of full scale, but not at zero: 8 to 14 bits in uint16 would become a black
        picture; where a file cannot be read. The message names the index or the path.

    Examples
    --------
    >>> import numpy as np
    >>> images = as_images(np.zeros((5, 48, 64, 3), dtype="uint8"))
    >>> len(images), images.shape, images[0].shape  # equal channels are grey
    (5, (48, 64, 3), (48, 64))
    >>> twelve_bits = np.array([[[0, 1365, 2730, 4095]]], dtype="uint16")
    >>> as_images(twelve_bits, value_range=(0, 4095))[0].tolist()
    [[0, 85, 170, 255]]
    """
    if isinstance(X, Images):
        return X
    return read_form(unwrap(X), image_shape, check_value_range(value_range))


def validate_images(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    image_shape: tuple[int, ...] | None = None,
) -> Images:
    """Read the images that an estimator was given and keep its ``n_features_in_``.

    The estimator's parameter ``value_range``, if it has one, says what is black and white.
    ``n_features_in_`` is the number of values of an image where that is fixed, otherwise the
    attribute is absent. Flattened rows go through `sklearn.utils.validation.validate_data`, with
    scikit-learn's own errors and feature names; images in their own shape may change size between
    `fit` and `predict`. What was fitted on files, or on images of several sizes, takes no rows: a
    single image (H, W) would be taken for H of them.
    """
    from sklearn.utils.validation import validate_data

    X = unwrap(X)
    value_range = getattr(estimator, "value_range", None)
    if holds_rows(X):
        if not reset and getattr(estimator, "_fitted_on_files", False):
            raise ValueError(
                f"X has shape {np.shape(X)}, but this {type(estimator).__name__} was fitted on "
                f"files, or on images of several sizes, and knows no flattened rows; {_ONE_IMAGE}"
            )
        try:
            X = validate_data(estimator, X, reset=reset, ensure_all_finite=False)
        except ValueError as error:
            if reset or "features, but" not in str(error):
                raise
            raise ValueError(f"{error}\nRows are flattened images; {_ONE_IMAGE}") from None
        if reset:
            estimator._fitted_on_files = False
        return as_images(X, image_shape=image_shape, value_range=value_range)
    images = as_images(X, image_shape=image_shape, value_range=value_range)
    if reset:
        for name in ("feature_names_in_", "n_features_in_"):
            if hasattr(estimator, name):
                delattr(estimator, name)
        estimator._fitted_on_files = images.n_features is None
        if images.n_features is not None:
            estimator.n_features_in_ = images.n_features
    return images


# Where scikit-learn's compositions keep (name, estimator) of what they are made of.
_PARTS = ("steps", "transformer_list", "estimators")


def images_as_seen_by(estimator: Any, X: Any) -> Images:
    """Read images as an estimator does, by its ``image_shape`` and ``value_range``.

    Parameters
    ----------
    estimator : estimator
        Of a search, the one that it fits counts, of a pipeline the first step, of a union or a
        vote the first part; without either parameter images are read as `as_images` reads them.
    X : images

    Returns
    -------
    Images

    Raises
    ------
    ValueError
        See `as_images`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from hybridus import SpeckleFilter, UNetSegmenter
    >>> from hybridus.inputs.images import images_as_seen_by
    >>> model = make_pipeline(SpeckleFilter(value_range=(0, 4095)), UNetSegmenter())
    >>> images_as_seen_by(model, np.full((1, 8, 8), 1365, "uint16"))[0].max().item()
    85
    """
    while not hasattr(estimator, "value_range"):
        held = (getattr(estimator, name, None) for name in _PARTS)
        if parts := next((one for one in held if one), None):
            kept = [part for _, part in parts if part not in (None, "passthrough", "drop")]
            estimator = kept[0] if kept else None
        elif hasattr(estimator, "estimator"):
            estimator = getattr(estimator, "best_estimator_", estimator.estimator)
        else:
            break
    return as_images(
        X,
        image_shape=getattr(estimator, "image_shape", None),
        value_range=getattr(estimator, "value_range", None),
    )


def tag_images(estimator: Any, tags: Any) -> None:
    """Tell scikit-learn what an estimator takes that reads its X with `validate_images`.

    Parameters
    ----------
    estimator : estimator
        Whose ``value_range`` decides whether values may be negative.
    tags : sklearn.utils.Tags
        Changed in place.
    """
    low = (getattr(estimator, "value_range", None) or (0,))[0]
    tags.input_tags.positive_only = not (isinstance(low, Real) and low < 0)
    tags.input_tags.three_d_array = True


def content_key(image: NDArray) -> bytes:
    """Digest of a canonical image, 16 bytes: equal for equal pixels of equal type and shape."""
    digest = hashlib.sha256(repr((image.dtype.str, image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()[:16]
