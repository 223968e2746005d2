"""Segmenters that train a network: U-Net, DnCNN and decoders over a pretrained encoder."""

import copy
import gc
import pickle
import pickletools
import random

import joblib
import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate, learning_curve
from sklearn.pipeline import make_pipeline
from tiny_images import boxed, discs
from tiny_networks import HALVED

from hybridus import Augmentation, EncoderSpec
from hybridus.encoders.registry import get_encoder
from hybridus.encoders.weights import locate_weights, read_weights
from hybridus.estimators.preprocessing import ContrastEqualizer, SpeckleFilter
from hybridus.estimators.segmenters import (
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    Postprocessing,
    ResNet50Segmenter,
    UNetSegmenter,
)
from hybridus.estimators.segmenters.prediction import best_threshold
from hybridus.estimators.trained import NetworkEstimator
from hybridus.inputs.resizing import resize_image
from hybridus.metrics import dice, dice_scorer, iou, iou_scorer
from hybridus.training.loop import TrainableNetwork
from hybridus.training.losses import LOSSES, make_loss

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_networks")]

# Quick to train, and answers as the network gives them.
REPORTED = {
    "augmentation": "light",
    "lr_schedule": "plateau",
    "threshold": 0.5,
    "postprocess": None,
    "tta": False,
}
FAST = {**REPORTED, "learning_rate": 0.01, "batch_size": 8, "random_state": 0}
PLAIN = {"augmentation": None, "validation_fraction": None}
MOVED = Augmentation(flip="both", shift=0.1, rotation=20, zoom=0.2)


def small_unet(**changed):
    """A U-Net that is compiled once for most of these tests, and quickly."""
    options = {
        "depth": 1,
        "base_filters": 4,
        "batch_norm": False,
        "image_size": 16,
        "max_epochs": 2,
        "deep_supervision": False,
        "loss": "binary_crossentropy",
        "patience": 15,
        **FAST,
    }
    return UNetSegmenter(**{**options, **changed})


def small_dncnn(**changed):
    """A network that learns to find discs in a second."""
    options = {"n_layers": 3, "filters": 4, "image_size": 16, "max_epochs": 8, **FAST}
    return DnCNNSegmenter(**{**options, **changed})


def strided(input_shape):
    """An encoder of three convolutions of stride 2."""
    from hybridus._keras import keras

    inputs = x = keras.Input(input_shape)
    for name in ("half", "quarter", "eighth"):
        x = keras.layers.Conv2D(
            4, 3, strides=2, padding="same", activation="relu", name=name, use_bias=False
        )(x)
    return keras.Model(inputs, x)


STRIDED = EncoderSpec("strided", strided, taps=("half", "quarter", "eighth"))


def small_encoder_unet(encoder=STRIDED, **changed):
    options = {
        "weights": "random",
        "image_size": 32,
        "mask_size": 16,
        "decoder_filters": (4,),
        "decoder_stride": 2,
        "batch_norm": False,
        "dropout_rate": 0.2,
        "max_epochs": 2,
        **FAST,
    }
    return EncoderUNetSegmenter(encoder, **{**options, **changed})


def same_variables(first, second):
    assert list(first.variables_) == list(second.variables_)
    for path, values in first.variables_.items():
        np.testing.assert_array_equal(values, second.variables_[path], err_msg=path)


@pytest.fixture(scope="module")
def lesions():
    return discs(48)


@pytest.fixture(scope="module")
def unseen():
    return discs(16, seed=1)


@pytest.fixture(scope="module")
def unet(lesions):
    """A U-Net with everything: attention gates, deep supervision and dropout."""
    return UNetSegmenter(
        2,
        4,
        attention=True,
        deep_supervision=True,
        loss="binary_crossentropy",
        image_size=32,
        max_epochs=6,
        **FAST,
    ).fit(*lesions)


@pytest.fixture(scope="module")
def dncnn(lesions):
    return DnCNNSegmenter(4, 8, image_size=32, max_epochs=5, **FAST).fit(*lesions)


@pytest.fixture(scope="module")
def encoder_unet(lesions):
    """A decoder over the bundled encoder, of which the last layers are trained too."""
    return EncoderUNetSegmenter(
        "mobilenet_v2_0.35",
        weights="bundled",
        layers=["block_1_expand_relu", "block_3_expand_relu"],
        trainable="last:3",
        decoder_filters=(8,),
        batch_norm=False,
        decoder_stride=2,
        image_size=64,
        mask_size=32,
        n_views=2,
        dropout_rate=0.2,
        max_epochs=6,
        **FAST,
    ).fit(*lesions)


@pytest.fixture(scope="module")
def fitted(unet, dncnn, encoder_unet):
    return {"unet": unet, "dncnn": dncnn, "encoder unet": encoder_unet}


@pytest.fixture
def steps(monkeypatch):
    """What networks are trained on: pixels or activations, masks and weights of every step."""
    seen, step = [], TrainableNetwork.step

    def spy(self, x, y, weights):
        seen.append((x.copy(), y.copy(), weights.copy()))
        return step(self, x, y, weights)

    monkeypatch.setattr(TrainableNetwork, "step", spy)
    return seen


@pytest.fixture
def validations(monkeypatch):
    """What networks are validated on: inputs and masks, each time."""
    seen, validate = [], TrainableNetwork.validate

    def spy(self, held_out):
        seen.append((np.concatenate(list(held_out.inputs())), held_out.targets))
        return validate(self, held_out)

    monkeypatch.setattr(TrainableNetwork, "validate", spy)
    return seen


@pytest.fixture
def parts(monkeypatch):
    """Which images were trained on and which held out, in every fit."""
    seen, hold_out = [], NetworkEstimator._hold_out

    def spy(self, *arguments):
        seen.append(hold_out(self, *arguments))
        return seen[-1]

    monkeypatch.setattr(NetworkEstimator, "_hold_out", spy)
    return seen


def predicted_by(fitted, X):
    """What segmenters say of images, and themselves afterwards."""
    predicted = {name: (net.predict(X), net.predict_proba(X)) for name, net in fitted.items()}
    return predicted, fitted


class TestLearning:
    @pytest.mark.parametrize("name", ["unet", "dncnn", "encoder unet"])
    def test_discs_are_found_in_images_never_seen(self, fitted, unseen, name):
        assert fitted[name].score(*unseen) > 0.85

    @pytest.mark.parametrize("name", ["unet", "dncnn", "encoder unet"])
    def test_probabilities_lie_between_0_and_1_and_masks_above_the_threshold(
        self, fitted, unseen, name
    ):
        probabilities = fitted[name].predict_proba(unseen[0])
        assert probabilities.shape == (16, 32, 32, 1)
        assert probabilities.dtype == np.float32
        assert probabilities.min() >= 0
        assert probabilities.max() <= 1
        assert np.ptp(probabilities) > 0.8
        masks = fitted[name].predict(unseen[0])
        assert masks.dtype == np.uint8
        np.testing.assert_array_equal(masks, probabilities > 0.5)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_every_loss_teaches(self, lesions, unseen, loss):
        net = small_dncnn(loss=loss, **PLAIN).fit(*lesions)
        assert net.history_["loss"].iloc[-1] < 0.5 * net.history_["loss"].iloc[0]
        assert net.score(*unseen) > 0.85

    def test_a_plain_unet_without_batch_normalisation_learns(self, lesions, unseen):
        net = small_unet(max_epochs=20, **PLAIN).fit(*lesions)
        assert net.score(*unseen) > 0.85

    def test_half_precision_learns_too_and_keeps_float32_weights(self, lesions, unseen):
        net = small_dncnn(precision="bfloat16", **PLAIN).fit(*lesions)
        assert net.score(*unseen) > 0.85
        assert {values.dtype for values in net.variables_.values()} == {np.dtype("float32")}
        assert net.predict_proba(unseen[0]).dtype == np.float32

    def test_training_takes_every_image_equally_often(self, lesions, steps):
        X, y = lesions
        small_unet(validation_fraction=None, augmentation=None, max_epochs=3).fit(X[:12], y[:12])
        drawn = np.concatenate([x for x, _, _ in steps])
        _, counts = np.unique(drawn, axis=0, return_counts=True)
        assert counts.tolist() == [4] * 12  # 6 batches of 8


@pytest.fixture(scope="module")
def trained():
    """Last row of the history, what was held out, and probabilities for that part."""
    X, y = discs(32, size=16)
    y[::4] = False
    X[::4] = discs(32, size=16, seed=5)[0][::4] // 2
    with pytest.MonkeyPatch.context() as patch:
        seen, hold_out = [], NetworkEstimator._hold_out
        patch.setattr(
            NetworkEstimator,
            "_hold_out",
            lambda self, *a: seen.append(hold_out(self, *a)) or seen[-1],
        )
        net = small_dncnn(max_epochs=4, early_stopping=False, validation_fraction=0.5).fit(X, y)
    return net, X, y, *seen[0]


class TestHistory:
    def test_has_a_row_an_epoch_and_a_column_for_each_score(self, trained):
        history = trained[0].history_
        names = ["loss", "dice", "iou", "accuracy", "precision", "recall", "f1"]
        assert list(history.columns) == [
            *names,
            *(f"val_{name}" for name in names),
            "learning_rate",
            "seconds",
        ]
        assert history.index.name == "epoch"
        assert history.index.tolist() == [1, 2, 3, 4]
        assert trained[0].n_iter_ == 4
        assert trained[0].best_epoch_ == history["val_loss"].idxmin()
        assert np.isfinite(history.to_numpy()).all()

    def test_of_the_last_epoch_says_what_metrics_say_of_the_validation_part(self, trained):
        net, X, y, train, held_out = trained
        assert len(held_out) == 16
        assert sorted([*train, *held_out]) == list(range(32))
        assert y[held_out].any(axis=(1, 2)).sum() == 12  # a quarter is normal in both parts
        probabilities = net.predict_proba(X[held_out])
        found = probabilities > 0.5
        assert 0 < found.mean() < 1
        pixels = y[held_out].ravel(), found.ravel()
        expected = {
            "val_loss": float(
                make_loss("binary_crossentropy")(
                    y[held_out, ..., None].astype(np.float32), probabilities
                )
            ),
            "val_dice": dice(y[held_out], found),
            "val_iou": iou(y[held_out], found, average="pooled"),
            "val_accuracy": accuracy_score(*pixels),
            "val_precision": precision_score(*pixels),
            "val_recall": recall_score(*pixels),
            "val_f1": f1_score(*pixels),
        }
        last = net.history_.iloc[-1][list(expected)].to_dict()
        assert last == pytest.approx(expected, rel=1e-4)

    def test_of_training_are_those_of_the_images_trained_on(self):
        X, y = discs(16, size=16)
        net = small_unet(
            batch_norm=False,
            dropout_rate=0,
            augmentation=None,
            validation_fraction=None,
            early_stopping=False,
            learning_rate=1e-9,
        ).fit(X, y)
        probabilities = net.predict_proba(X)
        last = net.history_.iloc[-1]
        truth = y[..., None].astype(np.float32)
        loss = float(make_loss("binary_crossentropy")(truth, probabilities))
        assert last["loss"] == pytest.approx(loss, rel=1e-5)
        assert last["dice"] == pytest.approx(dice(y, probabilities > 0.5), rel=1e-5)
        accuracy = accuracy_score(y.ravel(), (probabilities > 0.5).ravel())
        assert last["accuracy"] == pytest.approx(accuracy, rel=1e-5)
        assert "val_loss" not in net.history_

    def test_early_stopping_goes_back_to_the_best_epoch(self, lesions, validations, parts):
        X, y = lesions
        net = small_unet(learning_rate=0.1, max_epochs=30, patience=2, lr_schedule=None).fit(X, y)
        assert net.n_iter_ == net.best_epoch_ + 2 < 30
        held_out = parts[0][1]
        (targets,) = {targets.tobytes(): targets for _, targets in validations}.values()
        probabilities = copy.copy(net).set_params(output_size="network").predict_proba(X[held_out])
        loss = float(make_loss("binary_crossentropy")(targets, probabilities))
        assert loss == pytest.approx(net.history_["val_loss"].min(), rel=1e-4)


@pytest.fixture(scope="module")
def shapes():
    """White ellipses on black, off the centre."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    masks = [
        np.hypot((rows - r) / a, (columns - c) / b) < 1
        for r, c, a, b in rng.uniform([8, 8, 4, 4], [24, 24, 9, 9], (16, 4))
    ]
    return 255 * np.array(masks, dtype=np.uint8), np.array(masks)


class TestImageAndMaskNeverDriftApart:
    """The mask is the thresholded image, so it can be told from the image that is trained on."""

    @staticmethod
    def disagreement(pixels, masks):
        return float(np.mean((pixels >= 127.5) != masks.astype(bool)))

    def test_flips_are_exact(self, steps):
        images = np.random.default_rng(0).integers(0, 256, (16, 16, 16), dtype=np.uint8)
        small_unet(augmentation=Augmentation(flip="both")).fit(images, images > 127)
        drawn = np.concatenate([x[..., 0] for x, _, _ in steps])
        masks = np.concatenate([y[..., 0] for _, y, _ in steps])
        np.testing.assert_array_equal(drawn > 127, masks)
        known = {image.astype(np.float32).tobytes() for image in images}
        assert 0.5 < np.mean([image.tobytes() not in known for image in drawn]) < 1

    @pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
    def test_pixels_move_with_their_mask(self, shapes, steps, fill_mode):
        policy = Augmentation("both", 0.1, 20, 0.2, fill_mode=fill_mode)
        small_unet(image_size=32, augmentation=policy, max_epochs=4).fit(*shapes)
        drawn = np.concatenate([x[..., 0] for x, _, _ in steps])
        masks = np.concatenate([y[..., 0] for _, y, _ in steps])
        assert self.disagreement(drawn, masks) < 0.001
        assert self.disagreement(drawn, np.roll(masks, 1, axis=0)) > 0.1
        changed = [image.tobytes() not in {s.tobytes() for s in shapes[0]} for image in drawn]
        assert np.mean(changed) > 0.9

    def test_brightness_noise_and_gamma_leave_masks_alone(self, shapes, steps):
        images = np.where(shapes[1], 200, 60).astype(np.uint8)
        policy = Augmentation("none", brightness=0.1, contrast=0.3, gamma=0.3, speckle=0.1)
        small_unet(image_size=32, augmentation=policy, max_epochs=4).fit(images, shapes[1])
        for x, y, _ in steps:
            for image, mask in zip(x, y, strict=True):
                lesion, rest = image[mask == 1], image[mask == 0]
                assert lesion.mean() - rest.mean() > 3 * (lesion.std() + rest.std())
        assert {y.tobytes() for _, ys, _ in steps for y in ys} <= {
            mask.astype(np.float32)[..., None].tobytes() for mask in shapes[1]
        }

    def test_pixels_for_an_encoder_move_with_their_smaller_mask(self, shapes, steps):
        large = shapes[0].repeat(2, axis=1).repeat(2, axis=2)
        net = small_encoder_unet(
            HALVED, image_size=64, mask_size=32, augmentation=MOVED, cache=False, max_epochs=4
        )
        net.fit(large, shapes[1].repeat(2, axis=1).repeat(2, axis=2))
        drawn = np.concatenate([x for x, _, _ in steps])
        assert drawn.shape[1:] == (64, 64, 3)
        half = drawn[..., 0].reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4))
        masks = np.concatenate([y[..., 0] for _, y, _ in steps])
        assert self.disagreement(half, masks) < 0.01
        assert self.disagreement(half, np.roll(masks, 1, axis=0)) > 0.1

    def test_stored_views_of_an_encoder_move_with_their_mask(self, shapes, steps):
        images, masks = (each.repeat(2, axis=1).repeat(2, axis=2) for each in shapes)
        net = small_encoder_unet(
            HALVED,
            image_size=64,
            mask_size=32,
            augmentation=MOVED,
            n_views=3,
            validation_fraction=None,
            max_epochs=20,
        ).fit(images, masks)
        assert net.frozen_.taps == ("half", "quarter")
        stored = np.concatenate([x for x, _, _ in steps])
        assert stored.shape[1] == 3 * (32 * 32 + 16 * 16)
        half = stored[:, : 3 * 32 * 32].reshape(-1, 32, 32, 3)[..., 0]
        drawn = np.concatenate([y[..., 0] for _, y, _ in steps])
        assert self.disagreement(half, drawn) < 0.01
        assert self.disagreement(half, np.roll(drawn, 1, axis=0)) > 0.1
        views = {row.tobytes() for row in stored}
        assert len(views) == 16 * 3
        plain = {image.astype(np.float32).tobytes() for image in shapes[0]}
        assert sum(view.astype(np.float32).tobytes() in plain for view in half) > 0

    @pytest.mark.parametrize("n_views", [1, 4])
    def test_one_view_is_the_image_itself(self, shapes, steps, n_views):
        small_encoder_unet(
            HALVED,
            image_size=64,
            mask_size=32,
            augmentation=MOVED,
            n_views=n_views,
            validation_fraction=None,
            max_epochs=6,
        ).fit(*shapes)
        rows = {row.tobytes() for x, _, _ in steps for row in x}
        assert (len(rows) == 16) == (n_views == 1)

    def test_validation_images_are_never_augmented(self, shapes, parts, validations):
        images, masks = shapes
        small_unet(image_size=32, augmentation="strong", max_epochs=3).fit(images, masks)
        held_out = parts[0][1]
        assert len(validations) == 3
        for x, y in validations:
            np.testing.assert_array_equal(x[..., 0], images[held_out])
            np.testing.assert_array_equal(y[..., 0], masks[held_out])

    @pytest.mark.parametrize("cache", [True, False])
    def test_nor_are_those_that_an_encoder_sees(self, shapes, parts, validations, cache):
        images, masks = (each.repeat(2, axis=1).repeat(2, axis=2) for each in shapes)
        small_encoder_unet(
            HALVED,
            image_size=64,
            mask_size=32,
            augmentation="strong",
            activation_dtype="float32",
            cache=cache,
        ).fit(images, masks)
        held_out = parts[0][1]
        for x, y in validations:
            if cache:
                half = x[:, : 3 * 32 * 32].reshape(-1, 32, 32, 3)[..., 0]
                np.testing.assert_allclose(half, shapes[0][held_out], atol=1e-4)
            else:
                np.testing.assert_array_equal(x[..., 1], images[held_out])
            np.testing.assert_array_equal(y[..., 0], shapes[1][held_out])


class TestThreshold:
    def test_is_the_candidate_with_the_best_mean_dice(self):
        rng = np.random.default_rng(0)
        truth = rng.random((5, 8, 8, 1)) < 0.3
        probabilities = (0.35 * truth + 0.4 * rng.random(truth.shape)).astype(np.float32)
        candidates = np.arange(10, 91, 5) / 100
        scores = [
            np.mean(
                [
                    2 * np.sum(t & f) / (t.sum() + f.sum())
                    for t, f in zip(truth, probabilities > level, strict=True)
                ]
            )
            for level in candidates[candidates < 0.7]
        ]
        assert best_threshold(truth, probabilities) == candidates[int(np.argmax(scores))] < 0.5

    @pytest.mark.parametrize(("low", "high", "best"), [(0.0, 1.0, 0.5), (0.6, 1.0, 0.6)])
    def test_of_equally_good_ones_is_the_nearest_to_one_half(self, low, high, best):
        truth = np.zeros((2, 4, 4, 1), dtype=bool)
        truth[:, :2] = True
        probabilities = np.where(truth, high, low).astype(np.float32)
        assert best_threshold(truth, probabilities) == pytest.approx(best, abs=0.051)

    @pytest.mark.parametrize("validation_fraction", [0.25, None])
    def test_is_chosen_on_the_validation_part_or_where_there_is_none_on_all(
        self, parts, validation_fraction
    ):
        X, y = discs(32, size=16)
        net = small_dncnn(
            max_epochs=2, threshold="auto", validation_fraction=validation_fraction
        ).fit(X, y)
        train, held_out = parts[0]
        judged = held_out if len(held_out) else train
        assert len(judged) == (8 if validation_fraction else 32)
        probabilities = net.predict_proba(X[judged])
        scores = {
            level: dice(y[judged], probabilities > level)
            for level in np.linspace(0.1, 0.9, 17).round(2)
        }
        assert scores[net.threshold_] == pytest.approx(max(scores.values()), abs=1e-6)
        assert scores[net.threshold_] > scores[0.1]
        np.testing.assert_array_equal(net.predict(X), net.predict_proba(X) > net.threshold_)

    def test_of_a_number_is_kept(self, lesions):
        X, y = lesions
        low, high = (small_dncnn(threshold=level, max_epochs=2).fit(X, y) for level in (0.1, 0.9))
        assert (low.threshold_, high.threshold_) == (0.1, 0.9)
        assert low.predict(X).sum() > high.predict(X).sum()
        same_variables(low, high)


def drawing(text):
    return np.array([[mark == "#" for mark in line] for line in text.split()])


class TestPostprocessing:
    MASK = """
        ####....
        #..#..#.
        ####....
        ......##
        .....##.
        #.......
        """

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, MASK),
            (
                {"fill_holes": True},
                """
                ####....
                ####..#.
                ####....
                ......##
                .....##.
                #.......
                """,
            ),
            (
                {"largest": True},
                """
                ####....
                #..#....
                ####....
                ........
                ........
                ........
                """,
            ),
            (
                {"largest": True, "fill_holes": True},
                """
                ####....
                ####....
                ####....
                ........
                ........
                ........
                """,
            ),
            (
                {"min_area": 4 / 48},  # the two pairs touch at a corner
                """
                ####....
                #..#....
                ####....
                ......##
                .....##.
                ........
                """,
            ),
            (
                {"min_area": 11 / 48, "fill_holes": True},  # 10 pixels, and the 2 they enclose
                """
                ####....
                ####....
                ####....
                ........
                ........
                ........
                """,
            ),
            ({"min_area": 11 / 48}, "........\n" * 6),
            ({"largest": True, "min_area": 0.5}, "........\n" * 6),
        ],
    )
    def test_cleans_a_mask(self, options, expected):
        mask = drawing(self.MASK)
        cleaned = Postprocessing(**options)(mask)
        assert cleaned.dtype == bool
        np.testing.assert_array_equal(cleaned, drawing(expected))
        np.testing.assert_array_equal(mask, drawing(self.MASK))

    @pytest.mark.parametrize("fill", [False, True])
    def test_empty_and_full_masks_stay_as_they_are(self, fill):
        for mask in (np.zeros((5, 4), bool), np.ones((5, 4), bool)):
            cleaned = Postprocessing(largest=True, fill_holes=fill, min_area=0.1)(mask)
            np.testing.assert_array_equal(cleaned, mask)

    @pytest.mark.parametrize("options", [{"largest": "no"}, {"fill_holes": 2}, {"min_area": "x"}])
    def test_options_of_another_type_are_refused(self, options):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            Postprocessing(**options)

    @pytest.mark.parametrize("min_area", [-0.1, 1.0, float("nan")])
    def test_areas_that_are_no_share_are_refused(self, min_area):
        with pytest.raises(ValueError, match="min_area=.*: expected a share of the image"):
            Postprocessing(min_area=min_area)

    def test_is_what_is_done_to_predicted_masks(self, unet, unseen):
        cleaning = Postprocessing(largest=True, fill_holes=True, min_area=0.03)
        cleaned = copy.copy(unet).set_params(postprocess=cleaning).predict(unseen[0])
        raw = unet.predict_proba(unseen[0])[..., 0] > 0.5
        for mask, plain in zip(cleaned[..., 0], raw, strict=True):
            np.testing.assert_array_equal(mask, cleaning(plain))
        assert cleaned.dtype == np.uint8


class TestAnswers:
    def test_flips_are_averaged(self, unet, unseen):
        X = unseen[0]
        both = copy.copy(unet).set_params(tta=True).predict_proba(X)
        mirrored = unet.predict_proba(X[:, :, ::-1])[:, :, ::-1]
        np.testing.assert_allclose(both, (unet.predict_proba(X) + mirrored) / 2, atol=1e-6)
        assert not np.allclose(both, mirrored, atol=1e-3)

    def test_flips_are_averaged_in_place_where_the_margin_is_odd(self, unet):
        """Of 32 columns 15 are image, 8 margin on the left and 9 on the right."""
        X = discs(4, size=32, width=15)[0]
        padded = np.stack([resize_image(image, (32, 32), resize="pad") for image in X])
        assert np.flatnonzero(padded.any(axis=(0, 1)))[[0, -1]].tolist() == [8, 22]
        both = copy.copy(unet).set_params(tta=True, output_size="network")
        both.resize_ = "pad"
        mirrored = unet.predict_proba(padded[:, :, ::-1])[:, :, ::-1]
        np.testing.assert_allclose(
            both.predict_proba(X), (unet.predict_proba(padded) + mirrored) / 2, atol=1e-6
        )

    def test_flips_need_no_second_network(self, monkeypatch, lesions):
        net = small_unet(tta=True).fit(*lesions)
        monkeypatch.delattr(UNetSegmenter, "build")  # the one that was trained is free
        assert net.predict(lesions[0]).shape == (48, 32, 32, 1)

    def test_come_at_the_size_of_the_image_or_of_the_network(self, unet):
        X, y = discs(5, size=48, seed=2)
        small = copy.copy(unet).set_params(output_size="network")
        assert unet.predict(X).shape == (5, 48, 48, 1)
        assert small.predict(X).shape == small.predict_proba(X).shape == (5, 32, 32, 1)
        assert unet.score(X, y) == pytest.approx(small.score(X, y), abs=0.05)
        assert unet.score(X, y) > 0.8

    def test_of_images_that_differ_in_size_are_an_array_of_objects(self, unet):
        kinds = [discs(1, size=32, width=width, seed=width) for width in (32, 40, 56)]
        ragged = [image[0] for image, _ in kinds]
        masks = [mask[0] for _, mask in kinds]
        for images in (ragged, boxed(ragged)):
            for answer in (unet.predict(images), unet.predict_proba(images)):
                assert answer.shape == (3,)
                assert answer.dtype == object
                assert [each.shape for each in answer] == [(32, w, 1) for w in (32, 40, 56)]
        alone = [unet.predict(image[np.newaxis])[0] for image in ragged]
        for mask, expected in zip(unet.predict(ragged), alone, strict=True):
            np.testing.assert_array_equal(mask, expected)
        expected = np.mean([dice([m], [p]) for m, p in zip(masks, alone, strict=True)])
        assert unet.score(ragged, masks) == pytest.approx(expected)

    def test_of_one_image_are_one_mask(self, unet, unseen):
        assert unet.predict(unseen[0][:1]).shape == (1, 32, 32, 1)

    def test_in_large_numbers_are_those_of_each_image(self, unet, unseen, monkeypatch):
        monkeypatch.setattr("hybridus.estimators.segmenters.base.TOGETHER", 7)
        whole = copy.copy(unet).set_params(tta=True).predict_proba(unseen[0])
        monkeypatch.undo()
        parts = copy.copy(unet).set_params(tta=True).predict_proba(unseen[0])
        np.testing.assert_allclose(whole, parts, atol=1e-6)

    def test_score_is_the_weighted_mean_dice(self, unet, unseen):
        X, y = unseen[0].copy(), unseen[1].copy()
        X[0], y[0] = 0, False  # nothing there
        scores = dice(y, unet.predict(X), average=None)
        assert unet.score(X, y) == pytest.approx(scores.mean())
        weights = np.arange(16)
        expected = np.average(scores, weights=weights)
        assert unet.score(X, y, sample_weight=weights) == pytest.approx(expected)
        with pytest.raises(ValueError, match="sample_weight.shape"):
            unet.score(X, y, sample_weight=[1, 2])

    def test_lie_where_the_lesion_is_in_a_wide_image(self):
        X, y = discs(40, size=24, width=48, seed=3)
        net = small_dncnn(image_size=32, resize="pad", loss="dice", **PLAIN)
        net.fit(X[:32], y[:32])
        masks = net.predict(X[32:])
        assert masks.shape == (8, 24, 48, 1)
        assert net.score(X[32:], y[32:]) > 0.85
        for mask, truth in zip(masks[..., 0], y[32:], strict=True):
            centres = [np.mean(np.nonzero(each), axis=1) for each in (mask, truth)]
            assert np.abs(centres[0] - centres[1]).max() < 1
        network = copy.copy(net).set_params(output_size="network").predict_proba(X[32:])
        assert network.shape == (8, 32, 32, 1)
        assert network[:, :7].max() < 0.5  # the margin: 16 rows of 32 are image


class TestForms:
    def test_files_are_trained_on_and_segmented_as_arrays_are(self, tmp_path, lesions):
        X, y = (each[:12] for each in lesions)
        images = [tmp_path / f"scan ({i}).png" for i in range(12)]
        masks = [tmp_path / f"scan ({i})_mask.png" for i in range(12)]
        for i in range(12):
            Image.fromarray(X[i]).save(images[i])
            Image.fromarray(255 * y[i].astype(np.uint8)).save(masks[i])
        from_files, from_arrays = small_unet().fit(images, masks), small_unet().fit(X, y)
        same_variables(from_files, from_arrays)
        predicted = np.stack(from_files.predict(images))  # one by one, as files come
        assert predicted.shape == (12, 32, 32, 1)
        assert predicted.dtype == np.uint8
        np.testing.assert_array_equal(predicted, from_arrays.predict(X))
        assert from_files.score(images, masks) == from_arrays.score(X, y)
        assert not hasattr(from_files, "n_features_in_")
        assert from_arrays.n_features_in_ == 32 * 32

    def test_files_of_different_sizes_give_an_array_of_objects(self, tmp_path, unet):
        paths = []
        for i, width in enumerate((32, 48)):
            paths.append(str(tmp_path / f"{i}.png"))
            Image.fromarray(discs(1, width=width)[0][0]).save(paths[-1])
        answer = unet.predict(paths)
        assert answer.dtype == object
        assert [each.shape for each in answer] == [(32, 32, 1), (32, 48, 1)]

    def test_every_form_of_images_and_masks_trains_alike(self, lesions):
        X, y = (each[:12] for each in lesions)
        expected = small_unet().fit(X, y)
        for images, masks in [
            (X[..., None], y[..., None]),
            (list(X), boxed(list(y))),
            (np.repeat(X[..., None], 3, axis=-1), 255 * y.astype(np.uint8)),
            (X / 255, y.astype(float)),
            (X.reshape(12, -1), y.reshape(12, -1)),
            (X, [[mask, np.zeros_like(mask)] for mask in y]),
        ]:
            same_variables(small_unet().fit(images, masks), expected)

    def test_images_of_different_sizes_are_trained_on(self):
        kinds = [discs(6, size=32, width=width) for width in (32, 44)]
        images = [image for kind in kinds for image in kind[0]]
        masks = [mask for kind in kinds for mask in kind[1]]
        net = small_unet().fit(images, masks)
        assert not hasattr(net, "n_features_in_")
        assert [mask.shape for mask in net.predict(images)[[0, -1]]] == [(32, 32, 1), (32, 44, 1)]

    def test_rows_need_a_shape_where_it_cannot_be_guessed(self):
        X, y = discs(12, size=32, width=40)
        net = small_unet(image_shape=(32, 40)).fit(X.reshape(12, -1), y.reshape(12, -1))
        assert net.predict(X.reshape(12, -1)).shape == (12, 32, 40, 1)
        same_variables(net, small_unet().fit(X, y))

    def test_sizes_of_network_and_mask_may_differ_and_be_odd_and_oblong(self):
        X, y = discs(12, size=32, width=48)
        net = small_encoder_unet(
            image_size=(52, 100), mask_size=(20, 30), decoder_stride=4, layers=["quarter", "eighth"]
        ).fit(X, y)
        assert net.mask_size_ == (20, 30)
        assert net.predict(X).shape == (12, 32, 48, 1)
        small = copy.copy(net).set_params(output_size="network")
        assert small.predict(X).shape == (12, 20, 30, 1)

    def test_weight_0_leaves_an_image_out(self, lesions, steps):
        X, y = (each[:20] for each in lesions)
        weights = np.repeat([2.0, 0.0], [12, 8])
        net = small_unet().fit(X, y, sample_weight=weights)
        assert {len(x) for x, _, _ in steps} == {8}
        assert all((given == 1).all() for _, _, given in steps)  # weights have a mean of 1
        same_variables(net, small_unet().fit(X[:12], y[:12]))

    def test_weights_weigh_images(self, lesions, steps, parts):
        X, y = (each[:12] for each in lesions)
        weights = np.arange(1, 13)
        small_unet(augmentation=None, image_size=32, max_epochs=3).fit(X, y, sample_weight=weights)
        train = parts[0][0]
        expected = weights / weights[train].mean()
        for x, _, given in steps:
            rows = [int(np.flatnonzero((image[..., 0] == X).all(axis=(1, 2)))[0]) for image in x]
            np.testing.assert_allclose(given, expected[rows], rtol=1e-6)


@pytest.fixture(scope="module")
def few():
    return discs(12, size=16)


class TestBadInput:
    def test_numbers_that_differ(self, few):
        with pytest.raises(ValueError, match="got 11 masks for 12 images; expected one for each"):
            small_unet().fit(few[0], few[1][:11])

    @pytest.mark.parametrize("segmenter", [small_unet(), small_encoder_unet()], ids=["unet", "enc"])
    def test_shapes_that_differ(self, few, segmenter):
        with pytest.raises(ValueError, match=r"masks\[0\] is 15 x 16 pixels .* images\[0\] is 16"):
            segmenter.fit(few[0], few[1][:, :, :15])

    def test_files_of_different_sizes(self, few, tmp_path):
        paths = [tmp_path / f"{i}.png" for i in range(12)]
        for i, path in enumerate(paths):
            Image.fromarray(few[0][i] if i != 7 else few[0][i][:, :9]).save(path)
        with pytest.raises(ValueError, match=r"masks\[7\] is 16 x 16 .* images\[7\] is 9 x 16"):
            small_unet().fit(paths, few[1])

    def test_empty_masks_teach_to_find_nothing(self, few):
        X, y = few
        message = "none of the 12 masks has a lesion at 16 x 16 pixels: the segmenter learns to"
        with pytest.warns(UserWarning, match=message) as caught:
            net = small_unet(max_epochs=20, validation_fraction=None).fit(X, np.zeros_like(y))
        assert caught[0].filename == __file__
        assert net.predict(X).sum() == 0
        assert net.score(X, np.zeros_like(y)) == 1
        assert net.score(X, y) == 0
        assert np.isfinite(net.history_.to_numpy()).all()

    def test_lesions_that_vanish_at_the_size_of_the_network(self, few):
        specks = np.zeros((12, 64, 64), dtype=bool)
        specks[:, 20, 30] = True
        with pytest.warns(UserWarning, match="none of the 12 masks has a lesion at 16 x 16 pixels"):
            small_unet().fit(np.zeros((12, 64, 64)), specks)

    def test_grey_edges(self, few):
        X, y = few
        soft = np.stack([resize_image(mask.astype(np.float32), (33, 33)) for mask in y])
        soft = np.stack([resize_image(mask, (16, 16)) for mask in soft])
        with pytest.raises(ValueError, match=r"masks\[0\] holds .*Threshold first: masks > 0.5"):
            small_unet().fit(X, soft)
        with pytest.raises(ValueError, match=r"as grey edges and .*Threshold first: masks > 127"):
            small_unet().fit(X, np.rint(255 * soft).astype(np.uint8))

    @pytest.mark.parametrize(
        "labels", [np.arange(12) % 2, (np.arange(12) % 3).tolist(), np.array(["benign"] * 12)]
    )
    def test_labels_in_place_of_masks(self, few, labels):
        with pytest.raises(ValueError, match="masks expected, got labels|does not exist"):
            small_unet().fit(few[0], labels)

    def test_images_and_masks_in_the_wrong_order(self, few):
        with pytest.raises(ValueError, match="masks.*Threshold first"):
            small_unet().fit(few[1], few[0])

    def test_one_image_leaves_nothing_for_validation(self, few):
        X, y = (each[:1] for each in few)
        with pytest.raises(ValueError, match="n_samples = 1: nothing to hold out.*fraction=None"):
            small_unet().fit(X, y)
        net = small_unet(validation_fraction=None, max_epochs=3).fit(X, y)
        assert net.predict(X).shape == (1, 16, 16, 1)
        assert net.n_iter_ == 3

    def test_a_normal_and_a_lesion_cannot_be_divided(self, few):
        X, y = few[0][:2], few[1][:2].copy()
        y[0] = False
        with pytest.raises(ValueError, match="no class has two samples; validation_fraction=None"):
            small_unet().fit(X, y)

    @pytest.mark.parametrize(
        ("depth", "size", "message"),
        [
            (3, 20, r"with depth=3 the sides must be divisible by 8; take \[24, 24\]"),
            (2, (16, 18), r"image_size=\(16, 18\).*divisible by 4; take \[16, 20\]"),
        ],
    )
    def test_sizes_that_cannot_be_halved(self, few, depth, size, message):
        with pytest.raises(ValueError, match=message):
            small_unet(depth=depth, image_size=size).fit(*few)

    def test_dncnn_takes_any_size(self, few):
        net = DnCNNSegmenter(2, 2, image_size=(13, 17), max_epochs=1, **FAST).fit(*few)
        assert copy.copy(net).set_params(output_size="network").predict(few[0]).shape == (
            12,
            13,
            17,
            1,
        )

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"decoder_stride": 4}, r"maps of \[\(16, 16\)\] pixels are finer than the decoder"),
            ({"layers": ["half", "nowhere"]}, "layer 'nowhere' is not in this encoder; it has"),
            ({"layers": []}, r"layers=\[\]: expected one or more different layer names"),
            ({"layers": ["half", "half"]}, "expected one or more different layer names"),
            ({"decoder_filters": ()}, r"decoder_filters=\(\): expected one or more numbers"),
            ({"decoder_filters": [8, 0]}, r"decoder_filters=\[8, 0\]: expected one or more"),
            ({"decoder_filters": [8, 2.5]}, "expected one or more numbers of filters, each 1"),
            ({"trainable": "fifth"}, "trainable='fifth': expected 'none', 'all', 'first:K'"),
            ({"trainable": "last:0"}, "trainable='last:0': expected"),
            ({"decoder_stride": 3}, "'decoder_stride' parameter of EncoderUNetSegmenter must be"),
            ({"mask_size": (8, 8, 8)}, r"mask_size=\(8, 8, 8\): expected a number of pixels"),
            ({"mask_size": ("a", 1)}, r"mask_size=\('a', 1\): expected a number of pixels"),
            ({"image_size": (32, 32, 3)}, r"expected a number of pixels or \(height, width\)"),
            ({"mask_size": (16,)}, r"expected a number of pixels or \(height, width\)"),
            ({"augmentation": "heavy"}, "augmentation='heavy': expected None, one of 'light'"),
            (
                {"resize": "pad", "mask_size": (16, 32)},
                r"image_size=\(32, 32\) and mask_size=\(16, 32\): with resize='pad' both need one",
            ),
            ({"layers": "last"}, "'layers' parameter of EncoderUNetSegmenter must be"),
            ({"loss": "hinge"}, "'loss' parameter of EncoderUNetSegmenter must be"),
        ],
    )
    def test_encoders_and_decoders_that_cannot_be(self, few, changed, message, images_encoded):
        with pytest.raises(ValueError, match=message):
            small_encoder_unet(**changed).fit(*few)
        assert not images_encoded

    def test_unknown_encoders(self, few):
        with pytest.raises(ValueError, match="names no layers for layers='skips'"):
            small_encoder_unet(EncoderSpec("nameless", strided)).fit(*few)
        with pytest.raises(ValueError, match="unknown encoder 'vgg'.*list_encoders"):
            small_encoder_unet("vgg").fit(*few)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_images_that_are_not_finite(self, few, value):
        X = few[0] / 255
        X[3, 4, 5] = value
        with pytest.raises(ValueError, match=r"images\[3\] contains NaN or infinity"):
            small_unet().fit(X, few[1])
        with pytest.raises(ValueError, match=r"images\[3\] contains NaN or infinity"):
            small_unet(validation_fraction=None, max_epochs=1).fit(*few).predict(X)

    def test_images_on_another_scale(self, few):
        with pytest.raises(ValueError, match="Negative values in data"):
            small_unet().fit(few[0] / 127.5 - 1, few[1])
        with pytest.raises(ValueError, match="Divide by 255"):
            small_unet().fit(few[0].astype(float), few[1])

    def test_no_masks(self, few):
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
            small_unet().fit(few[0], None)

    def test_weights_and_groups_of_another_number(self, few):
        with pytest.raises(ValueError, match="sample_weight.shape"):
            small_unet().fit(*few, sample_weight=[1, 2])
        with pytest.raises(ValueError, match="at least one non-zero number"):
            small_unet().fit(*few, sample_weight=np.zeros(12))
        with pytest.raises(ValueError, match=r"groups has shape \(13,\): expected \(12,\)"):
            small_unet().fit(*few, groups=np.arange(13))

    def test_prediction_before_fit_and_after_another_architecture(self, few):
        with pytest.raises(NotFittedError):
            small_unet().predict(few[0])
        net = small_unet().fit(*few)
        with pytest.raises(ValueError, match="learned by a network of another architecture"):
            net.set_params(base_filters=5).predict(few[0])


class TestFrozenEncoder:
    def test_sees_each_view_of_an_image_once(self, lesions, images_encoded, parts):
        X, y = (each[:16] for each in lesions)
        small_encoder_unet(n_views=3).fit(X, y)
        train, held_out = map(len, parts[0])
        assert held_out > 0
        assert sum(images_encoded) == 3 * train + held_out
        net = small_encoder_unet(
            n_views=3, loss="dice", decoder_filters=(3,), dropout_rate=0.0, learning_rate=0.1
        ).fit(X, y)
        small_encoder_unet(n_views=3, threshold="auto", max_epochs=1).fit(X, y)
        net.predict(X)
        net.score(X, y)
        assert sum(images_encoded) == 3 * train + held_out
        net.predict(lesions[0][:20])
        assert sum(images_encoded) == 3 * train + held_out + 4

    def test_sees_an_image_once_in_all_folds(self, lesions, images_encoded):
        X, y = (each[:12] for each in lesions)
        twice = np.concatenate([X, X[:4]]), np.concatenate([y, y[:4]])
        cross_validate(small_encoder_unet(augmentation=None), *twice, cv=2)
        assert sum(images_encoded) == 12

    def test_serves_a_partly_trained_one_too(self, lesions, images_encoded, steps):
        X, y = (each[:12] for each in lesions)
        for trainable in ("eighth", "last:1", "eighth"):
            small_encoder_unet(
                trainable=trainable, augmentation=None, validation_fraction=None
            ).fit(X, y)
        assert sum(images_encoded) == 12
        # half and quarter cross the cut to the decoder, quarter to the trained layer too.
        assert {x.shape[1] for x, _, _ in steps} == {4 * (16 * 16 + 8 * 8)}

    def test_kept_in_half_precision_gives_similar_masks(self, lesions):
        X, y = (each[:16] for each in lesions)
        half, single = (
            small_encoder_unet(activation_dtype=dtype, max_epochs=3).fit(X, y)
            for dtype in ("float16", "float32")
        )
        difference = np.abs(half.predict_proba(X) - single.predict_proba(X))
        assert 0 < difference.max() < 0.02

    @pytest.mark.parametrize("trainable", ["none", "eighth"])
    def test_kept_or_computed_in_every_step_gives_the_same(
        self, lesions, images_encoded, trainable
    ):
        X, y = (each[:16] for each in lesions)
        options = {"trainable": trainable, "augmentation": None, "activation_dtype": "float32"}
        kept = small_encoder_unet(**options).fit(X, y)
        assert sum(images_encoded) == 16
        computed = small_encoder_unet(cache=False, **options).fit(X, y)
        probabilities = kept.predict_proba(X)
        assert np.ptp(probabilities) > 0.05
        np.testing.assert_allclose(computed.predict_proba(X), probabilities, atol=1e-4)
        assert sum(images_encoded) == 16
        np.testing.assert_allclose(
            computed.history_["val_loss"], kept.history_["val_loss"], rtol=1e-4
        )

    def test_that_has_no_room_is_computed_in_every_step(self, lesions, images_encoded, monkeypatch):
        X, y = (each[:16] for each in lesions)
        roomy = small_encoder_unet(cache=False).fit(X, y)
        kept = small_encoder_unet().fit(X, y)
        before = sum(images_encoded)
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "1e-6")
        cramped = small_encoder_unet().fit(X, y)
        same_variables(cramped, roomy)
        np.testing.assert_array_equal(cramped.predict(X), roomy.predict(X))
        assert sum(images_encoded) == before
        crowded = kept.predict_proba(X)  # fitted on what was kept, predicting from pixels
        monkeypatch.delenv("HYBRIDUS_ACTIVATION_GIB")
        np.testing.assert_allclose(kept.predict_proba(X), crowded, atol=5e-3)

    def test_trains_the_last_layers_and_leaves_the_others(self, lesions, monkeypatch, encoder_unet):
        networks, build = [], EncoderUNetSegmenter._build
        monkeypatch.setattr(
            EncoderUNetSegmenter,
            "_build",
            lambda *arguments: networks.append(build(*arguments)) or networks[-1],
        )
        # Another loss, so that the network is a new one.
        X, y = (each[:12] for each in lesions)
        net = clone(encoder_unet).set_params(loss="dice", max_epochs=1, cache=False).fit(X, y)
        in_encoder = {path for path in net.variables_ if path.startswith("block_")}
        assert in_encoder == {"block_3_expand/kernel"}
        (network,) = networks
        spec = get_encoder("mobilenet_v2_0.35")
        variables = {
            variable.path: np.asarray(variable)
            for variable in network.model.variables
            if variable.path.startswith(("Conv1", "bn_Conv1", "expanded_conv", "block_"))
        }
        assert len(variables) > 30
        path = locate_weights(spec, "bundled").path
        stored = read_weights(path, [name.split("/")[0] for name in variables])
        changed = [
            name
            for name, values in variables.items()
            if not np.array_equal(values, stored[name.split("/")[0]][name.split("/")[1]])
        ]
        assert changed == ["block_3_expand/kernel"]
        original = stored["block_3_expand"]["kernel"]
        difference = np.abs(net.variables_["block_3_expand/kernel"] - original)
        assert 1e-3 < difference.max() < 1

    def test_trained_whole_changes_everywhere(self, lesions):
        X, y = (each[:12] for each in lesions)
        once, again = (small_encoder_unet(trainable="all").fit(X, y) for _ in range(2))
        in_encoder = {path for path in once.variables_ if not path.startswith(("narrow", "dec"))}
        assert in_encoder == {"half/kernel", "quarter/kernel", "eighth/kernel"} | {
            "mask/kernel",
            "mask/bias",
        }
        same_variables(once, again)


class TestReproducibility:
    def test_the_same_seed_gives_the_same_network_and_another_another(self, lesions):
        X, y = (each[:16] for each in lesions)
        first, second = small_unet().fit(X, y), small_unet().fit(X, y)
        same_variables(first, second)
        columns = [name for name in first.history_ if name != "seconds"]
        assert first.history_[columns].equals(second.history_[columns])
        other = small_unet(random_state=1).fit(X, y)
        assert not np.array_equal(other.predict_proba(X), first.predict_proba(X))

    def test_a_generator_goes_on_between_fits(self, lesions):
        X, y = (each[:16] for each in lesions)
        net = small_unet(random_state=np.random.RandomState(0))
        first, second = net.fit(X, y).predict_proba(X), net.fit(X, y).predict_proba(X)
        assert not np.array_equal(first, second)
        again = small_unet(random_state=np.random.RandomState(0)).fit(X, y)
        np.testing.assert_array_equal(again.predict_proba(X), first)

    def test_global_seeds_neither_matter_nor_move(self, lesions):
        X, y = (each[:16] for each in lesions)
        nets = []
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
            nets.append(small_dncnn(filters=2).fit(X, y))  # builds one, the first time
            assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
        same_variables(*nets)

    def test_other_fits_in_between_leave_no_trace(self, lesions):
        X, y = (each[:16] for each in lesions)
        first = small_unet().fit(X, y)
        small_unet(random_state=7, max_epochs=4, learning_rate=0.1).fit(X, y)
        same_variables(small_unet().fit(X, y), first)

    def test_another_process_predicts_the_same(self, fitted, unseen, another_process):
        predicted, returned = another_process(predicted_by, fitted, unseen[0])
        for name, net in fitted.items():
            np.testing.assert_array_equal(predicted[name][0], net.predict(unseen[0]))
            np.testing.assert_allclose(
                predicted[name][1], net.predict_proba(unseen[0]), rtol=0, atol=1e-6
            )
            assert joblib.hash(returned[name]) == joblib.hash(net)

    @pytest.mark.parametrize("name", ["unet", "dncnn", "encoder unet"])
    def test_a_fitted_segmenter_holds_plain_data(self, fitted, name):
        pickled = pickle.dumps(fitted[name], protocol=2)
        modules = {
            argument.split(".")[0].split()[0]
            for operation, argument, _ in pickletools.genops(pickled)
            if operation.name == "GLOBAL"
        }
        assert "hybridus" in modules
        assert modules.isdisjoint({"keras", "tensorflow", "openvino"})
        assert len(pickled) < 2e6


class TestParameters:
    @pytest.mark.parametrize(
        "segmenter",
        [
            UNetSegmenter(depth=3, loss="focal", postprocess=Postprocessing(largest=True)),
            DnCNNSegmenter(5, augmentation=MOVED, optimizer={"class_name": "sgd", "config": {}}),
            EncoderUNetSegmenter("vgg16", decoder_filters=[8, 4], image_size=(64, 96)),
            ResNet50Segmenter(trainable="conv4", tta=True),
        ],
        ids=lambda each: type(each).__name__,
    )
    def test_survive_clone(self, segmenter):
        copied = clone(segmenter)
        assert type(copied) is type(segmenter)
        assert copied.get_params() == segmenter.get_params()

    def test_resnet50_has_every_parameter_but_the_encoder(self):
        names = set(EncoderUNetSegmenter().get_params())
        assert names - set(ResNet50Segmenter().get_params()) == {"encoder"}
        for name, value in ResNet50Segmenter().get_params().items():
            assert value == EncoderUNetSegmenter().get_params()[name]
        assert ResNet50Segmenter().encoder == "resnet50"
        with pytest.raises(ValueError, match="Invalid parameter 'encoder'"):
            ResNet50Segmenter().set_params(encoder="vgg16")

    @pytest.mark.parametrize(
        ("segmenter", "changed"),
        [
            (small_unet(), {"attention": True}),
            (small_unet(), {"depth": 2}),
            (small_dncnn(), {"n_layers": 4}),
            (small_encoder_unet(), {"decoder_stride": 1}),
        ],
    )
    def test_of_another_architecture_are_refused_after_fit(self, lesions, segmenter, changed):
        net = clone(segmenter).fit(*(each[:12] for each in lesions))
        with pytest.raises(ValueError, match="learned by a network of another architecture"):
            net.set_params(**changed).predict(lesions[0][:2])

    def test_of_margins_are_those_of_the_fit(self, lesions):
        images = [image[:, 4:28] for image in lesions[0][:12]]
        masks = [mask[:, 4:28] for mask in lesions[1][:12]]
        for segmenter in (small_unet(), small_encoder_unet()):
            net = clone(segmenter).fit(images, masks)
            expected = net.predict_proba(images)
            found = net.set_params(resize="pad").predict_proba(images)
            np.testing.assert_array_equal(np.stack(found), np.stack(expected))

    def test_skips_are_one_map_a_scale_or_the_encoders_taps(self):
        for encoder, skips in (
            (STRIDED, STRIDED.taps),
            (EncoderSpec("both", strided, taps=("half",), skips=("quarter", "eighth")), None),
        ):
            net = small_encoder_unet(encoder)
            net._resolve()
            assert net.frozen_.taps == (skips or encoder.skips)
        for name in ("mobilenet_v2", "mobilenet_v2_0.35", "vgg16", "resnet50"):
            net = EncoderUNetSegmenter(name, weights="random", image_size=64)
            net._resolve()
            sizes = [shape[0] for shape in net._partitions()[0].shapes]
            assert sizes == [16 // 2**k for k in range(len(sizes))]

    def test_of_the_optimizer_are_those_that_keras_takes(self, lesions):
        X, y = (each[:12] for each in lesions)
        options = {"momentum": 0.9, "learning_rate": 7.0}
        adam = small_dncnn(max_epochs=2)
        net = clone(adam).set_params(optimizer={"class_name": "SGD", "config": options}).fit(X, y)
        assert net.history_["learning_rate"].tolist() == pytest.approx([0.01, 0.01])
        assert not np.array_equal(net.predict_proba(X), adam.fit(X, y).predict_proba(X))
        with pytest.raises(ValueError, match="nonsense"):
            small_dncnn(optimizer="nonsense").fit(X, y)


class TestWithScikitLearn:
    def test_cross_validation_scores_dice_and_iou(self, lesions):
        X, y = lesions
        results = cross_validate(
            small_dncnn(),
            X,
            y,
            cv=2,
            scoring={"dice": dice_scorer, "iou": iou_scorer},
            return_estimator=True,
            return_indices=True,
            error_score="raise",
        )
        for k, net in enumerate(results["estimator"]):
            test = results["indices"]["test"][k]
            masks = net.predict(X[test])
            assert results["test_dice"][k] == pytest.approx(dice(y[test], masks))
            assert results["test_iou"][k] == pytest.approx(iou(y[test], masks))
            assert 0.3 < results["test_iou"][k] < results["test_dice"][k] < 1

    def test_a_search_goes_over_losses_and_filters(self, lesions):
        X, y = (each[:24] for each in lesions)
        search = GridSearchCV(
            small_dncnn(**PLAIN),
            [{"loss": ["dice"]}, {"loss": ["binary_crossentropy"], "filters": [2]}],
            cv=2,
            error_score="raise",
        ).fit(X, y)
        scores = search.cv_results_["mean_test_score"]
        assert np.isfinite(scores).all()
        assert search.best_score_ == scores.max() > scores.min()
        best = search.best_estimator_
        assert best.get_params()["loss"] == search.best_params_["loss"]
        assert search.score(X, y) == best.score(X, y)
        same_variables(best, clone(best).fit(X, y))

    def test_filters_stand_before_a_segmenter_in_a_pipeline(self, lesions, unseen, tmp_path):
        for step in (SpeckleFilter("median", size=3), ContrastEqualizer()):
            pipeline = make_pipeline(step, small_dncnn(**PLAIN))
            assert pipeline.fit(*lesions).score(*unseen) > 0.7
            filtered = clone(step).fit_transform(lesions[0])
            same_variables(pipeline[-1], clone(pipeline[-1]).fit(filtered, lesions[1]))
        paths = [tmp_path / f"{i}.png" for i in range(16)]
        for path, image in zip(paths, unseen[0], strict=True):
            Image.fromarray(image).save(path)
        np.testing.assert_array_equal(
            np.stack(pipeline.predict(paths)), pipeline.predict(unseen[0])
        )

    def test_learning_curves_are_drawn(self, lesions):
        sizes, trained, scores = learning_curve(
            small_dncnn(**PLAIN),
            *lesions,
            train_sizes=[4, 24],
            cv=2,
            error_score="raise",
        )
        assert sizes.tolist() == [4, 24]
        assert trained.shape == scores.shape == (2, 2)
        assert scores[1].mean() > 0.5

    @pytest.mark.parametrize("first", [None, SpeckleFilter(size=3)])
    def test_groups_reach_the_inner_split(self, lesions, parts, monkeypatch, first):
        X, y = (each[:24] for each in lesions)
        groups = np.arange(24) // 4
        seen, fit = [], UNetSegmenter.fit

        def spy(self, X, y, sample_weight=None, groups=None):
            seen.append(groups)
            return fit(self, X, y, sample_weight, groups)

        monkeypatch.setattr(UNetSegmenter, "fit", spy)
        with config_context(enable_metadata_routing=True):
            net = small_unet(max_epochs=1, validation_fraction=0.3)
            cross_validate(
                net if first is None else make_pipeline(first, net),
                X,
                y,
                cv=GroupKFold(3),
                params={"groups": groups},
                error_score="raise",
            )
        assert len(seen) == len(parts) == 3
        for given, (train, held_out) in zip(seen, parts, strict=True):
            assert len(given) == 16
            assert len(held_out) in (4, 8)
            assert not set(given[train]) & set(given[held_out])

    def test_groups_may_be_names(self, lesions, parts):
        X, y = (each[:12] for each in lesions)
        groups = np.repeat(["anna", "berta", "clara"], 4)
        small_unet(max_epochs=1).fit(X, y, groups=groups)
        train, held_out = parts[0]
        assert len(held_out) == 4
        assert not set(groups[train]) & set(groups[held_out])


def test_repeated_fits_leave_no_memory_behind(lesions):
    """Keras alone leaks about 25 MB a fit."""
    X, y = (each[:16] for each in lesions)
    process = psutil.Process()
    for seed in range(10):
        if seed == 2:
            before = process.memory_info().rss
        small_unet(random_state=seed).fit(X, y).predict(X)
    gc.collect()
    assert process.memory_info().rss - before < 40 * 2**20
