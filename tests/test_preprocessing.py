"""`ContrastEqualizer`, `SpeckleFilter` and `BorderCropper` as transformers."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.exposure import equalize_adapthist
from skimage.restoration import denoise_bilateral, denoise_tv_chambolle
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from hybridus import DeepFeatureExtractor
from hybridus.estimators.preprocessing import BorderCropper, ContrastEqualizer, SpeckleFilter
from hybridus.inputs.images import as_images
from hybridus.inputs.resizing import resize_image

METHODS = ["lee", "median", "bilateral", "tv"]
FILTERS = [ContrastEqualizer(), BorderCropper(), *(SpeckleFilter(method) for method in METHODS)]


# The checks send flattened rows of small numbers, which are images where this is declared.
CHECKED = [clone(each).set_params(value_range=(0, 19)) for each in FILTERS]


@parametrize_with_checks(CHECKED, xfail_strict=True)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", CHECKED[:3])
@pytest.mark.parametrize(
    "check",
    [
        "check_param_validation",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_dataframe_column_names_consistency",
    ],
)
# What two of the checks do.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.filterwarnings("ignore:X has feature names")
def test_checks_that_scikit_learn_leaves_out(estimator, check):
    getattr(estimator_checks, check)(type(estimator).__name__, clone(estimator))


@pytest.fixture(scope="module")
def scans():
    """Four speckled images of a bright disc, 8-bit."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :64]
    disc = np.where((rows - 24) ** 2 + (columns - 32) ** 2 < 14**2, 0.55, 0.25)
    speckled = disc * (1 + 0.2 * rng.standard_normal((4, 48, 64)))
    return np.rint(255 * np.clip(speckled, 0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def colour_scans(scans):
    return np.stack([scans, scans // 2, scans[:, ::-1] // 3], axis=-1)


def unit(images):
    return np.asarray(images, np.float32) / np.float32(255)


def detail(images):
    """What a blur of three pixels takes away."""
    return images - ndimage.gaussian_filter(images, (0, 3, 3))


@pytest.mark.parametrize("estimator", FILTERS, ids=repr)
class TestForms:
    def test_arrays_keep_their_shape(self, estimator, scans, colour_scans):
        grey = estimator.fit_transform(scans)
        assert grey.shape == scans.shape
        assert grey.dtype == np.float32
        assert 0 <= grey.min() < grey.max() <= 1
        channel = estimator.fit_transform(scans[..., None])
        np.testing.assert_array_equal(channel, grey[..., None])
        repeated = estimator.fit_transform(np.repeat(scans[..., None], 3, axis=-1))
        np.testing.assert_array_equal(repeated, np.repeat(grey[..., None], 3, axis=-1))
        assert estimator.fit_transform(colour_scans).shape == colour_scans.shape
        np.testing.assert_array_equal(estimator.fit_transform(list(scans)), grey)
        np.testing.assert_array_equal(estimator.fit_transform(as_images(scans)), grey)

    def test_rows_stay_rows(self, estimator, scans, colour_scans):
        for images in (scans, colour_scans):
            flat = images.reshape(len(images), -1)
            rows = clone(estimator).set_params(image_shape=images.shape[1:]).fit_transform(flat)
            expected = estimator.fit_transform(images)
            np.testing.assert_array_equal(rows, expected.reshape(len(images), -1))
        square = scans[:, :48, :48]
        rows = estimator.fit_transform(square.reshape(4, -1).tolist())
        np.testing.assert_array_equal(rows, estimator.fit_transform(square).reshape(4, -1))

    def test_files_and_images_of_different_sizes_come_out_as_a_listing(
        self, estimator, scans, colour_scans, tmp_path
    ):
        ragged = [scans[0], scans[1, :40], colour_scans[2], scans[3][..., None]]
        paths = [tmp_path / f"scan ({i}).png" for i in range(4)]
        for path, image in zip(paths, ragged, strict=True):
            Image.fromarray(image.squeeze()).save(path)
        shapes = [(48, 64), (40, 64), (48, 64, 3), (48, 64)]
        for X in (ragged, paths, pd.Series([str(path) for path in paths])):
            out = estimator.fit_transform(X)
            assert out.shape == (4,)
            assert out.dtype == object
            assert [image.shape for image in out] == shapes
            assert {image.dtype for image in out} == {np.dtype(np.float32)}
            np.testing.assert_array_equal(out[0], estimator.transform(scans[:1])[0])
            np.testing.assert_array_equal(out[2], estimator.transform(colour_scans[2:3])[0])
        assert estimator.fit_transform(paths[:1]).shape == (1,)

    def test_types_are_read_by_their_scale(self, estimator, scans):
        expected = estimator.fit_transform(scans)
        for same in (unit(scans), scans / 255.0, scans.astype(np.uint16) * 257):
            np.testing.assert_array_equal(estimator.fit_transform(same), expected)
        binary = scans > 100
        np.testing.assert_array_equal(
            estimator.fit_transform(binary), estimator.fit_transform(binary * np.uint8(255))
        )

    def test_overshooting_floats_are_clipped(self, estimator, scans):
        bright = unit(scans)
        bright *= 1.009 / bright.max()
        np.testing.assert_array_equal(
            estimator.fit_transform(bright), estimator.fit_transform(np.minimum(bright, 1))
        )

    @pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 33), (33, 1), (2, 4)])
    def test_tiny_images(self, estimator, shape):
        images = np.random.default_rng(0).random((3, *shape, 1)).astype(np.float32)
        out = estimator.fit_transform(images)
        assert out.shape == images.shape
        assert np.isfinite(out).all()

    @pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
    def test_flat_images_are_left_alone(self, estimator, level):
        flat = np.full((1, 20, 30), level, np.float32)
        np.testing.assert_allclose(estimator.fit_transform(flat), flat, atol=1e-7)
        colour = flat[..., None] * np.float32([1, 0.5, 0.25])
        np.testing.assert_allclose(estimator.fit_transform(colour), colour, atol=1e-7)

    def test_the_callers_array_is_not_written_to(self, estimator, scans):
        for images in (scans.copy(), unit(scans), unit(scans)[:, ::2, ::2]):
            before = images.copy()
            images.setflags(write=False)
            estimator.fit_transform(images)
            np.testing.assert_array_equal(images, before)

    def test_an_image_does_not_depend_on_its_batch_or_on_threads(
        self, estimator, scans, monkeypatch
    ):
        expected = estimator.fit_transform(scans)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        np.testing.assert_array_equal(estimator.transform(scans[::-1])[::-1], expected)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        for i in range(len(scans)):
            np.testing.assert_array_equal(estimator.transform(scans[i : i + 1])[0], expected[i])

    def test_no_warnings(self, estimator, scans, colour_scans):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            estimator.fit_transform(scans)
            estimator.fit_transform(colour_scans)
            estimator.fit_transform(np.zeros((1, 9, 9)))

    def test_pickles_and_needs_no_fit(self, estimator, scans):
        expected = estimator.fit_transform(scans)
        again = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(again.transform(scans), expected)
        np.testing.assert_array_equal(clone(estimator).transform(scans), expected)


class TestFittedState:
    def test_says_what_fit_saw(self, scans, tmp_path):
        estimator = SpeckleFilter().fit(scans)
        assert estimator.image_shape_ == (48, 64)
        assert estimator.n_features_in_ == 48 * 64
        assert len(estimator.get_feature_names_out()) == 48 * 64
        estimator.fit([scans[0], scans[1, :40]])
        assert estimator.image_shape_ is None
        assert not hasattr(estimator, "n_features_in_")
        assert estimator.get_feature_names_out() is None

    def test_has_no_feature_names_before_fit(self):
        with pytest.raises(NotFittedError):
            ContrastEqualizer().get_feature_names_out()

    def test_rows_become_data_frames_and_images_stay_arrays(self, scans):
        estimator = SpeckleFilter(image_shape=(48, 64)).set_output(transform="pandas")
        frame = pd.DataFrame(scans.reshape(4, -1), index=list("abcd")).add_prefix("p")
        out = estimator.fit_transform(frame)
        assert list(out.columns) == list(frame.columns)
        assert list(out.index) == list("abcd")
        assert isinstance(estimator.fit_transform(scans), np.ndarray)
        assert isinstance(estimator.fit_transform([scans[0], scans[1, :40]]), np.ndarray)


class TestErrors:
    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (np.full((2, 8, 8), -0.5), "Negative values in data"),
            (np.full((2, 8, 8), 200.0), "float images lie in 0..1"),
            (np.zeros((8, 8, 3)), "looks like a single colour image"),
            (["nowhere.png"], "does not exist"),
            ([np.zeros((4, 4)), np.full((5, 5), np.nan)], r"images\[1\] contains NaN"),
        ],
    )
    @pytest.mark.parametrize("estimator", [ContrastEqualizer(), SpeckleFilter()])
    def test_images_that_are_none(self, estimator, X, message):
        with pytest.raises(ValueError, match=message):
            estimator.fit_transform(X)

    @pytest.mark.parametrize("grid", [(8,), (8, 0), (2, 2, 2), [1.5, 2], ("a", "b")])
    def test_tile_grid(self, grid, scans):
        estimator = ContrastEqualizer(tile_grid=grid)
        for call in (estimator.fit, estimator.transform):
            with pytest.raises(ValueError, match=r"tile_grid=.*: expected a whole number of tiles"):
                call(scans)

    @pytest.mark.parametrize(
        "estimator",
        [
            SpeckleFilter("mean"),
            SpeckleFilter(size=4),
            SpeckleFilter(size=1),
            ContrastEqualizer(0),
            ContrastEqualizer(1.5),
            ContrastEqualizer(tile_grid=0),
            BorderCropper(margin=0.5),
        ],
        ids=repr,
    )
    def test_parameters(self, estimator, scans):
        for call in (estimator.fit, estimator.transform):
            with pytest.raises(InvalidParameterError):
                call(scans)


class TestContrastEqualizer:
    def test_is_scikit_images_equalizer(self, scans, colour_scans):
        out = ContrastEqualizer(0.03, tile_grid=(3, 4)).transform(scans)
        for image, equalized in zip(unit(scans), out, strict=True):
            expected = equalize_adapthist(image, kernel_size=(16, 16), clip_limit=0.03)
            np.testing.assert_array_equal(equalized, expected)
        out = ContrastEqualizer(tile_grid=2).transform(colour_scans)
        expected = equalize_adapthist(unit(colour_scans[0]), kernel_size=(24, 32))
        np.testing.assert_allclose(out[0], expected, atol=1e-7)

    def test_tiles_keep_enough_pixels_for_a_histogram(self, scans):
        small = scans[:, :20, :20]
        np.testing.assert_array_equal(
            ContrastEqualizer(tile_grid=20).transform(small),
            [equalize_adapthist(image, kernel_size=(8, 8)) for image in unit(small)],
        )

    def test_raises_the_contrast_of_dim_images(self, scans):
        dim = 0.4 + 0.1 * unit(scans)
        assert ContrastEqualizer().transform(dim).std() > 5 * dim.std()

    def test_a_larger_clip_limit_gives_more_contrast(self, scans):
        details = [
            detail(ContrastEqualizer(limit, tile_grid=2).transform(scans)).std()
            for limit in (0.003, 0.01, 0.02)
        ]
        assert details[0] < details[1] < details[2]

    def test_colours_keep_their_hue(self, colour_scans):
        before = rgb2hsv(unit(colour_scans[0]))
        after = rgb2hsv(ContrastEqualizer().transform(colour_scans)[0])
        bright = after[..., 2] > 0.05
        np.testing.assert_allclose(after[bright][:, :2], before[bright][:, :2], atol=1e-3)


class TestSpeckleFilter:
    def test_is_the_filter_it_names(self, scans):
        image = unit(scans[0])
        variance = ndimage.generic_filter(image.astype(float), np.var, 7)
        noise = np.sqrt(np.median(variance))
        expected = {
            "median": ndimage.median_filter(image, 7),
            "bilateral": denoise_bilateral(
                image, 7, sigma_color=2 * noise, sigma_spatial=7 / 4, mode="symmetric"
            ),
            "tv": denoise_tv_chambolle(image, weight=noise * 7 / 4),
        }
        for method, filtered in expected.items():
            out = SpeckleFilter(method, size=7).transform(scans[:1])[0]
            np.testing.assert_allclose(out, filtered, atol=1e-5)

    def test_lee_is_the_formula(self, scans):
        image = unit(scans[0]).astype(float)
        mean = ndimage.generic_filter(image, np.mean, 5)
        relative = ndimage.generic_filter(image, np.var, 5) / mean**2
        gain = np.clip(1 - np.median(relative) / relative, 0, 1)
        out = SpeckleFilter("lee", size=5).transform(scans[:1])[0]
        np.testing.assert_allclose(out, mean + gain * (image - mean), atol=1e-6)

    @pytest.mark.parametrize("method", METHODS)
    def test_smooths_speckle_and_keeps_edges_better_than_a_mean(self, method):
        truth = np.full((64, 64), 0.3)
        truth[:, 32:] = 0.6
        speckle = 1 + 0.2 * np.random.default_rng(0).standard_normal(truth.shape)
        image = np.clip(truth * speckle, 0, 1)
        out = SpeckleFilter(method).transform(image[None])[0]
        inside, edge = np.s_[8:-8, 6:26], np.s_[8:-8, 29:35]
        assert out[inside].std() < 0.4 * image[inside].std()
        assert out[inside].mean() == pytest.approx(image[inside].mean(), rel=0.02)
        blurred = ndimage.uniform_filter(image, 5)
        assert np.abs(out - truth)[edge].mean() < 0.8 * np.abs(blurred - truth)[edge].mean()

    @pytest.mark.parametrize("method", METHODS)
    def test_a_larger_window_smooths_more(self, method, scans):
        background = np.s_[:, :8, :]
        spread = [
            SpeckleFilter(method, size=size).transform(scans)[background].std() for size in (3, 7)
        ]
        assert spread[1] < 0.9 * spread[0]

    @pytest.mark.parametrize("method", METHODS)
    def test_scales_with_the_brightness_of_the_image(self, method, scans):
        full = SpeckleFilter(method).transform(unit(scans))
        half = SpeckleFilter(method).transform(unit(scans) / 2)
        np.testing.assert_allclose(2 * half, full, atol=2e-3)

    @pytest.mark.parametrize("method", METHODS)
    def test_sixteen_bit_scans_keep_their_precision(self, method):
        faint = np.random.default_rng(0).integers(30_000, 30_257, (1, 32, 32)).astype(np.uint16)
        out = SpeckleFilter(method, size=3).transform(faint)
        assert len(np.unique(out)) > 50  # in 8 bits there would be two
        assert np.abs(out * 65535 - 30_128).max() < 130

    @pytest.mark.parametrize("method", METHODS)
    def test_channels_are_filtered_one_by_one(self, method, colour_scans):
        out = SpeckleFilter(method).transform(colour_scans)
        for channel in range(3):
            expected = SpeckleFilter(method).transform(colour_scans[..., channel])
            np.testing.assert_array_equal(out[..., channel], expected)


@pytest.fixture
def extractor():
    return DeepFeatureExtractor(
        "mobilenet_v2_0.35", weights="bundled", image_size=32, layers=["block_3_expand_relu"]
    )


class TestInAPipeline:
    @pytest.mark.parametrize("estimator", [ContrastEqualizer(), SpeckleFilter()])
    def test_features_are_those_of_the_filtered_images(self, estimator, extractor, scans, tmp_path):
        pipe = make_pipeline(estimator, extractor)
        rows = pipe.fit_transform(scans)
        np.testing.assert_array_equal(rows, extractor.fit_transform(estimator.transform(scans)))
        assert not np.allclose(rows, extractor.transform(scans))
        paths = [tmp_path / f"{i}.png" for i in range(4)]
        for path, image in zip(paths, scans, strict=True):
            Image.fromarray(image).save(path)
        for X in (paths, [scans[0], scans[1, :40], *scans[2:]]):
            listed = pipe.fit_transform(X)
            np.testing.assert_array_equal(listed[[0, 2, 3]], rows[[0, 2, 3]])
            assert pipe.get_feature_names_out()[0] == "mobilenet_v2_0.35_block_3_expand_relu_avg0"
        assert len(pipe.fit(scans).get_feature_names_out()) == rows.shape[1]

    def test_features_become_a_data_frame(self, extractor, scans):
        pipe = make_pipeline(SpeckleFilter(), clone(extractor)).set_output(transform="pandas")
        frame = pipe.fit_transform(scans)
        assert isinstance(frame, pd.DataFrame)
        assert frame.columns[0].startswith("mobilenet_v2")

    def test_searched_in_a_grid(self, extractor, scans):
        images = np.concatenate([scans, 255 - scans])
        pipe = make_pipeline(SpeckleFilter(), extractor, LogisticRegression())
        grid = {"specklefilter__method": METHODS, "specklefilter__size": [3, 5]}
        search = GridSearchCV(pipe, grid, cv=2, error_score="raise")
        search.fit(images, [0] * 4 + [1] * 4)
        assert search.best_score_ == 1.0


def test_a_real_scan_is_filtered_as_expected(busi_folder):
    paths = [busi_folder / "malignant" / "malignant (1).png"]
    scan = unit(as_images(paths)[0])
    equalized = ContrastEqualizer().fit_transform(paths)[0]
    assert detail(equalized[None]).std() > 1.5 * detail(scan[None]).std()
    for method in METHODS:
        smooth = SpeckleFilter(method).fit_transform(paths)[0]
        assert smooth.shape == scan.shape
        assert smooth.mean() == pytest.approx(scan.mean(), rel=0.02)
        assert detail(smooth[None]).std() < 0.85 * detail(scan[None]).std()


class TestBorderCropper:
    def test_what_is_inside_is_stretched_to_the_size_of_the_image(self):
        inside = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
        framed = np.full((1, 60, 80), 7, np.uint8)
        framed[0, 10:40, 20:60] = inside
        (found,) = BorderCropper().fit_transform(framed)
        expected = resize_image(inside / np.float32(255), (60, 80))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        colour = np.repeat(framed[..., np.newaxis], 3, axis=-1)
        assert BorderCropper().fit_transform(colour).shape == colour.shape

    def test_an_image_without_border_and_one_that_is_nearly_empty_stay_as_they_are(self, scans):
        np.testing.assert_allclose(BorderCropper().fit_transform(scans), scans / 255, atol=1e-6)
        marked = np.zeros((1, 60, 60), np.uint8)
        marked[0, 5:9, 5:9] = np.arange(0, 64, 16)
        np.testing.assert_allclose(BorderCropper().fit_transform(marked), marked / 255, atol=1e-6)

    def test_a_margin_cuts_more(self, scans):
        found = BorderCropper(margin=0.25).fit_transform(scans)
        inner = scans[0, 12:36, 16:48] / np.float32(255)
        np.testing.assert_allclose(found[0], resize_image(inner, (48, 64)), atol=1e-5)
