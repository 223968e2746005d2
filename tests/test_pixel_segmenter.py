"""`PixelSegmenter`: a classifier of single pixels."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from PIL import Image
from skimage.feature import multiscale_basic_features
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from tiny_images import discs
from tiny_networks import HALVED

from hybridus.estimators.preprocessing import SpeckleFilter
from hybridus.estimators.segmenters import PixelSegmenter, Postprocessing, pixel
from hybridus.inputs.resizing import resize_image
from hybridus.metrics import dice, dice_scorer, iou_scorer

pytestmark = pytest.mark.slow

ON_HALVED = {
    "encoder": HALVED,
    "weights": "random",
    "image_size": 16,
}


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers what it is given; finds a lesion where the first feature is above its mean."""

    def fit(self, X, y, sample_weight=None):
        self.rows_, self.labels_, self.weights_ = X, y, sample_weight
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self.asked_ = X
        lesion = np.clip(0.5 + X[:, 0] / 8, 0, 1)
        return np.stack([1 - lesion, lesion], axis=1)


def basic(estimator=None, **changed):
    """A segmenter that is fitted in a tenth of a second."""
    options = {"features": "basic", "sigma_max": 2, "mask_size": 16, "random_state": 0}
    if estimator is None:
        estimator = LogisticRegression(max_iter=500)
    return PixelSegmenter(estimator, **{**options, **changed})


def recorded(segmenter):
    """Rows that the classifier was trained on, before they were scaled, and their labels."""
    scaler, recorder = segmenter.estimator_[0], segmenter.estimator_[-1]
    return scaler.inverse_transform(recorder.rows_), recorder.labels_


def asked(segmenter, X):
    """Rows of all pixels of each image that the classifier is asked about, before scaling."""
    rows = []
    for image in X:
        segmenter.predict_proba(image[np.newaxis])
        rows.append(segmenter.estimator_[0].inverse_transform(segmenter.estimator_[-1].asked_))
    return np.stack(rows)


@pytest.fixture(scope="module")
def lesions():
    return discs(32)


@pytest.fixture(scope="module")
def unseen():
    return discs(16, seed=1)


@pytest.fixture(scope="module")
def few():
    return discs(8, size=16)


@pytest.fixture(scope="module")
def both(lesions):
    """Features of both kinds, over the bundled encoder."""
    return PixelSegmenter(
        LogisticRegression(C=0.1, max_iter=500),
        features="both",
        sigma_max=4,
        encoder="mobilenet_v2_0.35",
        weights="bundled",
        layers=["block_1_expand_relu", "block_3_expand_relu"],
        image_size=64,
        mask_size=32,
        n_pixels=60,
        random_state=0,
    ).fit(*lesions)


@pytest.fixture
def parts(monkeypatch):
    """Which images were trained on and which held out, in every fit with threshold="auto"."""
    seen, split = [], pixel.split_validation

    def spy(*arguments):
        seen.append(split(*arguments))
        return seen[-1]

    monkeypatch.setattr(pixel, "split_validation", spy)
    return seen


def predicted_and_learned(net, lesions, X):
    """What a segmenter says of images, and what it says when it is fitted again."""
    again = clone(net).fit(*lesions)
    return net.predict(X), again.predict_proba(X)


class TestLearning:
    def test_discs_are_found_by_basic_features(self, lesions, unseen):
        assert basic(mask_size=32, sigma_max=4).fit(*lesions).score(*unseen) > 0.85

    @pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
    def test_by_the_default_perceptron(self, lesions, unseen):
        net = PixelSegmenter(
            features="basic", sigma_max=4, mask_size=32, n_pixels=60, random_state=0
        )
        net.fit(*lesions)
        perceptron = net.estimator_[-1]
        assert type(perceptron) is MLPClassifier
        assert perceptron.hidden_layer_sizes == (64,)
        assert net.score(*unseen) > 0.85

    def test_by_features_of_an_encoder_alone(self, both, lesions, unseen):
        deep = clone(both).set_params(features="deep").fit(*lesions)
        assert deep.score(*unseen) > 0.7

    def test_by_both(self, both, unseen):
        assert both.score(*unseen) > 0.85

    def test_by_a_forest(self, lesions, unseen):
        forest = RandomForestClassifier(10, max_depth=6)
        assert basic(forest, n_pixels=60).fit(*lesions).score(*unseen) > 0.8


class TestSampleOfPixels:
    """Every pixel of a noise image has features of its own."""

    @pytest.fixture
    def images(self):
        return np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8)

    def test_is_half_lesion_where_there_is_enough_of_both(self, images):
        masks = np.zeros((4, 16, 16), dtype=bool)
        masks[0, :8] = True  # 128 pixels of 256
        masks[1, 0, :3] = True  # 3
        masks[2] = True  # all; the last image has none
        net = basic(Recorder(), n_pixels=40).fit(images, masks)
        rows, labels = recorded(net)
        assert labels.reshape(4, 40).sum(axis=1).tolist() == [20, 3, 40, 0]
        assert len(np.unique(rows.round(5), axis=0)) == 160

    def test_is_all_pixels_where_there_are_no_more(self, images):
        masks = images > 200
        net = basic(Recorder(), n_pixels=1000).fit(images, masks)
        rows, labels = recorded(net)
        assert len(rows) == 4 * 256
        assert labels.sum() == masks.sum()
        # The first feature is the brightness, smoothed by a Gaussian of one pixel.
        assert rows[labels == 1, 0].mean() > rows[labels == 0, 0].mean()
        every = np.sort(asked(net, images).reshape(1024, -1), axis=0)
        np.testing.assert_allclose(np.sort(rows, axis=0), every, atol=1e-5)

    @pytest.mark.parametrize("n_pixels", [2, 7, 100])
    def test_has_the_size_asked_for(self, images, n_pixels):
        net = basic(Recorder(), n_pixels=n_pixels).fit(images, images > 127)
        labels = recorded(net)[1].reshape(4, n_pixels)
        assert (labels.sum(axis=1) == n_pixels // 2).all()

    def test_is_drawn_from_the_seed(self, images):
        masks = images > 127
        first, again, other = (
            recorded(basic(Recorder(), n_pixels=20, random_state=seed).fit(images, masks))[0]
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_leaves_out_images_of_weight_0_and_weighs_pixels_as_their_image(self, images):
        masks = images > 127
        net = basic(Recorder(), n_pixels=20).fit(images, masks, sample_weight=[1, 0, 3, 0.5])
        assert net.estimator_[-1].weights_.tolist() == [1.0] * 20 + [3.0] * 20 + [0.5] * 20
        kept = basic(Recorder(), n_pixels=20).fit(images[[0, 2, 3]], masks[[0, 2, 3]])
        np.testing.assert_array_equal(recorded(net)[0], recorded(kept)[0])
        assert kept.estimator_[-1].weights_ is None


class TestFeatures:
    def test_basic_ones_are_those_of_scikit_image(self):
        X, y = discs(4, size=24)
        net = basic(Recorder(), sigma_max=4).fit(X, y)
        expected = [
            multiscale_basic_features(
                resize_image(image, (16, 16)).astype(np.float32) / 255, sigma_min=1, sigma_max=4
            )
            for image in X
        ]
        assert net.n_pixel_features_ == expected[0].shape[-1] == 3 * 4
        rows = asked(net, X)
        np.testing.assert_allclose(rows.reshape(4, 16, 16, -1), expected, atol=1e-5)

    def test_basic_ones_of_colour_are_those_of_its_luminance(self, few):
        X, y = few
        colour = np.stack([X, np.roll(X, 1, axis=1), np.roll(X, 2, axis=2)], axis=-1)
        grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in colour])
        net = basic(Recorder()).fit(colour, y)
        np.testing.assert_allclose(asked(net, colour), asked(net, grey), atol=0.01)

    @pytest.mark.parametrize("mask_size", [32, (16, 24), 11])
    def test_deep_ones_are_the_maps_interpolated(self, lesions, mask_size):
        X = lesions[0][:3]
        net = basic(Recorder(), features="deep", **{**ON_HALVED, "mask_size": mask_size})
        net.fit(X, lesions[1][:3])
        assert net.n_pixel_features_ == 6
        size = net.mask_size_
        rows = asked(net, X).reshape(3, *size, 6)
        for image, found in zip(X, rows, strict=True):
            seen = resize_image(image, (16, 16)).astype(np.float32)
            half = seen.reshape(8, 2, 8, 2).mean(axis=(1, 3))
            quarter = half.reshape(4, 2, 4, 2).mean(axis=(1, 3))
            for k, values in ((0, half), (3, quarter)):
                # Above the size of the map Pillow's filter is the interpolation.
                np.testing.assert_allclose(found[..., k], resize_image(values, size), atol=0.2)
                np.testing.assert_array_equal(found[..., k], found[..., k + 2])

    def test_both_stand_side_by_side(self, few):
        X, y = few
        rows = {
            kind: asked(basic(Recorder(), features=kind, **ON_HALVED).fit(X, y), X[:2])
            for kind in ("basic", "deep", "both")
        }
        expected = np.concatenate([rows["basic"], rows["deep"]], axis=-1)
        np.testing.assert_allclose(rows["both"], expected, rtol=1e-5, atol=1e-4)

    def test_of_many_images_come_in_their_order(self, few, monkeypatch):
        X, y = few
        whole = basic(features="both", **ON_HALVED).fit(X, y)
        monkeypatch.setattr(pixel, "TOGETHER", 3)
        parts = basic(features="both", **ON_HALVED).fit(X, y)
        np.testing.assert_array_equal(whole.predict_proba(X), parts.predict_proba(X))

    def test_an_encoder_sees_an_image_once(self, few, images_encoded):
        X, y = few
        net = basic(features="deep", **ON_HALVED).fit(X, y)
        net.predict(X)
        net.score(X, y)
        other = LinearDiscriminantAnalysis()
        basic(other, features="deep", n_pixels=30, **{**ON_HALVED, "random_state": 1}).fit(X, y)
        cross_validate(net, X, y, cv=2)
        assert sum(images_encoded) == 8
        net.predict(discs(3, size=16, seed=9)[0])
        assert sum(images_encoded) == 11

    def test_basic_ones_need_no_encoder(self, few):
        net = basic(encoder="nowhere", weights="nothing").fit(*few)
        assert net.frozen_ is None
        assert net.predict(few[0]).shape == (8, 16, 16, 1)

    def test_no_room_for_activations_is_an_error(self, few, monkeypatch):
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "0")
        with pytest.raises(MemoryError, match="activations of 8 images; raise HYBRIDUS_ACTIV"):
            basic(features="deep", **ON_HALVED).fit(*few)


class TestEstimator:
    def test_is_a_clone_behind_a_scaler(self, few):
        given = LogisticRegression()
        net = basic(given).fit(*few)
        assert [type(step).__name__ for _, step in net.estimator_.steps] == [
            "StandardScaler",
            "LogisticRegression",
        ]
        assert not hasattr(given, "coef_")
        rows = basic(Recorder()).fit(*few).estimator_[-1].rows_
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-3)

    def test_takes_the_seed_where_it_has_none(self, few):
        forests = [
            basic(RandomForestClassifier(3, random_state=inner), random_state=outer).fit(*few)
            for inner, outer in [(None, 0), (None, 0), (None, 1), (5, 0), (5, 1)]
        ]
        seeds = [forest.estimator_[-1].random_state for forest in forests]
        assert seeds[0] == seeds[1] != seeds[2]
        assert seeds[3:] == [5, 5]
        answers = [forest.predict_proba(few[0]) for forest in forests]
        np.testing.assert_array_equal(answers[0], answers[1])

    def test_that_takes_no_weights_is_an_error_only_where_there_are_some(self, few):
        X, y = few
        net = basic(LinearDiscriminantAnalysis())
        assert net.fit(X, y).score(X, y) > 0.6
        with pytest.raises(ValueError, match="LinearDiscriminantAnalysis takes no sample_weight"):
            net.fit(X, y, sample_weight=np.ones(8))

    def test_weights_change_what_is_learned(self, few):
        X, y = few
        even = basic().fit(X, y, sample_weight=np.full(8, 2.0))
        odd = basic().fit(X, y, sample_weight=np.arange(1, 9))
        assert np.abs(even.predict_proba(X) - odd.predict_proba(X)).max() > 1e-3

    def test_weights_and_groups_are_taken_together_where_metadata_is_routed(self, few):
        X, y = few
        weights = np.arange(1, 9)
        expected = basic().fit(X, y, sample_weight=weights)
        with config_context(enable_metadata_routing=True):
            net = basic().fit(X, y, sample_weight=weights, groups=np.repeat(range(4), 2))
        np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(X))

    def test_without_probabilities_is_refused(self, few):
        with pytest.raises(ValueError, match="'estimator' parameter of PixelSegmenter must be"):
            basic(LinearSVC()).fit(*few)


class TestThreshold:
    def test_is_the_best_candidate_on_images_that_are_not_trained_on(self, parts):
        X, y = discs(24, size=16, seed=2)
        net = basic(Recorder(), threshold="auto", validation_fraction=0.25, n_pixels=20).fit(X, y)
        train, held_out = parts[0]
        assert len(held_out) == 6
        assert len(net.estimator_[-1].rows_) == 20 * 18
        assert not set(train) & set(held_out)
        probabilities = net.predict_proba(X[held_out])
        scores = {
            level: dice(y[held_out], probabilities > level)
            for level in np.linspace(0.1, 0.9, 17).round(2)
        }
        assert scores[net.threshold_] == pytest.approx(max(scores.values()), abs=1e-6)
        assert scores[net.threshold_] > scores[0.1]
        np.testing.assert_array_equal(net.predict(X), net.predict_proba(X) > net.threshold_)

    def test_groups_stay_on_one_side(self, few, parts):
        X, y = few
        groups = np.repeat(["anna", "berta", "clara", "dora"], 2)
        basic(threshold="auto", validation_fraction=0.3).fit(X, y, groups=groups)
        with config_context(enable_metadata_routing=True):
            cross_validate(
                make_pipeline(SpeckleFilter(size=3), basic(threshold="auto")),
                X,
                y,
                cv=GroupKFold(2),
                params={"groups": groups},
                error_score="raise",
            )
        assert len(parts) == 3
        train, held_out = parts[0]
        assert len(held_out) == 2
        assert not set(groups[train]) & set(groups[held_out])
        for train, held_out in parts[1:]:  # two groups of two in each fold
            assert sorted([*train // 2, *held_out // 2]) == [0, 0, 1, 1]
            assert not set(train // 2) & set(held_out // 2)

    def test_of_a_number_holds_nothing_out(self, few):
        net = basic(Recorder(), threshold=0.7, n_pixels=20).fit(*few)
        assert net.threshold_ == 0.7
        assert len(net.estimator_[-1].rows_) == 20 * 8


class TestAnswers:
    def test_are_probabilities_and_masks_at_the_size_of_the_images(self, both, unseen):
        probabilities, masks = both.predict_proba(unseen[0]), both.predict(unseen[0])
        assert probabilities.shape == masks.shape == (16, 32, 32, 1)
        assert (probabilities.dtype, masks.dtype) == (np.float32, np.uint8)
        assert probabilities.min() >= 0
        assert probabilities.max() <= 1
        np.testing.assert_array_equal(masks, probabilities > 0.5)

    def test_come_at_the_size_of_the_network_too(self, both):
        X, y = discs(4, size=48, seed=3)
        small = copy.copy(both).set_params(output_size="network")
        assert both.predict(X).shape == (4, 48, 48, 1)
        assert small.predict(X).shape == (4, 32, 32, 1)
        assert both.score(X, y) == pytest.approx(small.score(X, y), abs=0.1)

    def test_of_images_that_differ_in_size_are_an_array_of_objects(self, both, tmp_path):
        ragged = [discs(1, width=width)[0][0] for width in (32, 40)]
        paths = [tmp_path / f"{i}.png" for i in range(2)]
        for path, image in zip(paths, ragged, strict=True):
            Image.fromarray(image).save(path)
        for images in (ragged, paths):
            masks = both.predict(images)
            assert masks.dtype == object
            assert [mask.shape for mask in masks] == [(32, 32, 1), (32, 40, 1)]
            for mask, image in zip(masks, ragged, strict=True):
                np.testing.assert_array_equal(mask, both.predict(image[np.newaxis])[0])

    def test_lie_where_the_lesion_is_in_a_wide_image(self):
        X, y = discs(24, size=24, width=48, seed=3)
        net = basic(mask_size=32, resize="pad").fit(X[:16], y[:16])
        masks = net.predict(X[16:])
        assert masks.shape == (8, 24, 48, 1)
        assert net.score(X[16:], y[16:]) > 0.8
        for mask, truth in zip(masks[..., 0], y[16:], strict=True):
            centres = [np.mean(np.nonzero(each), axis=1) for each in (mask, truth)]
            assert np.abs(centres[0] - centres[1]).max() < 1.5

    def test_are_cleaned(self, both, unseen):
        cleaning = Postprocessing(largest=True, fill_holes=True)
        cleaned = copy.copy(both).set_params(postprocess=cleaning).predict(unseen[0])
        for mask, plain in zip(cleaned, both.predict(unseen[0]), strict=True):
            np.testing.assert_array_equal(mask[..., 0], cleaning(plain[..., 0] > 0))


class TestForms:
    def test_every_form_of_images_and_masks_is_trained_on_alike(self, few, tmp_path):
        X, y = few
        images = [tmp_path / f"scan ({i}).png" for i in range(8)]
        masks = [tmp_path / f"scan ({i})_mask.png" for i in range(8)]
        for i in range(8):
            Image.fromarray(X[i]).save(images[i])
            Image.fromarray(y[i]).save(masks[i])
        expected = basic().fit(X, y)
        for given, truth in [
            (images, masks),
            (list(X), y[..., None]),
            (X / 255, 255 * y.astype(np.uint8)),
            (X.reshape(8, -1), y.reshape(8, -1)),
        ]:
            net = basic().fit(given, truth)
            np.testing.assert_array_equal(net.estimator_[-1].coef_, expected.estimator_[-1].coef_)
            np.testing.assert_array_equal(np.stack(net.predict(given)), expected.predict(X))
        assert expected.n_features_in_ == 256


class TestBadInput:
    def test_masks_of_one_class(self, few):
        X, y = few
        with (
            pytest.warns(UserWarning, match="none of the 8 masks has a lesion at 16 x 16 pixels"),
            pytest.raises(ValueError, match="belong to one class.* they are all background"),
        ):
            basic().fit(X, np.zeros_like(y))
        with pytest.raises(ValueError, match="belong to one class.* they are all lesion"):
            basic().fit(X, np.ones_like(y))

    def test_masks_that_are_no_masks_of_these_images(self, few):
        X, y = few
        with pytest.raises(ValueError, match="got 7 masks for 8 images"):
            basic().fit(X, y[:7])
        with pytest.raises(ValueError, match=r"masks\[0\] is 15 x 16 pixels"):
            basic().fit(X, y[:, :, :15])
        with pytest.raises(ValueError, match="masks expected, got labels"):
            basic().fit(X, np.arange(8) % 2)
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
            basic().fit(X, None)
        with pytest.raises(ValueError, match="Threshold first"):
            basic().fit(X, 0.7 * y + 0.2)

    def test_images_that_are_not_finite(self, few):
        X = few[0] / 255
        X[2, 3, 4] = np.nan
        with pytest.raises(ValueError, match=r"images\[2\] contains NaN"):
            basic().fit(X, few[1])

    def test_one_image_leaves_nothing_to_choose_a_threshold_on(self, few):
        X, y = (each[:1] for each in few)
        with pytest.raises(ValueError, match="n_samples = 1: nothing to hold out"):
            basic(threshold="auto").fit(X, y)
        assert basic().fit(X, y).predict(X).shape == (1, 16, 16, 1)

    def test_weights_and_groups_of_another_number(self, few):
        with pytest.raises(ValueError, match="sample_weight.shape"):
            basic().fit(*few, sample_weight=[1, 2])
        for threshold in (0.5, "auto"):
            with pytest.raises(ValueError, match=r"groups has shape \(9,\): expected \(8,\)"):
                basic(threshold=threshold).fit(*few, groups=np.arange(9))

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"layers": ["nowhere"]}, "layer 'nowhere' is not in this encoder"),
            ({"layers": []}, "expected one or more different layer names"),
            ({"image_size": (16, 16, 3)}, "expected a number of pixels"),
            ({"resize": "pad", "mask_size": (16, 8)}, "with resize='pad' both need one ratio"),
            ({"features": "hog"}, "'features' parameter of PixelSegmenter must be"),
        ],
    )
    def test_features_that_cannot_be(self, few, changed, message):
        with pytest.raises(ValueError, match=message):
            basic(**{"features": "deep", **ON_HALVED, **changed}).fit(*few)

    def test_prediction_before_fit(self, few):
        with pytest.raises(NotFittedError):
            basic().predict(few[0])


class TestWithScikitLearn:
    def test_survives_clone(self):
        net = basic(RandomForestClassifier(7), postprocess=Postprocessing(fill_holes=True))
        copied = clone(net)
        assert copied.get_params()["estimator__n_estimators"] == 7
        assert copied.postprocess == Postprocessing(fill_holes=True)

    def test_a_search_goes_over_the_classifier_and_its_features(self, few):
        search = GridSearchCV(
            basic(),
            {"estimator__C": [0.01, 1.0], "sigma_max": [1, 4]},
            cv=2,
            error_score="raise",
        ).fit(*few)
        scores = search.cv_results_["mean_test_score"]
        assert len(set(scores)) == 4
        assert search.best_score_ == scores.max() > 0.5
        assert search.best_params_["estimator__C"] == search.best_estimator_.estimator_[-1].C

    def test_cross_validation_in_a_pipeline_scores_dice_and_iou(self, lesions):
        results = cross_validate(
            make_pipeline(SpeckleFilter("median", size=3), basic()),
            *lesions,
            cv=2,
            scoring={"dice": dice_scorer, "iou": iou_scorer},
            error_score="raise",
        )
        assert (results["test_iou"] < results["test_dice"]).all()
        assert (results["test_iou"] > 0.5).all()

    def test_another_process_predicts_and_learns_the_same(
        self, both, lesions, unseen, another_process
    ):
        masks, probabilities = another_process(predicted_and_learned, both, lesions, unseen[0])
        np.testing.assert_array_equal(masks, both.predict(unseen[0]))
        np.testing.assert_allclose(probabilities, both.predict_proba(unseen[0]), atol=1e-6)

    def test_global_seeds_neither_matter_nor_move(self, few):
        answers = []
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002
            before = np.random.get_state()[1].tolist()  # noqa: NPY002
            net = basic(RandomForestClassifier(3)).fit(*few)
            assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
            answers.append(net.predict_proba(few[0]))
        np.testing.assert_array_equal(*answers)

    def test_a_fitted_segmenter_holds_plain_data(self, both):
        pickled = pickle.dumps(both)
        assert b"EpochModel" not in pickled
        # Pickling once changes which strings of a scikit-learn Pipeline are one object.
        loaded = pickle.loads(pickled)
        assert joblib.hash(pickle.loads(pickle.dumps(loaded))) == joblib.hash(loaded)
