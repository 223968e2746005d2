"""Resizing, and preparing images ahead of use."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from hybridus.inputs.resizing import map_ahead, resize_image


class TestResizing:
    @given(
        hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))),
        st.tuples(st.integers(1, 16), st.integers(1, 16)),
        st.sampled_from(["stretch", "pad"]),
    )
    @settings(max_examples=80, deadline=None)
    def test_size_and_range_hold(self, image, size, resize):
        resized = resize_image(image, size, resize=resize)
        assert resized.shape == size
        assert resized.dtype == np.uint8
        assert resized.max() <= image.max()
        if resize == "stretch":
            assert resized.min() >= image.min()

    def test_padding_keeps_the_aspect_ratio(self):
        image = np.full((10, 40), 200, np.uint8)
        resized = resize_image(image, (20, 20), resize="pad")
        np.testing.assert_array_equal(np.flatnonzero(resized.max(axis=1)), np.arange(7, 12))
        assert (resized[7:12] == 200).all()

    def test_float_and_colour_images_resize_like_bytes(self):
        image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        exact = resize_image(image.astype(np.float32), (16, 16))
        np.testing.assert_allclose(resize_image(image, (16, 16)), exact, atol=1.0)

    def test_shrinking_averages(self):
        checkers = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
        assert abs(int(resize_image(checkers.astype(np.uint8), (8, 8))[4, 4]) - 127) < 6


class TestMapAhead:
    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_order_is_kept(self, n_threads):
        doubled = map_ahead(lambda i: 2 * i, range(50), n_threads=n_threads, ahead=4)
        assert list(doubled) == list(range(0, 100, 2))

    def test_no_more_than_asked_for_is_computed_ahead(self):
        work = mock.Mock(side_effect=lambda i: i)
        doubled = map_ahead(work, range(1000), n_threads=2, ahead=5)
        assert next(doubled) == 0
        assert work.call_count <= 6

    def test_an_error_reaches_the_caller(self):
        with pytest.raises(ZeroDivisionError):
            list(map_ahead(lambda i: 1 // i, [1, 0, 2], n_threads=2))
