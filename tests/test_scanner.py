"""Scanner changes: what they do to scans and to masks."""

import numpy as np
import pytest
from scipy import ndimage

from hybridus import make_breast_phantoms
from hybridus.inputs.resizing import resize_image
from hybridus.inputs.scanner import SCANNER_CHANGES, ScannerChange, apply_changes

KINDS = {
    **{"gain": 0.6, "gamma": 1.5, "blur": 0.02, "resolution": 3.0, "speckle": 0.3},
    **{"despeckle": 0.04, "crop": 0.8, "aspect": 1.3, "mirror": 1.0},
}


@pytest.fixture(scope="module")
def scan():
    phantoms = make_breast_phantoms(3, image_size=96, random_state=0)
    return phantoms.images[1][:80], np.squeeze(phantoms.masks[1])[:80].astype(bool)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_change_is_a_function_of_the_pixels_that_keeps_type_and_range(scan, kind, colour, dtype):
    image = scan[0].astype(dtype)
    image = np.stack([image, image // 2, image], axis=-1) if colour else image
    before = image.copy()
    image.flags.writeable = False
    change = ScannerChange(kind, KINDS[kind])
    once, again = change(image), change(before)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(image, before)
    assert once.dtype == dtype
    assert once.ndim == image.ndim
    assert 0 <= once.min() < once.max() <= 255
    assert not np.array_equal(once, image)
    if kind not in ("crop", "aspect"):
        assert once.shape == image.shape


def test_each_does_what_it_says(scan):
    image = scan[0]
    grey = image.astype(float)
    np.testing.assert_allclose(ScannerChange("gain", 0.5)(image), grey * 0.5, atol=0.5)
    np.testing.assert_allclose(ScannerChange("gamma", 2)(image), 255 * (grey / 255) ** 2, atol=0.51)
    assert ScannerChange("crop", 0.5)(image).shape == (40, 48)
    np.testing.assert_array_equal(ScannerChange("crop", 0.5)(image), image[20:60, 24:72])
    assert ScannerChange("aspect", 1.5)(image).shape == (80, 144)
    np.testing.assert_array_equal(ScannerChange("mirror")(image), image[:, ::-1])

    def roughness(image):
        return np.abs(ndimage.laplace(image.astype(float))).mean()

    for kind in ("blur", "resolution", "despeckle"):
        assert roughness(ScannerChange(kind, KINDS[kind])(image)) < 0.5 * roughness(image)
    ratio = ScannerChange("speckle", 0.2)(np.full((200, 200), 100, "f4")) / 100
    assert ratio.std() == pytest.approx(0.2, rel=0.05)
    # Grains, and not pixels: neighbours are alike.
    assert np.corrcoef(ratio[:, :-1].ravel(), ratio[:, 1:].ravel())[0, 1] > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_masks_go_with_their_lesions(scan, kind):
    _, mask = scan
    drawn = np.where(mask, 255, 0).astype(np.uint8)
    change = ScannerChange(kind, KINDS[kind])
    moved = change.mask(mask)
    assert moved.dtype == bool
    if kind in ("crop", "aspect", "mirror"):
        np.testing.assert_array_equal(moved, change(drawn) >= 128)
    else:
        np.testing.assert_array_equal(moved, mask)


def test_levels_grow(scan):
    large = resize_image(scan[0], (240, 288))
    image = large.astype(float)
    for name in SCANNER_CHANGES["mild"]:
        changed = [apply_changes(SCANNER_CHANGES[level][name], large) for level in SCANNER_CHANGES]
        if changed[0].shape == image.shape:
            away = [np.abs(one - image).mean() for one in changed]
            assert away[0] < away[1] < away[2], name
        else:
            assert changed[0].shape != changed[1].shape != changed[2].shape


@pytest.mark.parametrize(
    ("kind", "strength", "message"),
    [
        ("zoom", 1.0, "kind='zoom': expected one of gain"),
        ("gain", 0.0, "strength=0.0: expected a number above 0"),
        ("gain", float("nan"), "strength=nan"),
        ("crop", 1.5, "at most 1"),
    ],
)
def test_what_cannot_be_is_refused(kind, strength, message):
    with pytest.raises(ValueError, match=message):
        ScannerChange(kind, strength)
