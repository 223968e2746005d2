"""Parameters of every estimator that is given images: their shape and their values."""

from dataclasses import KW_ONLY
from typing import ClassVar

from hybridus._sklearn import DocsLink
from hybridus.estimators.parameters import with_parameters


@with_parameters
class OnImages(DocsLink):
    """Mixin of an estimator that reads its X with `hybridus.inputs.images.validate_images`.

    Parameters
    ----------
    image_shape : tuple of int, default=None
        Shape of images that are given as flattened rows: (H, W), (H, W, 1) or (H, W, 3). Needed
        only where it cannot be guessed: a square number of values is a grey image, three times a
        square a colour image.
    value_range : (float, float), default=None
        The values of black and white in the images, arrays and files alike: (0, 4095) for 12 bits.
        None is 0..1 for floats and bool, 0..65535 for uint16, else 0..255; an image whose values
        show another scale is an error.

    Attributes
    ----------
    n_features_in_ : int
        Values in one image, where all images had one shape.
    feature_names_in_ : array of str
        Column names, where `fit` saw a DataFrame of flattened images.
    """

    _: KW_ONLY
    image_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None

    _parameter_constraints: ClassVar[dict] = {
        "image_shape": [None, tuple, list],
        "value_range": [None, tuple, list],
    }
