"""What networks are trained on: pixels, and activations of a frozen prefix."""

import errno
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_networks import TINY

from hybridus import Augmentation
from hybridus.encoders import engine
from hybridus.encoders.engine import open_engine
from hybridus.encoders.frozen import freeze
from hybridus.encoders.partition import divide
from hybridus.inputs.images import as_images
from hybridus.inputs.resizing import resize_image
from hybridus.store import activations
from hybridus.store.activations import ACTIVATIONS
from hybridus.training.batches import (
    PixelBatches,
    activation_batches,
    content_keys,
    open_batches,
    subset,
)

SIZE = (8, 8)
POLICY = Augmentation(rotation=20, contrast=0.3, speckle=0.1)


@pytest.fixture(scope="module")
def scans():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 12), dtype=np.uint8)


@pytest.fixture(scope="module")
def every_form(scans, tmp_path_factory):
    """The same scans in every form that callers hand over."""
    folder = tmp_path_factory.mktemp("scans")
    paths = [folder / f"scan ({i}).png" for i in range(len(scans))]
    for path, scan in zip(paths, scans, strict=True):
        Image.fromarray(scan).save(path)
    read_only = scans.copy()
    read_only.setflags(write=False)
    return {
        "array": scans,
        "read-only": read_only,
        "list": list(scans),
        "floats": scans / 255,
        "colour": np.repeat(scans[..., np.newaxis], 3, axis=-1),
        "paths": paths,
    }


@pytest.fixture(scope="module")
def frozen():
    """The first layers of a tiny encoder, up to a map of 4 x 4 x 8."""
    return freeze(
        TINY,
        weights="random",
        layers=["relu1"],
        pooling="flatten",
        image_size=None,
        resize="stretch",
        engine="openvino",
        precision="float32",
    )


@pytest.fixture
def encoded(monkeypatch):
    """Pixels of each image that went through the frozen network."""
    seen = []
    run = engine.OpenVINOEngine.run

    def counting(self, batches):
        def watched():
            for batch in batches:
                seen.extend(np.array(batch))
                yield batch

        return run(self, watched())

    monkeypatch.setattr(engine.OpenVINOEngine, "run", counting)
    ACTIVATIONS.clear()
    yield seen
    ACTIVATIONS.clear()


@pytest.fixture
def no_room(monkeypatch):
    monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "0")


def everything(batches, n=6):
    return batches.plain(range(n))


class TestPixels:
    def test_are_resized_rgb_whatever_was_given(self, scans, every_form):
        expected = np.stack([resize_image(scan, SIZE) for scan in scans])[..., np.newaxis]
        for X in every_form.values():
            pixels = everything(PixelBatches(as_images(X), SIZE))
            assert pixels.dtype == np.float32
            np.testing.assert_array_equal(pixels, np.repeat(expected, 3, axis=-1))

    def test_of_images_of_many_kinds_stand_side_by_side(self, scans):
        colour = np.random.default_rng(1).integers(0, 256, (30, 9, 3), dtype=np.uint8)
        images = [scans[0], colour, scans[1][:7] / 300, colour / 300, scans[2]]
        together = everything(PixelBatches(as_images(images), SIZE), 5)
        for i, image in enumerate(images):
            alone = everything(PixelBatches(as_images([image]), SIZE), 1)
            np.testing.assert_array_equal(together[i], alone[0])
        assert np.ptp(together[1], axis=-1).max() > 0
        assert np.ptp(together[0], axis=-1).max() == 0

    def test_grey_is_luminance(self, scans):
        colour = np.zeros((8, 8, 3), np.uint8)
        colour[..., 1] = 200
        images = as_images([scans[0], colour])
        grey = everything(PixelBatches(images, SIZE, channels=1), 2)
        assert grey.shape == (2, 8, 8, 1)
        np.testing.assert_array_equal(grey[1], 117)

    def test_are_the_same_where_they_are_kept_and_where_they_are_not(self, every_form, monkeypatch):
        for X in (every_form["paths"], every_form["floats"] * 0.7):
            kept = PixelBatches(as_images(X), SIZE, augmentation=POLICY)
            monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "0")
            read = PixelBatches(as_images(X), SIZE, augmentation=POLICY)
            monkeypatch.undo()
            np.testing.assert_array_equal(read.plain([4, 1, 1]), kept.plain([4, 1, 1]))
            rows = np.array([0, 5, 5, 2])
            drawn = [batches.drawn(rows, np.random.default_rng(3))[0] for batches in (kept, read)]
            np.testing.assert_array_equal(drawn[0], drawn[1])

    def test_are_read_from_files_once(self, every_form, monkeypatch):
        batches = PixelBatches(as_images(every_form["paths"]), SIZE)
        monkeypatch.setattr("PIL.Image.open", None)
        assert everything(batches).shape == (6, 8, 8, 3)

    def test_are_read_again_for_each_batch_where_the_disk_is_full(self, every_form, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(activations, "_IN_MEMORY", 0)
        expected = everything(PixelBatches(as_images(every_form["paths"]), SIZE))
        monkeypatch.setattr(os, "posix_fallocate", full)
        batches = PixelBatches(as_images(every_form["paths"]), SIZE)
        np.testing.assert_array_equal(everything(batches), expected)

    def test_are_augmented_by_the_transforms_that_come_with_them(self, scans):
        batches = PixelBatches(as_images(scans), SIZE, augmentation=POLICY)
        drawn, transforms = batches.drawn(np.array([3, 3, 0]), np.random.default_rng(0))
        expected = transforms.images(everything(batches)[[3, 3, 0]])
        np.testing.assert_allclose(drawn, expected, atol=1e-3)
        assert np.abs(drawn[0] - drawn[1]).max() > 10

    def test_without_a_policy_are_as_they_are(self, scans):
        batches = PixelBatches(as_images(scans), SIZE)
        rng = np.random.default_rng(0)
        drawn, transforms = batches.drawn(np.array([3, 3, 0]), rng)
        assert transforms is None
        np.testing.assert_array_equal(drawn, batches.plain([3, 3, 0]))
        assert rng.random() == np.random.default_rng(0).random()

    def test_a_file_that_is_missing_is_named(self, every_form, tmp_path):
        paths = [*every_form["paths"], tmp_path / "none.png"]
        images = subset(as_images(paths), [2, 6])
        with pytest.raises(ValueError, match=r"images\[6\]: '.*none.png' does not exist"):
            PixelBatches(images, SIZE)


class TestActivations:
    def test_are_those_of_the_engine(self, scans, frozen):
        batches = activation_batches(as_images(scans), frozen, 4 * 4 * 8)
        pixels = everything(PixelBatches(as_images(scans), SIZE)).astype(np.uint8)
        expected = np.concatenate(list(open_engine(frozen).run([pixels[:2], pixels[2:4]])))
        np.testing.assert_allclose(batches.plain(range(4)), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(batches.plain([3, 0]), batches.plain([0, 1, 2, 3])[[3, 0]])

    def test_each_image_is_encoded_once_however_it_is_given(self, every_form, frozen, encoded):
        expected = None
        for X in every_form.values():
            images = subset(as_images(X), [5, 0, 1, 1, 2])
            rows = everything(activation_batches(images, frozen, 128), 5)
            expected = rows if expected is None else expected
            np.testing.assert_array_equal(rows, expected)
            assert len(encoded) == 4

    def test_views_are_encoded_once_and_drawn_from(self, scans, frozen, encoded):
        images = as_images(scans[:3])
        batches = activation_batches(images, frozen, 128, augmentation=POLICY, n_views=4)
        assert len(encoded) == 12
        rng = np.random.default_rng(0)
        drawn, transforms = batches.drawn(np.repeat([0, 2], 100), rng)
        assert len(np.unique(drawn[:100], axis=0)) == len(np.unique(drawn[100:], axis=0)) == 4
        still = transforms.rotations == 0
        np.testing.assert_array_equal(drawn[still], batches.plain(np.repeat([0, 2], 100)[still]))
        assert 30 < still.sum() < 70
        again = activation_batches(images, frozen, 128, augmentation=POLICY, n_views=4)
        same, _ = again.drawn(np.repeat([0, 2], 100), np.random.default_rng(0))
        np.testing.assert_array_equal(same, drawn)
        assert len(encoded) == 12

    def test_more_views_need_only_the_new_ones(self, scans, frozen, encoded):
        images = as_images(scans[:3])
        for n_views, policy, total in (
            (1, None, 3),
            (1, POLICY, 3),
            (3, POLICY, 9),
            (4, POLICY, 12),
            (3, replace(POLICY, speckle=0.2), 18),
        ):
            activation_batches(images, frozen, 128, augmentation=policy, n_views=n_views)
            assert len(encoded) == total

    def test_views_are_what_their_transforms_say(self, scans, frozen, encoded):
        batches = activation_batches(
            as_images(scans[:1]), frozen, 128, augmentation=POLICY, n_views=3
        )
        rows, transforms = batches.drawn(np.zeros(30, int), np.random.default_rng(0))
        pixels = everything(PixelBatches(as_images(scans[:1]), SIZE), 1)
        views = np.rint(transforms.images(pixels.repeat(30, axis=0))).astype(np.uint8)
        expected = np.concatenate(
            list(open_engine(frozen).run([views[i:][:2] for i in range(0, 30, 2)]))
        )
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-4)

    def test_a_view_does_not_depend_on_what_it_was_encoded_with(self, scans, frozen, encoded):
        """A float image among 8-bit ones, a colour image among grey ones."""
        colour = np.random.default_rng(1).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        images = [scans[0], scans[1] / 300, colour]
        rows = np.repeat([0, 1, 2], 20)

        def drawn(images, rows):
            ACTIVATIONS.clear()
            batches = activation_batches(
                as_images(images), frozen, 128, augmentation=POLICY, n_views=3
            )
            return batches.drawn(rows, np.random.default_rng(0))[0]

        together = drawn(images, rows)
        for i, image in enumerate(images):
            alone = drawn([image] * 3, rows)
            np.testing.assert_allclose(together[rows == i], alone[rows == i], rtol=1e-5, atol=1e-5)

    def test_have_no_room_where_the_limit_is_0(self, scans, frozen, no_room):
        assert activation_batches(as_images(scans), frozen, 128) is None

    def test_take_what_comes_after_the_cut(self, scans, frozen):
        """Pixels, flat maps, or pooled features, as the partition says."""
        images = as_images(scans)
        whole = replace(frozen, taps=("relu2",), pooling="avg")
        shapes = {}
        for trainable in ("all", "last:2", "none"):
            partition = divide(TINY, SIZE, ("relu2",), trainable, pooled=True)
            shapes[trainable] = everything(open_batches(images, whole, partition)).shape
        assert shapes == {"all": (6, 8, 8, 3), "last:2": (6, 4 * 4 * 8), "none": (6, 16)}


class TestContent:
    def test_files_that_have_not_changed_are_read_once(self, every_form, monkeypatch):
        now = time.time_ns  # what changed just now is not trusted
        monkeypatch.setattr("hybridus.inputs.files.time.time_ns", lambda: now() + 10**10)
        expected = content_keys(as_images(every_form["array"]))
        paths = every_form["paths"]
        assert content_keys(as_images(paths)) == expected
        monkeypatch.setattr("PIL.Image.open", None)
        assert content_keys(as_images(paths[::-1])) == expected[::-1]

    def test_files_that_have_changed_are_read_again(self, scans, tmp_path):
        path = tmp_path / "scan.png"
        before = []
        for i, scan in enumerate(scans[:2]):
            Image.fromarray(scan).save(path)
            os.utime(path, (10**9 + i, 10**9 + i))
            before += content_keys(as_images([path]))
        assert before == content_keys(as_images(scans[:2]))

    def test_subsets_keep_order_and_paths(self, every_form):
        images = subset(as_images(every_form["paths"]), np.array([4, 1]))
        assert images.paths == [str(every_form["paths"][i]) for i in (4, 1)]
        np.testing.assert_array_equal(images[0], every_form["array"][4])
        assert len(images) == 2
        assert subset(as_images(every_form["array"]), [3]).shape == (20, 12)
