"""Features of the lesion: what is measured, where the masks come from, what is remembered."""

import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline

import hybridus
import hybridus.presets
from hybridus import (
    DeepFeatureExtractor,
    LesionFeatures,
    PixelSegmenter,
    compare,
    make_breast_phantoms,
    make_hybrid_classifier,
)
from hybridus.estimators.lesion.measurements import measure, measurement_names
from hybridus.estimators.lesion.region import cut, find_region, square_around
from hybridus.estimators.lesion.texture import measure_texture
from hybridus.estimators.segmenters.prediction import SegmenterMixin
from hybridus.inputs.images import as_images, content_key
from hybridus.inputs.masks import as_masks
from hybridus.protocol.run import run_fold

NARROW = {"weights": "bundled", "image_size": 32, "layers": ["block_3_expand_relu"]}


def pixels(**parameters):
    settings = {"mask_size": 32, "n_pixels": 60, "random_state": 0} | parameters
    return PixelSegmenter(LogisticRegression(), "basic", **settings)


@pytest.fixture(scope="module")
def phantoms():
    return make_breast_phantoms(24, image_size=48, random_state=0)


@pytest.fixture(scope="module")
def fitted(phantoms):
    lesions = LesionFeatures(
        pixels(), DeepFeatureExtractor("mobilenet_v2_0.35", **NARROW), n_splits=2
    )
    return lesions.fit(phantoms.images, phantoms.target, masks=phantoms.masks)


def ellipse(size, height, width, middle=(0.5, 0.5)):
    rows, columns = np.ogrid[:size, :size]
    down = (rows + 0.5 - middle[0] * size) / height
    across = (columns + 0.5 - middle[1] * size) / width
    return down**2 + across**2 <= 1


def measured(mask, inside=0.2, outside=0.7, image=None):
    if image is None:
        image = np.where(mask, np.float32(inside), np.float32(outside)) * 255
        image = image + np.random.default_rng(0).normal(0, 8, mask.shape).astype(np.float32)
    return measure(find_region(np.clip(image, 0, 255), mask.astype(np.float32), 0.5))


class TestRegions:
    def test_the_component_with_the_most_probability_is_taken_and_filled(self):
        likely = np.zeros((100, 100), np.float32)
        likely[10:20, 10:40] = 0.6  # larger, and less likely
        likely[50:70, 50:70] = 0.9
        likely[58:62, 58:62] = 0.0
        region = find_region(np.zeros((100, 100), np.uint8), likely, 0.5)
        assert region.box == pytest.approx((0.5, 0.5, 0.7, 0.7), abs=0.02)
        assert region.n_components == 2
        assert region.mask[int(0.6 * 256), int(0.6 * 256)]

    def test_below_the_threshold_it_is_where_the_map_is_highest(self):
        likely = np.full((64, 64), 0.01, np.float32)
        likely[40:50, 4:14] = 0.2
        region = find_region(np.zeros((64, 64), np.uint8), likely, 0.5)
        assert not region.found
        assert region.box == pytest.approx((40 / 64, 4 / 64, 50 / 64, 14 / 64), abs=0.04)

    @pytest.mark.parametrize("level", [0.0, 0.3])
    def test_of_a_flat_map_it_is_an_ellipse_in_the_middle(self, level):
        region = find_region(np.zeros((40, 80), np.uint8), np.full((8, 8), level, "f4"), 0.5)
        assert not region.found
        assert region.box == pytest.approx((0.25, 0.25, 0.75, 0.75), abs=0.02)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 2), (500, 90)])
    def test_every_image_has_finite_measurements(self, shape):
        rng = np.random.default_rng(1)
        for likely in (np.zeros(shape, "f4"), np.ones(shape, "f4"), rng.random(shape, "f4")):
            for image in (rng.integers(0, 255, shape, "uint8"), np.zeros((*shape, 3), "uint8")):
                found = measure(find_region(image, likely, 0.5))
                assert tuple(found) == measurement_names()
                assert np.isfinite(list(found.values())).all()

    def test_beyond_the_border_a_crop_is_the_mirror_image(self):
        image = np.arange(12).reshape(3, 4)
        assert (
            cut(image, -1, -2, 4).tolist()
            == np.pad(image, ((1, 0), (2, 0)), "reflect")[:, :4].tolist()
        )
        assert cut(image, -20, -20, 50).shape == (50, 50)

    def test_a_square_lies_around_the_middle_of_the_region(self):
        likely = ellipse(100, 10, 20, middle=(0.4, 0.6)).astype("f4")
        region = find_region(np.zeros((100, 100), np.uint8), likely, 0.5)
        top, left, side = square_around(region, 1.5, (200, 200))
        assert side == pytest.approx(120, abs=4)
        assert (top + side / 2, left + side / 2) == pytest.approx((80, 120), abs=3)


class TestMeasurements:
    def test_a_disc_is_round_and_an_ellipse_is_as_long_as_it_is(self):
        disc, long = measured(ellipse(256, 40, 40)), measured(ellipse(256, 20, 60))
        assert disc["shape2D_Sphericity"] > 0.97
        assert disc["shape2D_Elongation"] > 0.97
        assert long["shape2D_Elongation"] == pytest.approx(1 / 3, abs=0.02)
        assert disc["shape_Area"] == pytest.approx(np.log(np.pi * 40**2 / 256**2), abs=0.02)
        assert disc["shape_Solidity"] > 0.97

    def test_upright_lesions_are_taller_than_wide(self):
        lying, upright = measured(ellipse(256, 20, 60)), measured(ellipse(256, 60, 20))
        assert lying["shape_TallerThanWide"] == pytest.approx(-np.log(3), abs=0.05)
        assert upright["shape_TallerThanWide"] == pytest.approx(np.log(3), abs=0.05)
        assert lying["shape_Upright"] < -0.5 < 0.5 < upright["shape_Upright"]

    def test_lobes_and_spikes_are_told_apart(self):
        def star(waves):
            rows, columns = np.mgrid[:256, :256] - 128
            angle = np.arctan2(rows, columns)
            return np.hypot(rows, columns) < 60 * (1 + 0.15 * np.cos(waves * angle))

        disc, lobes, spikes = (measured(star(k) if k else ellipse(256, 60, 60)) for k in (0, 5, 16))
        assert lobes["shape_Lobulation"] > 5 * spikes["shape_Lobulation"]
        assert spikes["shape_Spiculation"] > 5 * lobes["shape_Spiculation"]
        assert disc["shape_Roughness"] < lobes["shape_Roughness"] < spikes["shape_Roughness"]
        assert disc["shape_FractalDimension"] < spikes["shape_FractalDimension"]

    def test_resolution_changes_little(self):
        fine, coarse = measured(ellipse(512, 100, 60)), measured(ellipse(128, 25, 15))
        for name in measurement_names():
            if name.startswith("shape"):
                assert fine[name] == pytest.approx(coarse[name], abs=0.06), name

    @pytest.mark.parametrize("curve", [lambda x: 0.4 * x + 0.1, lambda x: x**1.7, np.sqrt])
    def test_gain_and_gamma_change_nothing(self, curve):
        mask = ellipse(128, 25, 18)
        image = np.random.default_rng(0).random((256, 256)).astype(np.float64) * 0.8 + 0.1
        image[ellipse(256, 50, 36)] *= 0.4
        plain = measured(mask, image=(image * 255).astype("f4"))
        changed = measured(mask, image=(curve(image) * 255).astype("f4"))
        for name in measurement_names():
            assert changed[name] == pytest.approx(plain[name], abs=1e-4), name

    def test_what_lies_behind_is_a_shadow_or_enhancement(self):
        mask = ellipse(256, 30, 30, middle=(0.4, 0.5))
        rng = np.random.default_rng(0)
        image = 120 + rng.normal(0, 10, (256, 256))
        shadow, bright = image.copy(), image.copy()
        shadow[140:, 105:151] -= 60
        bright[140:, 105:151] += 60
        level = measured(mask, image=image.astype("f4"))["behind_Enhancement"]
        assert measured(mask, image=shadow.astype("f4"))["behind_Enhancement"] < -0.3
        assert measured(mask, image=bright.astype("f4"))["behind_Enhancement"] > 0.3
        assert abs(level) < 0.1
        deep = measured(ellipse(256, 30, 30, middle=(0.88, 0.5)))
        assert deep["behind_Reach"] == deep["behind_Enhancement"] == 0

    def test_a_sharp_margin_is_told_from_a_blurred_one(self):
        from scipy.ndimage import gaussian_filter

        mask = ellipse(256, 40, 40)
        image = np.where(mask, 40.0, 180.0) + np.random.default_rng(0).normal(0, 5, mask.shape)
        sharp = measured(mask, image=image.astype("f4"))
        blurred = measured(mask, image=gaussian_filter(image, 12).astype("f4"))
        gone = measured(mask, image=np.random.default_rng(0).random((256, 256)).astype("f4") * 255)
        assert sharp["margin_Gradient"] > blurred["margin_Gradient"] > gone["margin_Gradient"]
        assert gone["margin_ShareWithoutStep"] > 0.8 > 0.1 > sharp["margin_ShareWithoutStep"]

    def test_texture_is_what_pyradiomics_defines(self):
        ranks = np.random.default_rng(0).random((12, 12)).astype("f4")
        found = measure_texture(ranks, np.ones((12, 12), bool))
        levels = np.floor(ranks * 16).astype(int)
        contrast = []
        for down, across in ((0, 1), (1, 1), (1, 0), (1, -1)):
            here = levels[: 12 - down, max(0, -across) : 12 - max(0, across)]
            there = levels[down:, max(0, across) : 12 + min(0, across)]
            contrast.append(((here - there) ** 2).mean())
        assert found["glcm_Contrast_1"] == pytest.approx(np.mean(contrast))
        assert sum(found[f"lbp_1_{k}"] for k in range(10)) == pytest.approx(1)

    def test_texture_is_that_inside_alone(self):
        inside = ellipse(64, 20, 20)
        ranks = np.random.default_rng(0).random((64, 64)).astype("f4")
        other = np.where(inside, ranks, 0.99).astype("f4")
        plain, changed = measure_texture(ranks, inside), measure_texture(other, inside)
        assert {k: v for k, v in plain.items() if "glcm" in k} == pytest.approx(
            {k: v for k, v in changed.items() if "glcm" in k}
        )


class Memory(SegmenterMixin, BaseEstimator):
    """Segmenter that knows by heart the masks it was given, and finds nothing elsewhere."""

    def __init__(self):
        self.image_shape = self.value_range = None
        self.output_size, self.postprocess = "input", None

    def fit(self, X, masks, groups=None):
        self.by_heart_ = {
            content_key(image).hex(): mask
            for image, mask in zip(as_images(X), as_masks(masks), strict=True)
        }
        self.mask_size_, self.resize_, self.threshold_ = (48, 48), "stretch", 0.5
        return self

    def _probability_maps(self, images):
        blank = np.zeros(self.mask_size_, np.float32)
        for i in range(len(images)):
            yield self.by_heart_.get(content_key(images[i]).hex(), blank).astype(np.float32)


class TestWhereMasksComeFrom:
    def test_images_of_training_get_masks_of_segmenters_that_did_not_see_them(self, phantoms):
        lesions = LesionFeatures(Memory(), n_splits=3, cache=False)
        rows = lesions.fit(phantoms.images, phantoms.target, masks=phantoms.masks).transform(
            phantoms.images
        )
        assert not lesions.trained_maps_.any()
        assert not rows[:, 0].any()  # found_Lesion
        # A frozen one is used as it is: here it knows all, so the check above can fail.
        known = FrozenEstimator(Memory().fit(phantoms.images, phantoms.masks))
        assert LesionFeatures(known, cache=False).fit_transform(phantoms.images)[:, 0].any()

    def test_twins_stay_in_one_part(self, phantoms):
        twice = np.concatenate([phantoms.images, phantoms.images])
        masks, groups = np.tile(phantoms.masks, (2, 1, 1)), np.tile(np.arange(24), 2)
        lesions = LesionFeatures(Memory(), n_splits=3, cache=False)
        lesions.fit(twice, np.tile(phantoms.target, 2), masks=masks, groups=groups)
        assert not lesions.trained_maps_.any()
        lesions.fit(twice, np.tile(phantoms.target, 2), masks=masks)
        assert lesions.trained_maps_.any()  # so that the check above can fail

    def test_masks_of_what_is_tested_are_never_seen(self, phantoms):
        """Masks that give the class away teach nothing of images whose masks nobody may see."""
        rng = np.random.default_rng(0)
        images, y = rng.random((20, 24, 24)), np.arange(20) % 2
        masks = np.zeros((20, 24, 24), bool)
        masks[y == 0, 2:8, 2:8] = masks[y == 1, 4:20, 4:20] = True
        train, test = np.arange(14), np.arange(14, 20)
        pipe = make_hybrid_classifier(
            "mobilenet_v2_0.35", "logreg", lesion=pixels(mask_size=24), whole_image=False, **NARROW
        )
        hidden = masks.copy()
        hidden[test] = False
        said = [
            run_fold(pipe, images, y, (train, test), masks=given).decisions
            for given in (masks, hidden)
        ]
        np.testing.assert_array_equal(*said)
        shown = masks.copy()
        shown[train] = False
        shown[train, 3:5, 3:5] = True
        other = run_fold(pipe, images, y, (train, test), masks=shown).decisions
        assert not np.array_equal(other, said[0])  # those of the training part do count


class TestEstimator:
    def test_fit_and_transform_are_fit_transform(self, fitted, phantoms):
        again = clone(fitted).fit_transform(phantoms.images, phantoms.target, masks=phantoms.masks)
        np.testing.assert_array_equal(again, fitted.transform(phantoms.images))

    def test_rows_depend_on_the_image_alone(self, fitted, phantoms):
        rows = fitted.transform(phantoms.images)
        new = make_breast_phantoms(40, image_size=48, random_state=7).images
        of_new = fitted.transform(new)
        np.testing.assert_array_equal(fitted.transform(new[[33, 2]]), of_new[[33, 2]])
        np.testing.assert_array_equal(fitted.transform(list(phantoms.images[5:6])), rows[5:6])
        uncached = clone(fitted).set_params(cache=False, extractor__cache=False)
        uncached.fit(phantoms.images, phantoms.target, masks=phantoms.masks)
        np.testing.assert_array_equal(uncached.transform(new), of_new)

    def test_names_and_columns_agree(self, fitted, phantoms):
        names = list(fitted.get_feature_names_out())
        rows = fitted.transform(phantoms.images[:2])
        assert rows.shape == (2, len(names))
        assert rows.dtype == np.float32
        assert names[: len(measurement_names())] == list(measurement_names())
        assert names[-1].startswith("crop2.5_mobilenet_v2_0.35_block_3")
        assert len(set(names)) == len(names)

    def test_mirrored_views_are_averaged(self, phantoms):
        known = FrozenEstimator(Memory().fit(phantoms.images, phantoms.masks))
        extractor = DeepFeatureExtractor("mobilenet_v2_0.35", **NARROW)
        settings = {"contexts": [1.5], "measurements": False, "stretched": False}
        one, both = (
            LesionFeatures(known, extractor, mirrored=mirrored, **settings).fit(phantoms.images)
            for mirrored in (False, True)
        )
        image = phantoms.images[int(np.flatnonzero(phantoms.target == 2)[0])]
        region = next(one.regions(image[None]))
        crop = cut(as_images(image[None])[0], *square_around(region, 1.5, image.shape))
        seen = DeepFeatureExtractor("mobilenet_v2_0.35", **NARROW).fit_transform(
            np.stack([crop, crop[:, ::-1]])
        )
        np.testing.assert_allclose(one.transform(image[None]), seen[:1], rtol=1e-6)
        np.testing.assert_allclose(both.transform(image[None])[0], seen.mean(0), rtol=1e-5)

    def test_gain_changes_crops_little_where_they_are_stretched(self, phantoms):
        extractor = DeepFeatureExtractor("mobilenet_v2_0.35", **NARROW)
        images = as_images(phantoms.images)
        darker = [(images[i] * 0.6).astype("f4") / 255 for i in range(6)]
        plain = [images[i].astype("f4") / 255 for i in range(6)]
        masks = [*phantoms.masks[:6]] * 2
        known = FrozenEstimator(Memory().fit(plain + darker, masks))
        change = {}
        for stretched in (False, True):
            lesions = LesionFeatures(known, extractor, measurements=False, stretched=stretched)
            lesions.fit(phantoms.images)
            rows, other = lesions.transform(plain), lesions.transform(darker)
            change[stretched] = np.abs(rows - other).mean()
        assert change[True] < 0.1 * change[False]

    def test_files_and_images_of_many_sizes(self, tmp_path, phantoms):
        from PIL import Image

        folder = tmp_path / "scans (new)"
        folder.mkdir()
        paths, masks = [], []
        for i in range(8):
            size = (40 + 3 * i, 64)
            for kind, picture in (("scan", phantoms.images[i]), ("mask", phantoms.masks[i])):
                grey = (np.asarray(picture, float) * 255).astype("uint8")
                Image.fromarray(grey).resize(size, Image.Resampling.NEAREST).save(
                    folder / f"{kind} {i}.png"
                )
            paths.append(folder / f"scan {i}.png")
            masks.append(folder / f"mask {i}.png")
        lesions = LesionFeatures(pixels(), n_splits=2).fit(paths, masks=masks)
        rows = lesions.transform(paths)
        arrays = [np.asarray(Image.open(path)) for path in paths]
        np.testing.assert_array_equal(rows, lesions.transform(arrays))

    def test_copies_answer_alike(self, fitted, phantoms, tmp_path):
        images = phantoms.images[:3]
        rows = fitted.transform(images)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(images), rows)
        hybridus.save(fitted, tmp_path / "lesions.hybridus")
        read = hybridus.load(tmp_path / "lesions.hybridus")
        np.testing.assert_array_equal(read.transform(images), rows)

    def test_what_is_given_is_not_written_to(self, phantoms):
        images, masks = phantoms.images.copy(), phantoms.masks.copy()
        images.flags.writeable = masks.flags.writeable = False
        segmenter = pixels()
        LesionFeatures(segmenter, n_splits=2).fit(images, masks=masks).transform(images)
        assert not hasattr(segmenter, "threshold_")

    @pytest.mark.parametrize(
        ("parameters", "given", "message"),
        [
            ({}, {}, "needs masks: fit"),
            ({"segmenter": LogisticRegression()}, {}, "expected a segmenter of hybridus"),
            ({"contexts": []}, {}, "contexts="),
            ({"contexts": [0.0]}, {}, "contexts="),
            ({"measurements": False}, {}, "leave no feature"),
            ({"n_splits": 1}, {}, "n_splits"),
        ],
    )
    def test_what_cannot_be_is_refused(self, phantoms, parameters, given, message):
        lesions = LesionFeatures(**{"segmenter": pixels()} | parameters)
        with pytest.raises(ValueError, match=message):
            lesions.fit(phantoms.images, phantoms.target, **given)
        assert not hasattr(lesions, "segmenter_")

    def test_preflight_says_what_fit_would(self, phantoms):
        LesionFeatures(pixels()).preflight(phantoms.images)
        wrong = DeepFeatureExtractor("mobilenet_v2_0.35", weights="bundled", layers=["none such"])
        with pytest.raises(ValueError, match="none such"):
            LesionFeatures(pixels(), wrong).preflight(phantoms.images)


class TestHybrids:
    def test_the_lesion_stands_beside_the_whole_image(self):
        both = make_hybrid_classifier(["vgg16", "mobilenet_v2"], lesion=pixels())
        assert list(both["features"].named_transformers) == ["vgg16", "mobilenet_v2", "lesion"]
        one = make_hybrid_classifier("vgg16", lesion=pixels(), layers="last")
        assert one.get_params()["features__lesion__extractor__layers"] == "last"
        alone = make_hybrid_classifier("vgg16", lesion=pixels(), whole_image=False, cache=False)
        assert isinstance(alone["features"], LesionFeatures)
        assert not alone["features"].cache
        with pytest.raises(ValueError, match="nothing to look at"):
            make_hybrid_classifier(whole_image=False)

    def test_scikit_learns_own_tools_hand_masks_on(self, phantoms):
        pipe = make_hybrid_classifier("mobilenet_v2_0.35", "logreg", lesion=pixels(), **NARROW)
        params = {"masks": phantoms.masks, "groups": np.arange(24)}
        search = GridSearchCV(pipe, {"head__C": [0.01]}, cv=2)
        with config_context(enable_metadata_routing=True):
            said = cross_val_predict(
                pipe, phantoms.images, phantoms.target, cv=2, params={"masks": phantoms.masks}
            )
            search.fit(phantoms.images, phantoms.target, masks=params["masks"])
        assert said.shape == (24,)
        assert search.predict(phantoms.images).shape == (24,)

    def test_they_are_compared_in_one_call(self, phantoms):
        models = {
            "lesion": make_hybrid_classifier(
                "mobilenet_v2_0.35", lesion=pixels(), whole_image=False, **NARROW
            ),
            "whole": make_hybrid_classifier("mobilenet_v2_0.35", **NARROW),
        }
        found = compare(
            models,
            phantoms.images,
            phantoms.target,
            groups=np.arange(24),
            masks=phantoms.masks,
            n_splits=2,
            n_jobs=2,
        )
        assert set(found.table.index) == set(models)
        with (
            pytest.warns(FitFailedWarning, match="needs masks"),
            pytest.raises(ValueError, match="needs masks"),
        ):
            compare(
                {"lesion": models["lesion"]},
                phantoms.images,
                phantoms.target,
                groups="independent",
                n_splits=2,
            )

    def test_presets_look_at_lesions(self):
        model = hybridus.make_preset("lesion-logreg", weights="random", random_state=0)
        assert isinstance(model, Pipeline)
        assert model["features"].segmenter.encoder == "mobilenet_v2"
        fusion = hybridus.make_preset("lesion-fusion", weights="random", random_state=0)
        members = dict(fusion.estimators)
        assert list(members) == ["fusion-logreg", "lesion-logreg"]
        assert repr(members["lesion-logreg"]) == repr(model)
        presets = hybridus.presets.PRESETS
        assert presets["lesion-fusion"].learns_lesions
        assert not presets["fusion-logreg"].learns_lesions
        assert set(presets["lesion-fusion"].encoders) == {"vgg16", "mobilenet_v2", "resnet50"}
