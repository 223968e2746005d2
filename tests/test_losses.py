"""Losses of segmentation networks."""

import numpy as np
import pytest

from hybridus._keras import keras
from hybridus.training.losses import LOSSES, BCEDiceLoss, DiceLoss, TverskyLoss, make_loss

# Six of sixteen pixels are lesion in the first image, one in the second, none in the third.
TRUTH = np.zeros((3, 4, 4, 1), np.float32)
TRUTH[0, :2, :3] = 1
TRUTH[1, 3, 3] = 1
PREDICTED = np.random.default_rng(0).uniform(0.05, 0.95, TRUTH.shape).astype(np.float32)


def by_hand(name, truth=TRUTH, predicted=PREDICTED):
    """The loss of each image in double precision, written out from the formulas."""
    t, p = truth.astype(float), predicted.astype(float)
    pixels = (1, 2, 3)
    right = np.where(t == 1, p, 1 - p)
    cross_entropy = -np.log(right).mean(pixels)
    dice = 1 - (2 * (t * p).sum(pixels) + 1) / (t.sum(pixels) + p.sum(pixels) + 1)
    hit, alarm, missed = ((a * b).sum(pixels) for a, b in ((t, p), (1 - t, p), (t, 1 - p)))
    return {
        "binary_crossentropy": cross_entropy,
        "dice": dice,
        "bce_dice": (cross_entropy + dice) / 2,
        "focal": -((1 - right) ** 2 * np.log(right)).mean(pixels),
        "tversky": 1 - (hit + 1) / (hit + 0.3 * alarm + 0.7 * missed + 1),
    }[name]


def loss_and_slope(loss, truth, predicted):
    """Loss of a batch and its gradient by the predictions."""
    tf = pytest.importorskip("tensorflow")
    values = tf.Variable(predicted)
    with tf.GradientTape() as tape:
        value = loss(truth, values)
    return float(value), tape.gradient(value, values).numpy()


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_is_the_formula_for_each_image(self, name):
        each = make_loss(name).call(*map(keras.ops.convert_to_tensor, (TRUTH, PREDICTED)))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(each), by_hand(name), rtol=2e-5)

    def test_is_the_mean_over_images(self, name):
        assert float(make_loss(name)(TRUTH, PREDICTED)) == pytest.approx(by_hand(name).mean(), 2e-5)

    def test_does_not_depend_on_the_rest_of_the_batch(self, name):
        loss = make_loss(name)
        alone = [float(loss(TRUTH[i : i + 1], PREDICTED[i : i + 1])) for i in range(3)]
        assert np.mean(alone) == pytest.approx(float(loss(TRUTH, PREDICTED)), 1e-6)

    def test_weighs_images_by_their_sample_weight(self, name):
        weights = np.array([1.0, 3.0, 0.0], np.float32)
        weighted = make_loss(name)(TRUTH, PREDICTED, sample_weight=weights)
        assert float(weighted) == pytest.approx((weights * by_hand(name)).mean(), 2e-5)

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("lesion", [0.0, 1.0])
    def test_has_a_finite_slope_at_the_limits_and_on_empty_and_full_masks(
        self, name, value, lesion
    ):
        truth = np.full((2, 4, 4, 1), lesion, np.float32)
        loss, slope = loss_and_slope(make_loss(name), truth, np.full_like(truth, value))
        assert np.isfinite(loss)
        assert np.isfinite(slope).all()

    @pytest.mark.parametrize("lesion", [0.0, 1.0])
    def test_a_perfect_prediction_costs_nothing(self, name, lesion):
        truth = np.full((2, 4, 4, 1), lesion, np.float32)
        assert float(make_loss(name)(truth, truth)) == pytest.approx(0, abs=1e-6)

    def test_false_alarms_on_an_empty_mask_are_pushed_down(self, name):
        truth = np.zeros((1, 4, 4, 1), np.float32)
        _, slope = loss_and_slope(make_loss(name), truth, np.full_like(truth, 0.5))
        assert (slope > 0).all()

    def test_is_computed_in_float32_whatever_comes_in(self, name):
        half = keras.ops.cast(PREDICTED, "bfloat16")
        value = make_loss(name)(keras.ops.cast(TRUTH, "uint8"), half)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        rounded = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
        assert float(value) == pytest.approx(by_hand(name, predicted=rounded).mean(), 2e-5)

    def test_float32_does_not_depend_on_keras_settings(self, name):
        before = keras.config.floatx()
        keras.config.set_floatx("float16")
        try:
            value = make_loss(name)(TRUTH, PREDICTED)
        finally:
            keras.config.set_floatx(before)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"

    def test_survives_serialisation(self, name):
        loss = make_loss(name)
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert type(again) is type(loss)
        assert again.get_config() == loss.get_config()
        assert float(again(TRUTH, PREDICTED)) == float(loss(TRUTH, PREDICTED))

    @pytest.mark.slow
    def test_a_network_learns_by_it(self, name):
        keras.utils.set_random_seed(0)
        images = np.random.default_rng(0).random((8, 8, 8, 1)).astype(np.float32)
        masks = (images > 0.6).astype(np.float32)
        masks[:2] = images[:2] = 0  # images without a lesion
        network = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
                keras.layers.Conv2D(1, 1, activation="sigmoid"),
            ]
        )
        network.compile(keras.optimizers.Adam(0.03), loss=make_loss(name))
        losses = network.fit(
            images, masks, batch_size=8, epochs=20, verbose=0, sample_weight=np.ones(8)
        ).history["loss"]
        assert losses[-1] < 0.9 * losses[0]


class TestCrossEntropy:
    @pytest.mark.parametrize("name", ["binary_crossentropy", "bce_dice", "focal"])
    def test_saturated_sigmoids_still_learn(self, name):
        tf = pytest.importorskip("tensorflow")
        truth = np.array([1, 0], np.float32).reshape(1, 2, 1, 1)
        logits = tf.Variable(np.array([-60, 60], np.float32).reshape(1, 2, 1, 1))
        with tf.GradientTape() as tape:
            value = make_loss(name)(truth, keras.activations.sigmoid(logits))
        slope = tape.gradient(value, logits).numpy().ravel()
        assert slope[0] < -0.2
        assert slope[1] > 0.2


class TestParameters:
    def test_half_and_half_tversky_is_dice_of_twice_the_smooth(self):
        tversky = TverskyLoss(0.5, 0.5, smooth=1.5)(TRUTH, PREDICTED)
        assert float(tversky) == pytest.approx(float(DiceLoss(3)(TRUTH, PREDICTED)), 1e-6)

    def test_tversky_minds_a_missed_pixel_more_than_a_false_one(self):
        missed, false = TRUTH.copy(), TRUTH.copy()
        missed[0, 0, 0] = 0
        false[0, 3, 3] = 1
        loss = TverskyLoss()
        assert float(loss(TRUTH[:1], missed[:1])) == pytest.approx(1 - 6 / 6.7, 1e-5)
        assert float(loss(TRUTH[:1], false[:1])) == pytest.approx(1 - 7 / 7.3, 1e-5)

    @pytest.mark.parametrize("weight", [0, 0.25, 1])
    def test_dice_weight_is_the_share_of_dice(self, weight):
        expected = (1 - weight) * by_hand("binary_crossentropy") + weight * by_hand("dice")
        value = BCEDiceLoss(weight)(TRUTH, PREDICTED)
        assert float(value) == pytest.approx(expected.mean(), 2e-5)

    def test_configuration_holds_every_parameter(self):
        for loss in (
            DiceLoss(2, reduction="sum", name="a"),
            BCEDiceLoss(0.1, smooth=2, reduction="sum", name="b"),
            TverskyLoss(0.1, 0.2, smooth=3, reduction="sum", name="c"),
        ):
            again = type(loss).from_config(loss.get_config())
            assert again.get_config() == loss.get_config()
            assert again.reduction == "sum"
            assert float(again(TRUTH, PREDICTED)) == float(loss(TRUTH, PREDICTED))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: DiceLoss(0), "smooth=0: expected a number above 0"),
            (lambda: BCEDiceLoss(1.5), "dice_weight=1.5: expected a share in 0..1"),
            (lambda: BCEDiceLoss(smooth=-1), "smooth=-1"),
            (lambda: TverskyLoss(-0.1), "alpha=-0.1: expected a number that is 0 or more"),
            (lambda: TverskyLoss(beta=float("nan")), "beta=nan"),
            (lambda: make_loss("iou"), "unknown loss 'iou'; choose one of binary_crossentropy, di"),
        ],
    )
    def test_values_out_of_range_are_errors(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    @pytest.mark.parametrize("loss", [DiceLoss(), BCEDiceLoss(), TverskyLoss()])
    @pytest.mark.parametrize("truth", [TRUTH[..., 0], TRUTH[:, :1], TRUTH[:1]])
    def test_masks_of_another_shape_are_not_broadcast(self, loss, truth):
        with pytest.raises(ValueError, match=r"masks have shape .* expected \(n, H, W, 1\)"):
            loss(truth, PREDICTED)
