"""Augmentation: drawn parameters, exact geometry, masks that follow, grey values."""

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace

import joblib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, ParameterGrid

from hybridus.inputs.augmentation import PRESETS, Augmentation, Transforms, resolve_augmentation

STILL = Augmentation(flip="none")
EVERYTHING = Augmentation(
    flip="both",
    shift=0.2,
    rotation=40,
    zoom=0.5,
    brightness=0.2,
    contrast=0.5,
    gamma=0.5,
    speckle=0.2,
    aspect=0.4,
    gain=0.5,
    resolution=2,
)
GEOMETRY = replace(EVERYTHING, brightness=0, contrast=0, gamma=0, speckle=0, gain=0, resolution=0)
ARRAYS = [field.name for field in fields(Transforms) if field.name != "fill_mode"]


def transforms(n=1, fill_mode="constant", **rows):
    """Identity transforms but for the parameters given."""
    start = STILL.draw(n, np.random.default_rng(0))
    arrays = {
        name: np.broadcast_to(np.asarray(value), getattr(start, name).shape)
        for name, value in rows.items()
    }
    return replace(start, fill_mode=fill_mode, **arrays)


def assert_same(one, other):
    assert one.fill_mode == other.fill_mode
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def viewed(policy, images):
    """A view, and what it makes of images."""
    view = policy.view(b"scan 17", 5)
    return view, view.images(images)


@pytest.fixture
def batch():
    return np.random.default_rng(1).integers(0, 256, (5, 24, 24, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def scan(busi_folder):
    image = Image.open(busi_folder / "benign" / "benign (1).png").convert("L").resize((224, 224))
    return np.asarray(image)


@pytest.fixture(scope="module")
def lesion(busi_folder):
    return np.asarray(Image.open(busi_folder / "benign" / "benign (1)_mask.png").convert("L")) > 0


class TestPolicy:
    @pytest.mark.parametrize(
        "given",
        [
            {"flip": "diagonal"},
            {"flip": None},
            {"flip": ["horizontal"]},
            {"fill_mode": "wrap"},
            {"shift": -0.1},
            {"shift": 1},
            {"shift": np.nan},
            {"rotation": -1},
            {"rotation": 181},
            {"zoom": -0.1},
            {"zoom": np.inf},
            {"brightness": 1.5},
            {"contrast": np.nan},
            {"gamma": "0.2"},
            {"gamma": None},
            {"speckle": True},
            {"speckle": -np.inf},
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_refused_by_name(self, given):
        ((name, value),) = given.items()
        with pytest.raises(ValueError, match=f"^{name}=") as error:
            Augmentation(**given)
        assert repr(value) in str(error.value)
        assert "expected" in str(error.value)

    def test_is_plain_data(self):
        policy = Augmentation(shift=0, rotation=np.float32(10), zoom=np.int64(1))
        assert repr(policy) == repr(Augmentation(rotation=10.0, zoom=1.0))
        assert hash(policy) == hash(Augmentation(rotation=10, zoom=1))
        assert pickle.loads(pickle.dumps(policy)) == policy
        assert joblib.hash(policy) == joblib.hash(Augmentation(rotation=10.0, zoom=1.0))
        assert policy != Augmentation(rotation=11, zoom=1)
        with pytest.raises(FrozenInstanceError):
            policy.zoom = 2.0

    def test_serves_as_a_parameter_in_scikit_learn(self):
        class Classifier(BaseEstimator):
            def __init__(self, augmentation=None):
                self.augmentation = augmentation

            def fit(self, X, y):
                return self

            def score(self, X, y):
                return resolve_augmentation(self.augmentation).rotation

        assert clone(Classifier(EVERYTHING)).augmentation == EVERYTHING
        grid = {"augmentation": ["light", "strong", Augmentation(rotation=7)]}
        assert len(ParameterGrid(grid)) == 3
        search = GridSearchCV(Classifier(), grid, cv=2).fit(np.zeros((8, 1)), np.zeros(8))
        assert search.best_params_ == {"augmentation": "strong"}

    def test_identity(self):
        assert STILL.identity
        assert Augmentation(flip="none", fill_mode="reflect").identity
        assert not Augmentation().identity
        assert not replace(STILL, speckle=0.1).identity

    def test_resolving(self):
        assert resolve_augmentation(None) is None
        assert resolve_augmentation("strong") is PRESETS["strong"]
        assert resolve_augmentation(EVERYTHING) is EVERYTHING
        for wrong in ("heavy", 3, True, ["light"], Augmentation):
            with pytest.raises(ValueError, match="'light', 'strong', or an Augmentation") as error:
                resolve_augmentation(wrong)
            assert repr(wrong) in str(error.value)

    def test_presets_never_turn_depth_upside_down(self):
        for policy in PRESETS.values():
            assert policy.flip == "horizontal"
            assert not policy.draw(500, np.random.default_rng(0)).flips[:, 0].any()
        light, strong = PRESETS["light"], PRESETS["strong"]
        for name in ("shift", "rotation", "zoom", "brightness", "contrast", "gamma", "speckle"):
            assert getattr(light, name) <= getattr(strong, name)

    def test_declaring_drawing_and_flipping_need_no_keras(self):
        code = (
            "import pickle, sys, numpy as np\n"
            "from hybridus.inputs.augmentation import Augmentation\n"
            "policy = pickle.loads(pickle.dumps(Augmentation()))\n"
            "drawn = policy.draw(4, np.random.default_rng(0))\n"
            "drawn.images(np.zeros((4, 8, 8, 1), np.uint8))\n"
            "print([name for name in ('keras', 'tensorflow') if name in sys.modules])\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == "[]"


class TestDrawing:
    def test_parameters_fill_their_ranges_and_keep_to_them(self):
        drawn = EVERYTHING.draw(4000, np.random.default_rng(0))
        assert len(drawn) == 4000
        for values, largest in [
            (drawn.shifts[:, 0], 0.2),
            (drawn.shifts[:, 1], 0.2),
            (drawn.rotations, 40),
            (drawn.brightnesses, 0.2),
            (np.log(drawn.scales), np.log(1.5)),
            (np.log(drawn.contrasts), np.log(1.5)),
            (np.log(drawn.gammas), np.log(1.5)),
        ]:
            assert np.abs(values).max() <= largest * (1 + 1e-12)
            assert values.max() > 0.99 * largest
            assert values.min() < -0.99 * largest
            # Uniform: mean 0 and standard deviation largest / sqrt(3).
            assert abs(values.mean()) < 0.04 * largest
            assert values.std() == pytest.approx(largest / np.sqrt(3), rel=0.04)
        np.testing.assert_allclose(drawn.flips.mean(axis=0), 0.5, atol=0.03)
        np.testing.assert_array_equal(drawn.speckles, 0.2)
        assert len(np.unique(drawn.seeds)) == 4000
        columns = np.column_stack([getattr(drawn, name) for name in ARRAYS if name != "speckles"])
        correlations = np.corrcoef(columns.astype(float), rowvar=False)
        assert np.abs(correlations - np.eye(len(correlations))).max() < 0.06

    @pytest.mark.parametrize(
        ("flip", "vertical", "horizontal"),
        [("none", 0, 0), ("horizontal", 0, 1), ("vertical", 1, 0), ("both", 1, 1)],
    )
    def test_flips_are_drawn_along_the_axes_asked_for(self, flip, vertical, horizontal):
        flips = Augmentation(flip=flip).draw(200, np.random.default_rng(0)).flips
        np.testing.assert_array_equal(flips.any(axis=0), [vertical, horizontal])

    def test_the_seed_decides(self):
        drawn = EVERYTHING.draw(6, np.random.default_rng(3))
        assert_same(drawn, EVERYTHING.draw(6, np.random.default_rng(3)))
        assert (drawn.rotations != EVERYTHING.draw(6, np.random.default_rng(4)).rotations).all()

    def test_drawing_in_two_goes_is_drawing_at_once(self):
        rng = np.random.default_rng(3)
        parts = [EVERYTHING.draw(n, rng) for n in (4, 0, 2)]
        assert_same(Transforms.concatenate(parts), EVERYTHING.draw(6, np.random.default_rng(3)))

    def test_later_changes_leave_what_was_drawn_before(self):
        """So that stored views and the figures of fits stay what they were."""
        before = Augmentation(rotation=10, speckle=0.1)
        later = replace(before, aspect=0.3, gain=1, resolution=3)
        one = before.draw(200, np.random.default_rng(0))
        other = later.draw(200, np.random.default_rng(0))
        for name in set(ARRAYS) - {"aspects", "gains", "coarsenesses"}:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for values, low, high in (
            (other.aspects, 1 / 1.3, 1.3),
            (other.gains, 0.5, 2),
            (other.coarsenesses, 1, 4),
        ):
            assert low <= values.min() < low * 1.05
            assert high / 1.05 < values.max() <= high
        assert abs(np.corrcoef(np.log(other.aspects), np.log(other.gains))[0, 1]) < 0.2

    def test_a_stronger_policy_makes_the_same_choices(self):
        weak = Augmentation(rotation=10).draw(20, np.random.default_rng(0))
        strong = Augmentation(rotation=30, zoom=0.5).draw(20, np.random.default_rng(0))
        np.testing.assert_allclose(strong.rotations, 3 * weak.rotations)
        np.testing.assert_array_equal(strong.flips, weak.flips)


class TestViews:
    def test_view_0_is_the_image_itself(self, batch):
        first = EVERYTHING.view(b"scan", 0)
        np.testing.assert_array_equal(first.images(batch[:1]), batch[:1].astype(np.float32))
        beyond_the_scale = np.float32([[[[300.5], [1.25]]]])
        np.testing.assert_array_equal(first.images(beyond_the_scale), beyond_the_scale)
        np.testing.assert_array_equal(first.masks(batch[:1] > 90), batch[:1] > 90)

    def test_views_of_other_numbers_and_keys_differ(self):
        views = [EVERYTHING.view(key, i) for key in (b"", b"a", b"b") for i in range(1, 40)]
        joined = Transforms.concatenate(views)
        assert len(np.unique(joined.rotations)) == len(views)
        assert len(np.unique(joined.seeds)) == len(views)
        assert joined.rotations.max() > 35
        assert joined.rotations.min() < -35
        assert_same(EVERYTHING.view(b"a", 7), EVERYTHING.view(b"a", np.int64(7)))

    @pytest.mark.slow
    def test_views_are_the_same_in_another_process(self, batch, another_process):
        view, images = another_process(viewed, EVERYTHING, batch[:1])
        here = EVERYTHING.view(b"scan 17", 5)
        assert_same(view, here)
        np.testing.assert_array_equal(images, here.images(batch[:1]))

    def test_views_stay_what_they_were_when_they_were_stored(self):
        view = EVERYTHING.view(b"scan 17", 5)
        np.testing.assert_array_equal(view.flips, [[False, False]])
        np.testing.assert_allclose(view.rotations, 26.97834227318541, rtol=1e-12)
        np.testing.assert_allclose(view.scales, 1.1222891660965977, rtol=1e-12)
        assert view.seeds.tolist() == [174441060522301]

    def test_what_is_no_key_or_number_is_refused(self):
        with pytest.raises(ValueError, match="number=-1"):
            EVERYTHING.view(b"a", -1)
        with pytest.raises(TypeError, match="key='a': expected bytes, got str"):
            EVERYTHING.view("a", 1)
        with pytest.raises(TypeError, match="float"):
            EVERYTHING.view(b"a", 1.5)


class TestGeometry:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("size", [(24, 24), (9, 14)])
    def test_flips_are_exact(self, batch, dtype, size):
        batch = batch[:, : size[0], : size[1]].astype(dtype)
        horizontal = transforms(5, flips=[False, True]).images(batch)
        np.testing.assert_array_equal(horizontal, batch[:, :, ::-1])
        assert horizontal.dtype == np.float32
        vertical = transforms(5, flips=[True, False]).images(batch)
        np.testing.assert_array_equal(vertical, batch[:, ::-1])
        both = transforms(5, flips=[True, True]).images(batch)
        np.testing.assert_array_equal(both, batch[:, ::-1, ::-1])

    @pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
    @pytest.mark.parametrize("size", [(24, 24), (9, 14)])
    def test_interpolated_flips_agree_with_exact_ones(self, batch, size, fill_mode):
        batch = batch[:, : size[0], : size[1]]
        nearly = transforms(5, fill_mode, flips=[True, True], rotations=1e-9).images(batch)
        np.testing.assert_allclose(nearly, batch[:, ::-1, ::-1], atol=1e-2)

    @pytest.mark.parametrize("quarter_turns", [1, 2, -1])
    @pytest.mark.parametrize("size", [16, 17])
    def test_quarter_turns_are_exact_and_counter_clockwise(self, batch, quarter_turns, size):
        square = batch[:, :size, :size]
        turned = transforms(5, rotations=90.0 * quarter_turns).images(square)
        np.testing.assert_allclose(turned, np.rot90(square, quarter_turns, axes=(1, 2)), atol=1e-2)

    def test_an_image_is_flipped_before_it_is_turned(self, batch):
        turned = transforms(5, flips=[False, True], rotations=90.0).images(batch)
        np.testing.assert_allclose(turned, np.rot90(batch[:, :, ::-1], axes=(1, 2)), atol=1e-2)

    def test_shifts_are_fractions_down_and_to_the_right(self, batch):
        batch = batch[:, :, :12]
        shifted = transforms(5, shifts=[3 / 24, 2 / 12]).images(batch)
        np.testing.assert_allclose(shifted[:, 3:, 2:], batch[:, :-3, :-2], atol=1e-2)
        assert not shifted[:, :3].any()
        assert not shifted[:, :, :2].any()

    def test_half_a_pixel_averages_neighbours(self, batch):
        shifted = transforms(5, shifts=[0, 0.5 / 24]).images(batch)
        pixels = batch.astype(float)
        mean = (pixels[:, :, 1:] + pixels[:, :, :-1]) / 2
        np.testing.assert_allclose(shifted[:, :, 1:], mean, atol=1e-2)

    def test_scale_above_1_enlarges_about_the_centre(self):
        square = np.zeros((1, 64, 64, 1), np.uint8)
        square[:, 24:40, 24:40] = 255
        enlarged = transforms(scales=2.0).images(square)[0, ..., 0] > 127
        np.testing.assert_array_equal(np.flatnonzero(enlarged.any(axis=0)), np.arange(16, 48))
        np.testing.assert_array_equal(np.flatnonzero(enlarged.any(axis=1)), np.arange(16, 48))
        reduced = transforms(scales=0.5).images(square)[0, ..., 0] > 127
        np.testing.assert_array_equal(np.flatnonzero(reduced.any(axis=0)), np.arange(28, 36))

    def test_aspect_above_1_widens_and_flattens(self):
        square = np.zeros((1, 64, 64, 1), np.uint8)
        square[:, 24:40, 24:40] = 255
        wider = transforms(aspects=4.0).images(square)[0, ..., 0] > 127
        np.testing.assert_array_equal(np.flatnonzero(wider.any(axis=0)), np.arange(16, 48))
        np.testing.assert_array_equal(np.flatnonzero(wider.any(axis=1)), np.arange(28, 36))

    @pytest.mark.parametrize(
        ("fill_mode", "left"),
        [("constant", [0, 0, 0]), ("nearest", [10, 10, 10]), ("reflect", [30, 20, 10])],
    )
    def test_fill_modes(self, fill_mode, left):
        row = np.arange(10, 90, 10, dtype=np.float32)
        image = np.broadcast_to(row[:, np.newaxis], (1, 8, 8, 1))
        shifted = transforms(1, fill_mode, shifts=[0, 3 / 8]).images(image)
        np.testing.assert_allclose(shifted[0, 4, :, 0], [*left, *row[:5]], atol=1e-3)

    def test_constant_fill_stays_black_whatever_becomes_of_the_grey_values(self):
        image = np.full((1, 16, 16, 1), 100, np.uint8)
        changed = transforms(
            shifts=[0, 0.25], contrasts=0.5, brightnesses=0.2, gammas=0.7, speckles=0.1
        ).images(image)
        assert not changed[:, :, :4].any()
        assert changed[:, :, 4:].min() > 100

    def test_colours_move_alike(self, batch):
        drawn = EVERYTHING.draw(5, np.random.default_rng(0))
        grey = drawn.images(batch)
        colour = drawn.images(np.repeat(batch, 3, axis=3))
        np.testing.assert_allclose(colour, np.repeat(grey, 3, axis=3), atol=1e-2)


class TestMasks:
    @pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
    def test_masks_move_with_their_images(self, lesion, fill_mode):
        mask = np.asarray(Image.fromarray(lesion).resize((128, 128)))
        policy = replace(GEOMETRY, fill_mode=fill_mode)
        drawn = policy.draw(32, np.random.default_rng(0))
        masks = np.repeat(mask[np.newaxis, ..., np.newaxis], 32, axis=0)
        moved = drawn.masks(masks)
        assert moved.dtype == np.uint8
        assert set(np.unique(moved)) == {0, 1}
        np.testing.assert_array_equal(moved, drawn.images(masks * np.uint8(255)) >= 127.5)

    def test_sizes_of_image_and_mask_may_differ(self):
        y, x = np.mgrid[:128, :128]
        image = ((y - 50) ** 2 + (x - 80) ** 2 < 20**2).astype(np.uint8)
        mask = image.reshape(64, 2, 64, 2).mean(axis=(1, 3)) >= 0.5
        wide = image.reshape(128, 64, 2).mean(axis=2) >= 0.5
        drawn = replace(GEOMETRY, shift=0.1).draw(40, np.random.default_rng(2))
        moved = drawn.images(np.broadcast_to(255 * image[..., np.newaxis], (40, 128, 128, 1))) > 127
        for small in (mask, wide):
            followed = drawn.masks(np.broadcast_to(small, (40, *small.shape)))
            assert followed.shape == (40, *small.shape)
            for large_one, small_one in zip(moved[..., 0], followed, strict=True):
                centre = (np.argwhere(large_one).mean(axis=0) + 0.5) / 128
                other = (np.argwhere(small_one).mean(axis=0) + 0.5) / small.shape
                assert np.abs(centre - other).max() * 128 < 1
                assert small_one.mean() == pytest.approx(large_one.mean(), rel=0.06)

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(5, 24, 24), (5, 24, 24, 1)])
    def test_type_and_shape(self, batch, dtype, shape):
        drawn = EVERYTHING.draw(5, np.random.default_rng(0))
        masks = (batch > 100).reshape(shape)
        expected = drawn.masks(masks)
        np.testing.assert_array_equal(drawn.masks(masks.astype(dtype)), expected)
        assert expected.dtype == np.uint8
        assert expected.shape == shape
        if dtype is not bool:
            np.testing.assert_array_equal(drawn.masks(masks.astype(dtype) * 255), expected)

    def test_beyond_the_border_lies_no_lesion_unless_the_image_goes_on(self):
        everywhere = np.ones((1, 8, 8), np.uint8)
        for fill_mode, lesion in [("constant", 0), ("nearest", 1), ("reflect", 1)]:
            shifted = transforms(1, fill_mode, shifts=[0, 0.5]).masks(everywhere)
            assert (shifted[:, :, :4] == lesion).all()
            assert (shifted[:, :, 4:] == 1).all()

    def test_a_pixel_covered_by_half_is_lesion(self):
        mask = np.tile(np.array([0, 0, 1, 1, 0, 0, 0, 0], np.uint8), (1, 8, 1))
        moved = transforms(shifts=[0, 0.5 / 8]).masks(mask)
        np.testing.assert_array_equal(moved[0, 4], [0, 0, 1, 1, 1, 0, 0, 0])

    def test_grey_values_do_not_touch_masks(self, batch):
        drawn = EVERYTHING.draw(5, np.random.default_rng(0))
        still = GEOMETRY.draw(5, np.random.default_rng(0))
        np.testing.assert_array_equal(drawn.masks(batch > 99), still.masks(batch > 99))


class TestGreyValues:
    def test_brightness_is_an_offset_in_fractions_of_full_scale(self, batch):
        brighter = transforms(5, brightnesses=0.1).images(batch)
        np.testing.assert_allclose(brighter, np.minimum(batch + 25.5, 255), atol=1e-4)
        darker = transforms(5, brightnesses=-0.1).images(batch)
        np.testing.assert_allclose(darker, np.maximum(batch - 25.5, 0), atol=1e-4)

    def test_contrast_is_about_the_mean_of_the_image(self, batch):
        mean = batch.mean(axis=(1, 2, 3), keepdims=True)
        for factor in (0.5, 1.6):
            changed = transforms(5, contrasts=factor).images(batch)
            expected = np.clip(mean + factor * (batch - mean), 0, 255)
            np.testing.assert_allclose(changed, expected, atol=1e-3)

    def test_gamma_above_1_darkens(self, batch):
        darker = transforms(5, gammas=2.0).images(batch)
        np.testing.assert_allclose(darker, 255 * (batch / 255) ** 2, atol=1e-3)
        lighter = transforms(5, gammas=0.5).images(batch)
        np.testing.assert_allclose(lighter, 255 * (batch / 255) ** 0.5, atol=1e-3)
        assert darker.mean() < batch.mean() < lighter.mean()

    def test_contrast_then_brightness_then_gamma(self, batch):
        changed = transforms(5, contrasts=1.4, brightnesses=-0.1, gammas=0.8).images(batch)
        mean = batch.mean(axis=(1, 2, 3), keepdims=True)
        expected = np.clip(mean + 1.4 * (batch - mean) - 25.5, 0, 255)
        np.testing.assert_allclose(changed, 255 * (expected / 255) ** 0.8, atol=1e-2)

    def test_gain_is_a_factor_and_clips(self, batch):
        changed = transforms(5, gains=1.5).images(batch)
        np.testing.assert_allclose(changed, np.minimum(batch * 1.5, 255), rtol=1e-6)

    def test_resolution_takes_fine_detail_and_keeps_the_rest(self):
        columns = np.indices((64, 64))[1]
        fine = np.where(columns % 2, 255, 0).astype(np.uint8)
        coarse = np.where(columns // 16 % 2, 255, 0).astype(np.uint8)
        batch = np.stack([fine, coarse])[..., np.newaxis]
        changed = transforms(2, coarsenesses=4.0).images(batch)[..., 0]
        assert np.ptp(changed[0]) < 30
        assert np.abs(changed[1] - coarse)[:, 4:12].max() < 15  # half way between pixels
        still = transforms(2, coarsenesses=1.0).images(batch)
        np.testing.assert_array_equal(still, batch)
        colours = transforms(1, coarsenesses=4.0).images(np.stack([coarse] * 3, -1)[np.newaxis])
        np.testing.assert_allclose(colours[0, ..., 1], changed[1], atol=1e-3)

    def test_speckle_is_multiplicative(self):
        images = np.full((2, 200, 200, 3), 100, np.uint8)
        images[1] = 50
        noisy = transforms(2, speckles=0.2, seeds=np.array([1, 2])).images(images)
        for pixels, level in zip(noisy, (100, 50), strict=True):
            assert pixels.mean() == pytest.approx(level, rel=0.005)
            assert pixels.std() == pytest.approx(0.2 * level, rel=0.02)
            np.testing.assert_array_equal(pixels, pixels[..., :1].repeat(3, axis=2))
            grain = pixels[..., 0] - level
            assert abs((grain[:, 1:] * grain[:, :-1]).mean() / grain.var()) < 0.02
        assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.02
        assert not transforms(2, speckles=0.2).images(np.zeros_like(images)).any()

    def test_results_stay_on_the_scale(self, batch):
        policy = replace(EVERYTHING, brightness=1, contrast=5, gamma=3, speckle=1)
        batch = np.repeat(batch, 20, axis=0)
        changed = policy.draw(100, np.random.default_rng(0)).images(batch)
        assert changed.min() == 0
        assert changed.max() == 255
        unclipped = batch.astype(np.float32) * 1.5
        assert transforms(100, speckles=0.01).images(unclipped).max() == 255


class TestTransforms:
    def test_an_image_does_not_depend_on_its_place_in_the_batch(self, batch):
        drawn = Transforms.concatenate(
            [EVERYTHING.view(b"a", 0), EVERYTHING.draw(3, np.random.default_rng(0)), transforms()]
        )
        images = drawn.images(batch)
        np.testing.assert_array_equal(images[0], batch[0])
        np.testing.assert_array_equal(images[4], batch[4])
        order = np.array([3, 1, 4, 0])
        np.testing.assert_array_equal(drawn[order].images(batch[order]), images[order])
        for i in range(5):
            np.testing.assert_array_equal(drawn[i].images(batch[i : i + 1]), images[i : i + 1])

    @given(st.lists(st.integers(-7, 6), max_size=10), st.integers(0, 7), st.integers(0, 7))
    @settings(max_examples=30, deadline=None)
    def test_index_and_concatenate_are_those_of_arrays(self, index, start, stop):
        drawn = EVERYTHING.draw(7, np.random.default_rng(0))
        keep = drawn.rotations > 0
        for rows in (index, np.array(index, int), slice(start, stop), keep):
            part = drawn[rows]
            assert len(part) == len(drawn.rotations[rows])
            for name in ARRAYS:
                np.testing.assert_array_equal(getattr(part, name), getattr(drawn, name)[rows])
        assert_same(Transforms.concatenate([drawn[:start], drawn[start:]]), drawn)

    def test_iterating_gives_the_transforms_of_each_image(self):
        drawn = EVERYTHING.draw(3, np.random.default_rng(0))
        assert [len(one) for one in drawn] == [1, 1, 1]
        assert_same(Transforms.concatenate(list(drawn)), drawn)
        with pytest.raises(IndexError):
            drawn[3]

    def test_transforms_of_different_fill_modes_cannot_be_joined(self):
        with pytest.raises(ValueError, match=r"\['constant', 'nearest'\]: expected exactly one"):
            Transforms.concatenate([transforms(), transforms(1, "nearest")])
        with pytest.raises(ValueError, match=r"fill modes \[\]"):
            Transforms.concatenate([])

    def test_pickled_transforms_do_the_same(self, batch):
        drawn = EVERYTHING.draw(5, np.random.default_rng(0))
        again = pickle.loads(pickle.dumps(drawn))
        assert_same(again, drawn)
        np.testing.assert_array_equal(again.images(batch), drawn.images(batch))

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("policy", [STILL, Augmentation(), EVERYTHING], ids=repr)
    def test_the_callers_array_is_never_written_to(self, batch, dtype, policy):
        batch = batch.astype(dtype)
        before = batch.copy()
        batch.setflags(write=False)
        drawn = policy.draw(5, np.random.default_rng(0))
        images, masks = drawn.images(batch), drawn.masks(batch)
        images += 1
        masks += 1
        np.testing.assert_array_equal(batch, before)

    def test_views_into_larger_arrays_are_taken(self, batch):
        drawn = EVERYTHING.draw(5, np.random.default_rng(0))
        strided = batch[:, ::-2, ::2]
        np.testing.assert_array_equal(drawn.images(strided), drawn.images(strided.copy()))

    def test_an_empty_batch_is_taken(self):
        none = EVERYTHING.draw(0, np.random.default_rng(0))
        assert none.images(np.zeros((0, 8, 8, 1), np.uint8)).shape == (0, 8, 8, 1)
        assert none.masks(np.zeros((0, 8, 8))).shape == (0, 8, 8)

    def test_wrong_batches_are_refused(self, batch):
        drawn = EVERYTHING.draw(5, np.random.default_rng(0))
        with pytest.raises(ValueError, match=r"length 4: expected 5"):
            drawn.images(batch[:4])
        with pytest.raises(ValueError, match=r"length 4: expected 5"):
            drawn.masks(batch[:4])
        with pytest.raises(ValueError, match=r"\(5, 24, 24\): expected \(n, H, W, 1 or 3\)"):
            drawn.images(batch[..., 0])
        with pytest.raises(ValueError, match=r"\(5, 24, 24, 2\)"):
            drawn.images(np.repeat(batch, 2, axis=3))
        for dtype in (np.int64, np.uint16, bool):
            with pytest.raises(ValueError, match=f"{np.dtype(dtype)}: expected uint8 or float"):
                drawn.images(batch.astype(dtype))
        with pytest.raises(ValueError, match=r"\(5, 24, 24, 3\): expected \(n, H, W\)"):
            drawn.masks(np.repeat(batch, 3, axis=3))

    def test_keras_settings_of_the_user_do_not_matter(self, batch):
        from hybridus._keras import keras

        drawn = EVERYTHING.draw(5, np.random.default_rng(0))
        expected = drawn.images(batch)
        layout, floats = keras.config.image_data_format(), keras.config.floatx()
        try:
            keras.config.set_image_data_format("channels_first")
            keras.config.set_floatx("float16")
            np.testing.assert_array_equal(drawn.images(batch), expected)
        finally:
            keras.config.set_image_data_format(layout)
            keras.config.set_floatx(floats)


class TestRealScan:
    @pytest.mark.parametrize(("preset", "least"), [("light", 4), ("strong", 8)])
    def test_presets_visibly_change_a_scan_and_keep_it_a_scan(self, scan, preset, least):
        batch = np.repeat(scan[np.newaxis, ..., np.newaxis], 32, axis=0)
        changed = PRESETS[preset].draw(32, np.random.default_rng(0)).images(batch)
        differences = np.abs(changed - batch).mean(axis=(1, 2, 3))
        assert differences.min() > least
        assert 0.6 * scan.mean() < changed.mean() < 1.4 * scan.mean()
        # Skin and fat above stay lighter than the depth below: nothing is upside down.
        above, below = (
            changed[:, 20:100].mean(axis=(1, 2, 3)),
            changed[:, 180:].mean(axis=(1, 2, 3)),
        )
        assert (above > below).all()

    def test_the_lesion_stays_in_the_picture(self, lesion):
        masks = np.repeat(lesion[np.newaxis], 64, axis=0)
        moved = PRESETS["strong"].draw(64, np.random.default_rng(0)).masks(masks)
        areas = moved.sum(axis=(1, 2)) / lesion.sum()
        assert areas.min() > 0.5
        assert areas.max() < 1.7
