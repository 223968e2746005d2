"""The image contract: every accepted form, and every refused one."""

import pathlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from hybridus.inputs.images import as_images, content_key, read_image, validate_images
from hybridus.inputs.resizing import resize_image, widen

uint8_stacks = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(4, 9)).flatmap(
        lambda nhw: st.sampled_from([nhw, (*nhw, 1), (*nhw, 3)])
    ),
)


def keys(images):
    return [content_key(image) for image in images]


class TestScales:
    @given(uint8_stacks)
    @settings(max_examples=60, deadline=None)
    def test_every_dtype_route_gives_the_same_canonical_image(self, stack):
        expected = keys(as_images(stack))
        wide = stack.astype(np.uint16) * np.uint16(257)
        routes = [
            (stack.astype(np.int64), (0, 255)),
            (stack.astype(np.int32) - 128, (-128, 127)),
            (stack / 255 * 2 - 1, (-1, 1)),
            (stack.astype(np.float32), (0, 255)),
            (wide, (0, 65535)),
            (wide.astype(">u2"), (0, 65535)),
            (wide.astype(np.int32), (0, 65535)),
            (stack / 255, None),
            ((stack / 255).astype(np.float32), None),
            (stack.astype(np.float32) / np.float32(255), None),
            (stack.astype(np.float32) * np.float32(1 / 255), None),
            ((stack / 255).astype(np.float16), None),
            (list(stack), None),
            (np.asfortranarray(stack), None),
        ]
        for route, value_range in routes:
            images = as_images(route, value_range=value_range)
            assert all(image.dtype == np.uint8 for image in images)
            assert keys(images) == expected

    @given(hnp.arrays(np.float32, (2, 5, 6), elements=st.floats(0, 1, width=32)))
    @settings(max_examples=40, deadline=None)
    def test_other_floats_are_kept_on_the_255_scale(self, stack):
        image = as_images(stack)[1]
        np.testing.assert_allclose(image, stack[1] * 255.0, rtol=1e-6)
        np.testing.assert_array_equal(image, as_images(stack.astype(np.float64))[1])

    def test_floats_that_overshoot_a_little_are_not_clipped(self):
        stack = np.full((1, 2, 2), 1.05)
        stack[0, 0, 0] = -0.05
        np.testing.assert_allclose(as_images(stack)[0], stack[0] * 255.0)

    @given(hnp.arrays(np.uint16, (1, 4, 5)), st.sampled_from([4095, 65535]))
    @settings(max_examples=40, deadline=None)
    def test_uint16_is_scaled_from_its_range(self, stack, white):
        image = as_images(stack & np.uint16(white), value_range=(0, white))[0]
        np.testing.assert_allclose(image, (stack[0] & white) * (255 / white), rtol=1e-6)

    def test_uint16_is_scaled_from_65535(self):
        stack = np.array([[[0, 1], [257, 300], [16384, 65535]]], np.uint16)
        np.testing.assert_allclose(as_images(stack)[0], stack[0] / 257.0, rtol=1e-6)

    def test_bool_is_black_and_white(self):
        image = as_images(np.eye(4, dtype=bool)[None])[0]
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.eye(4) * 255)

    def test_decision_between_uint8_and_float_is_made_image_by_image(self):
        stack = np.stack([np.full((4, 4), 7 / 255), np.full((4, 4), 0.0301)])
        assert [image.dtype.name for image in as_images(stack)] == ["uint8", "float32"]

    def test_equal_channels_are_grey(self):
        grey = np.arange(20, dtype=np.uint8).reshape(1, 4, 5)
        colour = np.repeat(grey[..., None], 3, axis=-1)
        assert keys(as_images(grey)) == keys(as_images(colour)) == keys(as_images(grey[..., None]))
        assert as_images(colour).shape == (4, 5, 3)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.full((3, 4, 4), -0.5), r"Negative values in data: images\[0\] has -0.5"),
            (np.full((3, 4, 4), 200.0), r"images\[0\] has values up to 200.*Divide by 255"),
            (np.full((3, 4, 4), 300), r"images\[0\] has int64 values 300..300, expected 0..255"),
            (np.full((3, 4, 4), -1, np.int8), r"Negative values in data: images\[0\] has int8"),
            (np.full((3, 4, 4), 1j), "Complex data not supported"),
            (np.full((3, 4, 4), "2020-01-01", "M8[D]"), "datetime64"),
        ],
    )
    def test_other_scales_are_refused(self, values, message):
        with pytest.raises(ValueError, match=message):
            as_images(values)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_non_finite_values_name_the_image(self, bad):
        stack = np.zeros((5, 4, 4))
        stack[3, 1, 2] = bad
        for X in (stack, list(stack), stack.reshape(5, 16)):
            with pytest.raises(ValueError, match=r"images\[3\] contains NaN or infinity"):
                as_images(X)

    def test_the_callers_array_is_never_written_to(self):
        stack = np.random.default_rng(0).random((2, 5, 5))
        stack.setflags(write=False)
        images = as_images(stack)
        assert widen([resize_image(image, (8, 8)) for image in images]).shape == (2, 8, 8, 3)


class TestShapes:
    @pytest.mark.parametrize(
        ("n_values", "shape"),
        [(784, (28, 28)), (12, (2, 2, 3)), (1, (1, 1)), (3, (1, 1, 3)), (10, (1, 10))],
    )
    def test_flattened_rows_are_square_or_short(self, n_values, shape):
        assert as_images(np.zeros((2, n_values))).shape == shape

    def test_long_rows_need_image_shape(self):
        with pytest.raises(ValueError, match="give image_shape"):
            as_images(np.zeros((2, 1030)))
        rows = np.arange(2 * 1030).reshape(2, 1030) % 256
        np.testing.assert_array_equal(
            as_images(rows, image_shape=(10, 103))[1], rows[1].reshape(10, 103)
        )

    @pytest.mark.parametrize("image_shape", [(4, 5), (4, 4, 2), (16,), (0, 3)])
    def test_an_impossible_image_shape_is_refused(self, image_shape):
        with pytest.raises(ValueError, match="image_shape="):
            as_images(np.zeros((2, 16)), image_shape=image_shape)

    def test_a_single_colour_image_is_refused_with_a_hint(self):
        with pytest.raises(ValueError, match=r"single colour image; pass image\[None\]"):
            as_images(np.zeros((20, 30, 3)))

    @pytest.mark.parametrize(
        "X",
        [
            np.zeros((0, 4, 4)),
            np.zeros((2, 0, 4)),
            np.zeros((2, 4, 4, 4)),
            np.zeros((2, 4, 4, 3, 1)),
            [np.zeros((4, 4)), np.zeros(4)],
            [np.zeros((4, 4)), np.zeros((4, 0))],
        ],
    )
    def test_other_shapes_are_refused(self, X):
        with pytest.raises(ValueError, match=r"shape|at least one"):
            as_images(X)

    def test_ragged_lists_and_object_arrays_keep_their_sizes(self):
        ragged = [np.zeros((4, 6), np.uint8), np.ones((5, 3, 3)), np.eye(7, dtype=bool)]
        boxed = np.empty(3, dtype=object)
        boxed[:] = ragged
        for X in (ragged, boxed, tuple(ragged)):
            images = as_images(X)
            assert images.shape is None
            assert images.n_features is None
            assert [image.shape for image in images] == [(4, 6), (5, 3), (7, 7)]

    def test_pillow_pictures_are_images_too(self):
        picture = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).convert("P")
        np.testing.assert_array_equal(as_images([picture])[0].ravel(), np.arange(16))

    def test_indexing_is_that_of_a_sequence(self):
        images = as_images(np.arange(32, dtype=np.uint8).reshape(2, 4, 4))
        assert images[-1][0, 0] == 16
        assert len(images[:5]) == 2
        with pytest.raises(IndexError):
            images[2]


@pytest.fixture
def scan():
    return np.random.default_rng(3).integers(0, 256, (12, 17), dtype=np.uint8)


class TestFiles:
    def test_every_kind_of_file_loads(self, tmp_path, scan):
        colour = np.random.default_rng(1).integers(0, 256, (12, 17, 3), dtype=np.uint8)
        alpha = np.dstack([colour, np.full((12, 17), 255, np.uint8)])
        half = np.dstack([colour, np.full((12, 17), 128, np.uint8)])
        deep = scan.astype(np.uint16) * 257
        made = {
            "grey.png": (Image.fromarray(scan), scan),
            "one bit.png": (Image.fromarray(scan > 100), (scan > 100) * 255),
            "colour.png": (Image.fromarray(colour), colour),
            "opaque (1).png": (Image.fromarray(alpha), colour),
            "half.png": (Image.fromarray(half), np.rint(colour * (128 / 255))),
            "palette.png": (Image.fromarray(scan).convert("P"), scan),
            "grey alpha.png": (Image.fromarray(np.dstack([scan, alpha[..., 3]]), "LA"), scan),
            "deep.png": (Image.fromarray(deep), scan),
            "deep.tif": (Image.fromarray(deep), scan),
            "int32.tif": (Image.fromarray(scan.astype(np.int32)), scan),
            "deep.pgm": (Image.fromarray(deep.astype(np.int32)), scan),
            "float.tif": (Image.fromarray((scan / 255).astype(np.float32)), scan),
            "cmyk.tif": (Image.fromarray(colour).convert("CMYK"), None),
            "scan.bmp": (Image.fromarray(scan), scan),
        }
        for name, (picture, expected) in made.items():
            path = tmp_path / name
            picture.save(path)
            image = read_image(path)
            assert image.dtype == np.uint8, name
            if expected is not None:
                assert np.abs(image.astype(int) - expected).max() <= (name == "half.png"), name

    def test_all_forms_of_path_lists_read_alike(self, tmp_path, scan):
        for i in range(2):
            Image.fromarray(scan + i).save(tmp_path / f"scan ({i}).png")
        paths = sorted(tmp_path.glob("*.png"))
        texts = [str(path) for path in paths]
        expected = keys(as_images(texts))
        assert len(set(expected)) == 2
        for X in (
            paths,
            tuple(texts),
            np.array(texts),
            np.array(texts)[:, None],
            np.array(texts, dtype=object),
            pd.Series(texts),
            pd.Series(texts, dtype="string"),
            pd.DataFrame({"path": texts}),
            [path.encode() for path in texts],
        ):
            images = as_images(X)
            assert keys(images) == expected
            assert images.paths == texts

    def test_photographs_are_turned_upright(self, tmp_path, scan):
        picture = Image.fromarray(scan)
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(tmp_path / "turned.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(scan, -1))

    def test_unreadable_files_are_named_with_their_index(self, tmp_path, scan):
        good = tmp_path / "good.png"
        Image.fromarray(scan).save(good)
        text = tmp_path / "scan (3).png"
        text.write_text("not a picture")
        truncated = tmp_path / "truncated.png"
        truncated.write_bytes(good.read_bytes()[:-60])
        stack = tmp_path / "loop.gif"
        frames = [Image.fromarray(scan), Image.fromarray(255 - scan)]
        frames[0].save(stack, save_all=True, append_images=frames[1:])
        for path, message in (
            (text, r"images\[1\]: '.*scan \(3\).png' cannot be decoded"),
            (truncated, r"images\[1\]: '.*truncated.png' cannot be decoded"),
            (tmp_path / "absent.png", r"images\[1\]: '.*absent.png' does not exist"),
            (tmp_path, r"images\[1\]: .* is a folder, .*; load_image_folder"),
            (stack, r"images\[1\]: .* holds 2 frames"),
        ):
            images = as_images([good, path])
            with pytest.raises(ValueError, match=message):
                images[1]

    def test_a_single_path_and_a_mixed_list_are_refused(self, tmp_path):
        for path in ("scan.png", tmp_path / "scan.png"):
            with pytest.raises(ValueError, match="pass a list of paths"):
                as_images(path)
        with pytest.raises(ValueError, match=r"images\[1\] is float"):
            as_images(["scan.png", 3.0])

    def test_real_scans_read_as_grey_or_colour(self, busi_folder):
        paths = sorted(busi_folder.glob("benign/benign (*).png"))
        paths = [path for path in paths if "mask" not in path.name]
        assert len(paths) == 437
        shapes = {read_image(path).ndim for path in paths[:40]}
        assert 2 in shapes
        assert len({content_key(read_image(path)) for path in paths}) == 437


class Recorder:
    """Stands for an estimator: `validate_data` needs no more of it."""

    def __sklearn_tags__(self):
        from sklearn.base import BaseEstimator

        return BaseEstimator().__sklearn_tags__()


class TestValidation:
    def test_n_features_is_the_product_where_it_is_fixed(self):
        estimator = Recorder()
        validate_images(estimator, np.zeros((2, 8, 6, 3)), reset=True)
        assert estimator.n_features_in_ == 144
        validate_images(estimator, np.zeros((2, 48)), reset=True)
        assert estimator.n_features_in_ == 48
        validate_images(estimator, [np.zeros((4, 5)), np.zeros((6, 5))], reset=True)
        assert not hasattr(estimator, "n_features_in_")

    def test_rows_get_scikit_learns_own_checks(self):
        estimator = Recorder()
        frame = pd.DataFrame(np.zeros((3, 4)), columns=list("abcd"))
        validate_images(estimator, frame, reset=True)
        assert list(estimator.feature_names_in_) == list("abcd")
        with pytest.raises(ValueError, match="feature names"):
            validate_images(estimator, frame.assign(e=0.0), reset=False)
        validate_images(estimator, np.zeros((3, 9, 9)), reset=True)
        assert not hasattr(estimator, "feature_names_in_")
        with pytest.raises(ValueError, match="Expected 2D array"):
            validate_images(estimator, np.zeros(3), reset=True)

    def test_nested_lists_of_pixels_are_arrays(self):
        images = validate_images(Recorder(), [[[0.0, 1.0]], [[0.5, 0.25]]], reset=True)
        assert images.shape == (1, 2)


def test_paths_are_pathlike_only(tmp_path):
    assert as_images([pathlib.PurePath("a.png")]).paths == ["a.png"]
