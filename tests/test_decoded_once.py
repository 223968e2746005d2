"""Files are decoded once in `fit` and once in `predict`."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from tiny_images import discs
from tiny_networks import TINY

from hybridus import (
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    PixelSegmenter,
    VotingSegmenter,
)
from hybridus.inputs import forms
from hybridus.store.activations import ACTIVATIONS

ONCE = {"max_epochs": 1, "random_state": 0}
ON_TINY = {"weights": "random", "layers": ["relu1", "relu2"], "image_size": 8}
DNCNN = DnCNNSegmenter(2, 2, image_size=8, tta=True, **ONCE)
ALL = [
    FineTunedClassifier(TINY, weights="random", trainable="none", hidden_layer_sizes=(), **ONCE),
    DNCNN,
    EncoderUNetSegmenter(
        TINY,
        mask_size=8,
        decoder_filters=(2,),
        decoder_stride=2,
        batch_norm=False,
        **ON_TINY,
        **ONCE,
    ),
    PixelSegmenter(
        LogisticRegression(),
        "both",
        encoder=TINY,
        mask_size=8,
        sigma_max=1,
        threshold="auto",
        random_state=0,
        **ON_TINY,
    ),
]


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded."""
    counts, read_image = Counter(), forms.read_image

    def counting(path, **options):
        counts[str(path)] += 1
        return read_image(path, **options)

    monkeypatch.setattr(forms, "read_image", counting)
    ACTIVATIONS.clear()
    return counts


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ten images in files, larger than networks see them, and their masks, a few in files too."""
    folder = tmp_path_factory.mktemp("scans")
    images, masks = discs(10, size=12)
    paths = [str(folder / f"{i}.png") for i in range(10)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths, list(masks), images


@pytest.mark.slow
@pytest.mark.parametrize("original", ALL, ids=lambda each: type(each).__name__)
def test_in_fit_and_in_predict(original, files, decoded):
    paths, masks, images = files
    y = np.arange(10) % 2 if isinstance(original, FineTunedClassifier) else masks
    fitted = clone(original).fit(paths, y)
    assert dict(decoded) == dict.fromkeys(paths, 1)
    decoded.clear()
    found = fitted.predict(paths)
    assert dict(decoded) == dict.fromkeys(paths, 1)
    from_arrays = clone(original).fit(images, y if isinstance(y, np.ndarray) else np.array(masks))
    for answer, expected in zip(found, from_arrays.predict(images), strict=True):
        np.testing.assert_array_equal(answer, expected)


def test_a_mean_decodes_once_for_all(files, decoded):
    paths, masks, _ = files
    mean = VotingSegmenter([("a", DNCNN), ("b", clone(DNCNN))]).fit(paths, masks)
    assert dict(decoded) == dict.fromkeys(paths, 2)  # once in each fit
    decoded.clear()
    mean.predict(paths)
    assert dict(decoded) == dict.fromkeys(paths, 1)


@pytest.mark.parametrize("original", ALL[1:], ids=lambda each: type(each).__name__)
def test_sizes_of_masks_are_checked_all_the_same(original, files):
    paths, masks, _ = files
    other = [*masks[:9], np.ones((13, 12), bool)]
    with pytest.raises(
        ValueError, match=r"masks\[9\] is 12 x 13 pixels .*, but images\[9\] is 12 x 12"
    ):
        clone(original).fit(paths, other)
