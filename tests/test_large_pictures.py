"""Files of more pixels than Pillow reads without doubt are refused by name, one limit for all."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from hybridus.inputs.decoding import decode, decoded_size
from hybridus.inputs.images import as_images
from hybridus.inputs.masks import as_masks


@pytest.fixture(autouse=True)
def limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)


def saved(path, height, width):
    Image.fromarray(np.zeros((height, width), np.uint8)).save(path)
    return path


# Pillow warns up to 2000 pixels here, as often as the filters let it, and raises above.
@pytest.mark.parametrize("shape", [(10, 101), (40, 50), (40, 51)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif", ".webp"])
@pytest.mark.parametrize("filters", ["ignore", "error"])
def test_above_the_limit_the_file_is_named(tmp_path, shape, suffix, filters):
    path = saved(tmp_path / f"large{suffix}", *shape)
    warnings.simplefilter(filters, Image.DecompressionBombWarning)
    message = (
        f"images[1]: {str(path)!r} is of more than 1,000 pixels, Pillow's limit, since a small "
        "file may unpack to more than fits into memory; save it smaller or, where you trust it, "
        "set PIL.Image.MAX_IMAGE_PIXELS to more"
    )
    small = saved(tmp_path / "small.png", 4, 4)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        as_images([small, path])[1]
    with pytest.raises(ValueError, match=r"^mask: .* is of more than 1,000 pixels"):
        decoded_size(path, name="mask", kind="a mask")
    with pytest.raises(ValueError, match=r"masks\[0\].* is of more than 1,000 pixels"):
        as_masks([path])[0]


def test_at_the_limit_or_with_another_it_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path / "large.png", 25, 40)
    assert decode(path, name="image").picture.size == (40, 25)
    for more in (1001, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", more)
        larger = saved(tmp_path / "larger.png", 7, 143)
        assert decoded_size(larger, name="image") == (7, 143)
