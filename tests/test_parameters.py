"""Network estimators share their parameters, and say so in signatures and docstrings."""

import inspect
import re
from numbers import Integral
from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from tiny_images import discs

from hybridus import (
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    ResNet50Segmenter,
    UNetSegmenter,
)
from hybridus._sklearn import Interval
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.segmenters import NetworkSegmenter

NETWORKS = [
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    NetworkSegmenter,
    ResNet50Segmenter,
    UNetSegmenter,
]


@pytest.mark.parametrize("network", NETWORKS)
def test_each_parameter_is_documented_once_with_its_default(network):
    section = network.__doc__.split("Parameters\n----------\n")[1].split("\n\n")[0]
    documented = re.findall(r"^(\w+) : .*?default=(.*)$", section, re.MULTILINE)
    signature = inspect.signature(network).parameters
    expected = {
        name: f'"{p.default}"' if isinstance(p.default, str) else repr(p.default)
        for name, p in signature.items()
    }
    assert len(documented) == len(signature)
    assert dict(documented) == expected
    assert "variables_ :" in network.__doc__.split("Attributes\n----------\n")[1]


@pytest.mark.parametrize("network", NETWORKS)
def test_parameters_are_those_of_the_signature(network):
    names = set(inspect.signature(network).parameters)
    assert set(network().get_params()) == names == set(network._parameter_constraints)
    changed = network(max_epochs=7, learning_rate=0.5)
    assert clone(changed).get_params() == changed.get_params()
    assert (changed.max_epochs, changed.learning_rate) == (7, 0.5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        network(epochs=3)


def test_an_encoder_that_is_fixed_is_no_parameter():
    net = ResNet50Segmenter(weights="random")
    assert net.encoder == "resnet50"
    assert "encoder" not in net.get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'encoder'"):
        net.set_params(encoder="vgg16")
    assert EncoderUNetSegmenter("vgg16").encoder == "vgg16"


def test_a_parameter_without_constraint_is_refused():
    with pytest.raises(TypeError, match="Free: size in no _parameter_constraints"):

        @with_parameters
        class Free(BaseEstimator):
            size: int = 3


def two_layers(activation):
    @with_parameters
    class TwoLayers(NetworkSegmenter):
        """Segment by two convolutions.

        Parameters
        ----------
        filters : int, default=4
            Of the first.
        """

        filters: int = 4
        _parameter_constraints: ClassVar[dict] = {
            "filters": [Interval(Integral, 1, None, closed="left")]
        }

        def build(self, size, *, filters):
            from hybridus._keras import keras

            layers = keras.layers
            inputs = keras.Input((*size, 1))
            x = layers.Conv2D(filters, 3, padding="same", activation=activation, name="first")(
                inputs / 255.0
            )
            x = layers.Conv2D(1, 3, padding="same", name="second")(x)
            return inputs, layers.Activation("sigmoid", dtype="float32")(x)

    return TwoLayers(image_size=8, max_epochs=1, random_state=0)


def test_an_architecture_is_a_builder_and_a_class():
    images, masks = discs(8, size=8)
    net = two_layers("relu").set_params(filters=np.int64(3)).fit(images, masks)
    assert net.variables_["first/kernel"].shape == (3, 3, 1, 3)
    assert net.predict(images).shape == (8, 8, 8, 1)
    with pytest.raises(ValueError, match="'filters' parameter of TwoLayers"):
        clone(net).set_params(filters=0).fit(images, masks)


def test_classes_of_one_name_are_told_apart():
    """A network is found again by its class, not by the name of that."""
    images, masks = discs(8, size=8)
    first = two_layers("relu").fit(images, masks)
    second = two_layers("tanh").fit(images, masks)
    assert np.abs(first.predict_proba(images) - second.predict_proba(images)).max() > 1e-3
