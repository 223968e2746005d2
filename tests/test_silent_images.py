"""Images on another scale or of no known form: right, or refused with a way out."""

import collections
import io
import os
import pathlib
import pickle
import re
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from tiny_networks import TINY

from hybridus import DeepFeatureExtractor
from hybridus.estimators.preprocessing import SpeckleFilter
from hybridus.estimators.segmenters import UNetSegmenter, VotingSegmenter
from hybridus.inputs.images import as_images, content_key, read_image, validate_images
from hybridus.training.batches import content_keys, subset


def up_to(largest, dtype, n_images=2):
    """Images of `dtype` whose values are 0 to `largest`."""
    values = np.linspace(0, largest, n_images * 16).round().reshape(4, 4, n_images)
    return np.ascontiguousarray(values.transpose(2, 0, 1)).astype(dtype)


class TestScales:
    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (load_digits().images[:5], r"images\[0\] has values up to 15, but float images lie in"),
            (np.full((1, 4, 4), 18.0), r"up to 18, but float images .*value_range=\(low, high\)"),
            (np.full((1, 4, 4), 1.06), r"up to 1.06, but float images lie in 0..1. Divide by 255"),
            (np.full((1, 4, 4), -0.06), "Negative values in data: .* has -0.06; .* value_range="),
            (up_to(255, np.uint16), r"uint16 values up to .*nearly black.*value_range=\(0, 255\)"),
            (up_to(1023, np.uint16), r"nearly black.*such as value_range=\(0, 1023\)"),
            (up_to(4095, np.uint16), r"nearly black.*\(0, 4095\); .*that dark.*\(0, 65535\)"),
            (up_to(16383, np.uint16), r"nearly black.*such as value_range=\(0, 16383\)"),
            (up_to(4095, ">u2"), r"nearly black.*such as value_range=\(0, 4095\)"),
            (up_to(1023, np.int32), r"int32 values .*expected 0..255.*value_range=\(0, 1023\)"),
            (up_to(4095, np.uint32), r"uint32 values .*expected 0..255.*value_range=\(0, 4095\)"),
            (up_to(65535, np.int64), r"int64 values .*expected 0..255.*value_range=\(0, 65535\)"),
            (up_to(16, np.int64), r"less than a quarter of 255.*value_range=\(0, 1.*or pass uint8"),
            (up_to(127, np.int8), r"type int8, which holds -128..127 and not \(0, 255\)"),
        ],
    )
    def test_what_shows_another_scale_is_refused(self, images, message):
        rows = images.reshape(len(images), -1)
        for X in (images, images[..., None], list(images), rows):
            with pytest.raises(ValueError, match=message):
                as_images(X)

    def test_an_image_is_judged_alone_and_in_company_alike(self):
        images = np.stack([np.full((4, 4), 60000), np.full((4, 4), 900)]).astype(np.uint16)
        with pytest.raises(ValueError, match=r"images\[1\] has uint16 values up to 900"):
            as_images(images)
        with pytest.raises(ValueError, match=r"images\[0\] has uint16 values up to 900"):
            as_images(images[1:])
        declared = as_images(images, value_range=(0, 65535))
        assert content_key(declared[1]) == content_key(
            as_images(images[1:], value_range=(0, 65535))[0]
        )

    def test_black_is_black_on_every_scale(self):
        for dtype in (bool, np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.float16):
            image = as_images(np.zeros((1, 4, 4), dtype))[0]
            assert image.dtype == np.uint8
            assert not image.any()

    @pytest.mark.parametrize(
        ("images", "value_range", "expected"),
        [
            (np.array([[[0.0, 8.0], [16.0, 4.0]]]), (0, 16), [[0, 127.5], [255, 63.75]]),
            (np.array([[[0, 4095], [1365, 2730]]], np.uint16), (0, 4095), [[0, 255], [85, 170]]),
            (np.array([[[0, 4095], [1365, 2730]]], np.int32), (0, 4095), [[0, 255], [85, 170]]),
            (np.array([[[-1024, 3071]]], np.int16), (-1024, 3071), [[0, 255]]),
            (np.array([[[0, 1]]], bool), (0, 1), [[0, 255]]),
            (np.array([[[3, 250]]], np.uint8), (0, 255), [[3, 250]]),
            (np.array([[[-1.0, 1.0], [0.0, 0.5]]]), [-1, 1], [[0, 255], [127.5, 191.25]]),
        ],
    )
    def test_a_declared_range_is_what_is_black_and_white(self, images, value_range, expected):
        image = as_images(images, value_range=value_range)[0]
        np.testing.assert_allclose(image, expected, rtol=1e-6)
        assert (image.dtype == np.uint8) == (np.asarray(expected) % 1 == 0).all()

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (np.full((1, 4, 4), 4096, np.uint16), r"4096..4096, outside .*value_range=\(0, 4095\)"),
            (np.full((1, 4, 4), -1, np.int16), r"Negative values in data: .*outside the declared"),
            (
                np.full((1, 4, 4), 9, np.uint8),
                r"type uint8, which holds 0..255 and not \(0, 4095\)",
            ),
            (np.ones((1, 4, 4), bool), r"type bool, which holds 0..1 and not \(0, 4095\)"),
            (np.full((1, 4, 4), np.nan), r"images\[0\] contains NaN or infinity"),
        ],
    )
    def test_what_a_declared_range_cannot_be_of_is_refused(self, images, message):
        with pytest.raises(ValueError, match=message):
            as_images(images, value_range=(0, 4095))

    @pytest.mark.parametrize("value_range", ["ab", 5, (1,), (1, 1), (2, 1), (0, np.inf), (0, None)])
    def test_an_impossible_range_is_refused(self, value_range):
        with pytest.raises(ValueError, match=r"value_range=.*expected None or \(low, high\)"):
            as_images(np.zeros((1, 4, 4)), value_range=value_range)


def png(pixels, colour_type):
    """A PNG file of 16 bits a channel, which Pillow cannot write in colour."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


class TestFiles:
    @pytest.mark.parametrize(
        ("suffix", "dtype", "largest", "message"),
        [
            (".png", np.uint16, 255, r"nearly black.*such as value_range=\(0, 255\)"),
            (".tif", np.uint16, 4095, r"nearly black.*such as value_range=\(0, 4095\)"),
            (".tif", np.int32, 65535, r"int32 values .*expected 0..255"),
            (".tif", np.float32, 255, "values up to 255, but float images lie in 0..1"),
        ],
    )
    def test_files_arrays_and_pictures_follow_one_rule(
        self, tmp_path, suffix, dtype, largest, message
    ):
        pixels = up_to(largest, dtype, 1)[0]
        path = tmp_path / f"scan{suffix}"
        Image.fromarray(pixels).save(path)
        with Image.open(path) as picture:
            for X in ([path], pixels[None], [pixels], [picture]):
                with pytest.raises(ValueError, match=r"images\[0\].*" + message):
                    as_images(X)[0]
                image = as_images(X, value_range=(0, largest))[0]
                np.testing.assert_allclose(image, pixels * (255 / largest), rtol=1e-6)
        with pytest.raises(ValueError, match=rf"image: '.*scan{suffix}' has .*"):
            read_image(path)

    def test_colours_of_16_bits_that_would_be_read_as_black_are_refused(self, tmp_path):
        path = tmp_path / "colour.png"
        for colour_type, channels in ((2, 3), (4, 2), (6, 4)):
            pixels = np.full((3, 4, channels), 65535)
            path.write_bytes(png(pixels, colour_type))
            assert read_image(path).min() == 255
            pixels[..., : channels - (channels % 2 == 0)] = 4095  # all but alpha
            path.write_bytes(png(pixels, colour_type))
            with pytest.raises(ValueError, match=r"colour.png' has 16-bit colours, all of them"):
                read_image(path)

    def test_premultiplied_grey_is_read(self):
        grey = Image.new("LA", (3, 2), (200, 255)).convert("La")
        assert as_images([grey])[0].tolist() == [[200] * 3] * 2

    def test_pictures_that_cannot_be_decoded_are_named(self, tmp_path):
        whole = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8)).save(
            whole, "PNG"
        )
        truncated = Image.open(io.BytesIO(whole.getvalue()[:-30]))
        with pytest.raises(ValueError, match=r"images\[1\] cannot be decoded as an image"):
            as_images([Image.new("L", (3, 3)), truncated])
        loop = io.BytesIO()
        frames = [Image.new("L", (3, 3), level) for level in (9, 99)]
        frames[0].save(loop, "GIF", save_all=True, append_images=frames[1:])
        animated = Image.open(loop)
        with pytest.raises(ValueError, match=r"images\[0\] holds 2 frames.*pass a copy"):
            as_images([animated])
        animated.seek(1)
        assert as_images([animated.copy()])[0][0, 0] == 99

    def test_the_stamp_of_a_file_knows_its_scale(self, tmp_path):
        path = tmp_path / "scan.png"
        Image.fromarray(up_to(60000, np.uint16, 1)[0]).save(path)
        os.utime(path, (1e9, 1e9))
        bright, dark = (as_images([path], value_range=(0, high)) for high in (60000, 65535))
        assert content_keys(bright) != content_keys(dark)
        assert content_keys(subset(dark, [0])) == content_keys(dark)
        assert bright.stamps != dark.stamps
        assert as_images([tmp_path / "absent.png"]).stamps == [None]


def scan(*shape):
    return np.random.default_rng(1).random(shape or (4, 4))


class Tensor:
    """What other libraries' tensors look like, and how they may fail."""

    def __init__(self, values=None):
        self.values = values
        self.ndim = 3
        self.shape = (2, 4, 4)

    def __array__(self, dtype=None, copy=None):
        if self.values is None:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return np.asarray(self.values, dtype)


class TestOneImage:
    """A single image (H, W) given to a fitted estimator, which rows could be taken for."""

    def test_gets_a_message_as_good_as_a_single_path_does(self, tmp_path):
        images = np.random.default_rng(0).integers(0, 255, (4, 32, 32), dtype=np.uint8)
        Image.fromarray(images[0]).save(tmp_path / "1.png")
        tiny = DeepFeatureExtractor(TINY, weights="random")
        for known in (images, images.reshape(4, -1)):
            with pytest.raises(ValueError, match=r"flattened images; .* pass image\[None\]"):
                clone(tiny).fit(known).transform(images[0])
        for known in ([str(tmp_path / "1.png")], [images[0], images[0][:16]]):
            fitted = clone(tiny).fit(known)
            for one in (images[0], np.zeros((400, 400))):  # 400 rows of 20 x 20 values
                with pytest.raises(ValueError, match=r"was fitted on files, .* pass image\[None\]"):
                    fitted.transform(one)
            assert fitted.transform(images[:1]).shape == (1, 24)
        assert SpeckleFilter().transform(np.zeros((2, 16))).shape == (2, 16)


class TestForms:
    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (None, "got None$"),
            (5.0, "got 5.0$"),
            ([], "got an empty list$"),
            ((), "got an empty tuple$"),
            ("a.png", "got the single path 'a.png'; pass a list of paths"),
            (pathlib.Path("a.png"), "got the single path 'a.png'; pass a list of paths"),
            (b"\x89PNG", "got bytes, a file's content; pass a list of pictures"),
            (io.BytesIO(b"x"), "got BytesIO, a file's content; pass a list of pictures"),
            ((path for path in ["a.png"]), r"got generator, .*by index; pass list\(X\)"),
            (map(str, ["a.png"]), r"got map, .*by index; pass list\(X\)"),
            (iter(["a.png"]), r"got list_iterator, .*by index; pass list\(X\)"),
            (pathlib.Path().glob("*.png"), r"pass list\(X\)"),
            ({"a.png": 1}.keys(), r"got dict_keys, .*by index; pass list\(X\)"),
            ({"a": 1}.values(), r"got dict_values, .*by index; pass list\(X\)"),
            ({"a.png"}, r"got set, which has no order; pass a list, such as sorted\(X\)"),
            ({"images": scan(1, 4, 4)}, "got dict with 1 entries; pass the images in it"),
            (Image.new("L", (8, 8)), "got a single picture; pass a list of pictures"),
            ([None, scan()], r"images\[0\] is NoneType None, expected an array or a picture"),
            ([scan(), None], r"images\[1\] is NoneType None, expected an array or a picture"),
            ([scan(), 3], r"images\[1\] is int 3, expected an array or a picture"),
            ([scan(), "a.png"], r"images\[0\] is an array of shape \(4, 4\), expected a path"),
            (["a.png", scan()], r"images\[1\] is an array of shape \(4, 4\), expected a path"),
            (["a.png", None], r"images\[1\] is NoneType None, expected a path"),
            ([None, "a.png"], r"images\[0\] is NoneType None, expected a path"),
            (pd.Series(["a.png", np.nan]), r"images\[1\] is float nan, expected a path"),
            (["a.png", io.BytesIO()], r"images\[1\] is BytesIO .*, expected a path"),
            ([b"\x89PNG\0\0"], r"images\[0\] is 6 bytes of a file's content, expected a path"),
            (scan(2, 3, 8, 8), r"images\[0\] has shape \(3, 8, 8\), .*np.moveaxis"),
            (scan(8, 8, 1), r"looks like a single grey image; pass image\[None\]"),
            ([[[1, 2], [3]], [[1]]], "images cannot be read as an array"),
            (np.full((2, 3, 4), "a"), r"images\[0\] has type <U1, expected bool"),
            (Tensor(), "images cannot be read as an array .*requires grad"),
            ([scan(), Tensor()], r"images\[1\] cannot be read as an array .*requires grad"),
            (
                np.ma.masked_greater(scan(2, 4, 4), 0.5),
                r"images: got a masked array with \d+ masked values",
            ),
            ([scan(), np.ma.masked_greater(scan(), 0.5)], r"images\[1\]: got a masked array"),
        ],
    )
    def test_what_holds_no_images_is_named_with_a_way_out(self, X, message):
        for read in (as_images, lambda X: validate_images(SpeckleFilter(), X, reset=True)):
            with pytest.raises(ValueError, match=message):
                read(X)

    def test_masked_rows_are_refused_and_masked_arrays_that_hide_nothing_taken(self):
        rows = np.ma.masked_greater(scan(3, 16), 0.5)
        with pytest.raises(ValueError, match="got a masked array"):
            validate_images(SpeckleFilter(), rows, reset=True)
        np.testing.assert_allclose(
            as_images(np.ma.array(scan(2, 4, 4)))[1], scan(2, 4, 4)[1] * 255, rtol=1e-6
        )

    def test_other_sequences_and_tensors_are_taken(self, tmp_path):
        stack = np.random.default_rng(0).integers(0, 256, (2, 4, 4), np.uint8)
        expected = [content_key(image) for image in as_images(stack)]
        paths = [tmp_path / f"{i}.png" for i in range(2)]
        for path, pixels in zip(paths, stack, strict=True):
            Image.fromarray(pixels).save(path)
        for X in (
            collections.deque(paths),
            pd.Series(paths),
            pd.Series(list(stack)),
            pd.Index([str(path) for path in paths]),
            np.array([str(path) for path in paths], dtype=np.dtypes.StringDType()),
            collections.deque(stack),
            Tensor(stack),
            stack.tolist() and [image.astype(">u2") * np.uint16(257) for image in stack],
        ):
            assert [content_key(image) for image in as_images(X)] == expected


def reference(image, low, high):
    """The canonical image in three lines, values only."""
    values = (np.asarray(image, np.longdouble) - low) / (high - low) * 255
    grey = values.ndim == 3 and (values == values[..., :1]).all()
    return values[..., 0] if grey else values


any_array = hnp.arrays(
    st.sampled_from(
        [bool, "u1", "i1", "<u2", ">u2", "i2", "i4", "u4", "i8", "u8", "f2", "<f4", ">f4", "f8"]
    ),
    st.sampled_from([(2, 3, 4), (1, 3, 4, 1), (2, 3, 4, 3), (2, 16), (1, 12), (2, 2, 5)]),
)
sensible = st.one_of(
    hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-0.25, 1.25, width=32)),
    hnp.arrays(np.int32, (2, 3, 4), elements=st.integers(-2, 300)),
    hnp.arrays(np.uint16, (2, 3, 4), elements=st.integers(0, 65535)),
)
ranges = st.sampled_from([None, (0, 1), (0, 255), (0, 4095), (0, 65535), (-128, 127), (-1, 1)])
REFUSALS = (
    "contains NaN or infinity|Negative values in data|but float images lie in 0..1|"
    "expected 0..255|less than a quarter of|outside the declared|which holds"
)


class TestAnything:
    @given(st.one_of(any_array, sensible), ranges, st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_an_array_is_refused_or_becomes_its_canonical_image(self, array, value_range, listed):
        array.setflags(write=False)
        before = array.copy()
        X = list(array) if listed and array.ndim > 2 else array
        refusal = None
        try:
            images = as_images(X, value_range=value_range)
        except ValueError as error:
            refusal = str(error)
        finally:
            np.testing.assert_array_equal(array, before)
        if refusal is not None:
            assert re.search(REFUSALS, refusal)
            return
        default = {"b": (0, 1), "f": (0, 1)}.get(array.dtype.kind, (0, 255))
        if array.dtype.newbyteorder("=") == np.uint16:
            default = (0, 65535)
        shape = images.shape
        for given_image, image in zip(array, images, strict=True):
            expected = reference(given_image.reshape(shape), *(value_range or default))
            assert image.shape == expected.shape
            eps = np.finfo(array.dtype).eps if array.dtype.kind == "f" else 0
            np.testing.assert_allclose(
                image.astype(np.longdouble),
                expected,
                rtol=2 * eps + 1e-6,
                atol=1e-30 + (512 * eps if value_range and value_range[0] else 0),
            )
            if image.dtype == np.float32:
                assert (expected != np.rint(expected)).any() or expected.max() > 255

    @given(
        st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a"])
    )
    @settings(max_examples=60, deadline=None)
    def test_any_bytes_are_refused_by_name(self, tmp_path_factory, content, start):
        path = tmp_path_factory.getbasetemp() / "any.png"
        path.write_bytes(start + content)
        with pytest.raises(ValueError, match=r"images\[0\]: '.*any.png' "):
            as_images([path])[0]


class TestEstimators:
    def test_the_range_is_a_parameter_that_lasts(self):
        twelve_bits = up_to(4095, np.uint16, 6)
        extractor = DeepFeatureExtractor(TINY, weights="random", cache=False)
        with pytest.raises(ValueError, match=r"such as value_range=\(0, 4095\)"):
            extractor.fit(twelve_bits)
        extractor.set_params(value_range=(0, 4095)).fit(twelve_bits)
        rows = extractor.transform(twelve_bits)
        again = pickle.loads(pickle.dumps(clone(extractor).fit(twelve_bits)))
        np.testing.assert_array_equal(again.transform(twelve_bits[2:3]), rows[2:3])
        plain = DeepFeatureExtractor(TINY, weights="random", cache=False)
        same = plain.fit_transform(twelve_bits / 4095)
        np.testing.assert_allclose(rows, same, rtol=1e-5)

    def test_rows_of_a_store_are_those_of_the_range(self, tmp_path):
        paths = []
        for i, pixels in enumerate(up_to(60000, np.uint16, 2)):
            paths.append(tmp_path / f"{i}.png")
            Image.fromarray(pixels).save(paths[-1])
            os.utime(paths[-1], (1e9, 1e9))
        rows = {}
        for high in (60000, 65535, 60000):
            extractor = DeepFeatureExtractor(
                TINY, weights="random", cache=tmp_path / "store", value_range=(0, high)
            )
            found = extractor.fit_transform(paths)
            np.testing.assert_array_equal(rows.setdefault(high, found), found)
        assert np.abs(rows[60000] - rows[65535]).max() > 1e-3

    def test_an_impossible_range_is_refused_by_name(self):
        for wrong, message in (
            ("ab", "'value_range' parameter"),
            ((2, 1), r"value_range=\(2, 1\)"),
        ):
            with pytest.raises(ValueError, match=message):
                SpeckleFilter(value_range=wrong).fit(scan(1, 8, 8))

    def test_negative_values_are_taken_where_they_are_declared(self):
        for low, positive in ((-1, False), (0, True)):
            tags = SpeckleFilter(value_range=(low, 1)).__sklearn_tags__()
            assert tags.input_tags.positive_only is positive
        assert SpeckleFilter().__sklearn_tags__().input_tags.positive_only

    def test_segmenters_that_vote_have_one_range(self):
        parts = [UNetSegmenter(value_range=(0, high)) for high in (4095, 255)]
        voting = VotingSegmenter([("a", parts[0]), ("b", parts[1])])
        with pytest.raises(ValueError, match=r"'b' has value_range=\(0, 255\) and 'a' has \(0, 4"):
            voting.fit(up_to(4095, np.uint16), up_to(1, bool))
        assert voting.set_params(b=parts[0]).value_range == (0, 4095)
