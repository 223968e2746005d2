"""Sizes that an encoder's builder refuses: told with the encoder, the size and a way out."""

import numpy as np
import pytest
from sklearn.base import clone

from hybridus import DeepFeatureExtractor, EncoderSpec, FineTunedClassifier
from hybridus.encoders.registry import get_encoder


def refusing(input_shape):
    raise ValueError("at least 32x32.")


REFUSING = EncoderSpec("refusing", refusing, image_size=(48, 64), last="relu")


def test_the_builders_error_names_encoder_and_size():
    with pytest.raises(ValueError, match="encoder 'refusing' cannot be") as raised:
        REFUSING.build((16, 24))
    assert str(raised.value) == (
        "encoder 'refusing' cannot be built for image_size=(16, 24): at least 32x32. Give an "
        "image_size that its builder takes, such as its default (48, 64), or register it with "
        "other options"
    )
    assert str(raised.value.__cause__) == "at least 32x32."


def test_other_errors_of_a_builder_are_passed_on():
    def broken(input_shape):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        EncoderSpec("broken", broken).build((16, 16))


def test_so_does_that_of_keras_applications():
    with pytest.raises(ValueError, match=r"'vgg16' .* image_size=\(16, 16\): Input size must be"):
        get_encoder("vgg16").build((16, 16))


@pytest.mark.parametrize("estimator", [DeepFeatureExtractor(), FineTunedClassifier()])
@pytest.mark.parametrize("encoder", [REFUSING, "mobilenet_v2_0.35"])
def test_estimators_tell_it_before_any_work(estimator, encoder):
    model = clone(estimator).set_params(encoder=encoder, weights="random", image_size=16)
    with pytest.raises(ValueError, match=r"encoder '.*image_size=\(16, 16\).*at least 32x32"):
        model.preflight(np.zeros((4, 16, 16)))
