"""Leaky folds: what its copies are, and that it leaks as it is meant to show."""

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hybridus.inputs.images import as_images
from hybridus.inputs.resizing import resize_image
from hybridus.protocol.compare import compare
from hybridus.protocol.leaky import augmented_copies, leaky_folds


def thumbnails(X):
    """Rows of 16 x 16 pixels, blurred: a copy that is shifted a little stays close."""
    small = [resize_image(image, (16, 16)) for image in as_images(X)]
    return np.stack(small).reshape(len(small), -1) / 255


def nearest():
    return make_pipeline(FunctionTransformer(thumbnails), KNeighborsClassifier(1))


@pytest.fixture(scope="module")
def scans():
    """90 different smooth images, each of them twice, with labels drawn by lot for each pair."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (90, 5, 5), dtype=np.uint8)
    images = np.stack([resize_image(image, (40, 40)) for image in coarse])
    labels = rng.permutation(np.arange(90) % 3)
    return np.repeat(images, 2, axis=0), np.repeat(labels, 2), np.repeat(np.arange(90), 2)


def leak(model, X, y, *, n_copies=4, image_size=32, **options):
    """Scores of a model as much published work has them."""
    return compare(
        {"model": model},
        augmented_copies(X, n_copies, image_size=image_size),
        np.repeat(y, n_copies),
        folds=leaky_folds(y, n_copies=n_copies, **options),
        groups="independent",
    )


def test_labels_drawn_by_lot_are_learned_on_leaky_folds_only(scans):
    X, y, groups = scans
    leaky = leak(nearest(), X, y, image_size=16, n_repeats=2)
    honest = compare({"model": nearest()}, X, y, groups=groups, n_splits=3)
    assert (leaky.folds["accuracy"] > 0.85).all()
    assert (leaky.folds["macro_ovr_auc"] > 0.85).all()
    assert honest.folds["accuracy"].mean() < 0.45
    assert list(leaky.folds.columns) == list(honest.folds.columns)
    assert leaky.folds["repeat"].tolist() == [0, 1]
    assert leaky.split == "folds as given, samples taken as independent"


def test_figures_are_what_they_were(scans):
    """Pinned to what version 0.1 gave before leaky folds were folds like others."""
    X, y, _ = scans
    found = leak(nearest(), X, y, n_copies=2, image_size=16, n_repeats=2, random_state=5)
    assert found.folds["test_set"].tolist() == ["fc3716a4", "a145f4c7"]
    assert found.folds["accuracy"].tolist() == pytest.approx(
        [0.9444444444444444, 0.8055555555555556]
    )


def test_splits_are_random_and_stratified_and_decided_by_the_seed():
    y = np.repeat([0, 1, 2], 60)
    folds = leaky_folds(y, n_copies=2, test_size=0.25, n_repeats=2, random_state=5)
    for train, test in folds:
        assert (len(train), len(test)) == (270, 90)
        assert np.bincount(np.repeat(y, 2)[test]).tolist() == [30, 30, 30]
    assert folds[0][1].tolist() != folds[1][1].tolist()
    ((_, again),) = leaky_folds(y, n_copies=2, test_size=0.25, random_state=6)
    assert again.tolist() == folds[1][1].tolist()


def test_one_copy_augments_nothing_and_leaks_through_duplicates_alone(scans):
    X, y, _ = scans
    with_twins = leak(nearest(), X, y, n_copies=1).folds
    without = leak(nearest(), X[::2], y[::2], n_copies=1).folds
    assert with_twins["accuracy"].item() > 0.75  # four of five test images have a twin in training
    assert without["accuracy"].item() < 0.55
    assert with_twins["n_test"].item() == 36


def test_copies_begin_with_the_image_itself_and_are_the_same_in_every_run(scans):
    X = scans[0][:6:2]
    copies = augmented_copies(X, 3, image_size=(24, 32))
    assert copies.shape == (9,)
    again = augmented_copies(X[1:], 3, image_size=(24, 32))
    for i, image in enumerate(X):
        np.testing.assert_array_equal(copies[3 * i], resize_image(image, (24, 32)))
        assert not np.array_equal(copies[3 * i], copies[3 * i + 1])
        assert not np.array_equal(copies[3 * i + 1], copies[3 * i + 2])
    for one, other in zip(copies[3:], again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.uint8


def test_copies_are_made_of_files_of_any_size_and_colour(tmp_path):
    rng = np.random.default_rng(1)
    pixels = [rng.integers(0, 256, (30, 20, 3), dtype=np.uint8), np.full((50, 40), 77, np.uint8)]
    paths = []
    for i, image in enumerate(pixels):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    of_files = augmented_copies(paths, 2, image_size=16)
    assert [copy.shape for copy in of_files] == [(16, 16, 3), (16, 16, 3), (16, 16), (16, 16)]
    of_arrays = augmented_copies(pixels, 2, image_size=16)
    for one, other in zip(of_files, of_arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [image.shape for image in as_images(of_files)] == [copy.shape for copy in of_files]


def test_float_images_are_rounded_to_eight_bits():
    image = np.linspace(0, 1.02, 256).reshape(16, 16)  # overshoots a little, as cubic resizing does
    copy = augmented_copies([image], 1, image_size=16)[0]
    assert copy.dtype == np.uint8
    np.testing.assert_array_equal(copy, np.rint((image.astype(np.float32) * 255).clip(0, 255)))


def test_without_augmentation_copies_are_identical(scans):
    copies = augmented_copies(scans[0][:1], 3, image_size=16, augmentation=None)
    np.testing.assert_array_equal(copies[0], copies[1])
    np.testing.assert_array_equal(copies[0], copies[2])


def test_impossible_settings_are_named(scans, tmp_path):
    X, y, _ = scans
    with pytest.raises(ValueError, match="n_copies=0: expected 1"):
        leaky_folds(y, n_copies=0)
    with pytest.raises(ValueError, match="n_copies=0: expected 1"):
        augmented_copies(X, 0)
    with pytest.raises(ValueError, match="test_size"):
        leaky_folds(y, test_size=1.5)
    with pytest.raises(ValueError, match="expected None, one of 'light', 'strong'"):
        augmented_copies(X, augmentation="medium")
    with pytest.raises(ValueError, match="does not exist"):
        augmented_copies([tmp_path / "nowhere.png"])
