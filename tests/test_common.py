"""scikit-learn's estimator checks over every public estimator."""

from copy import deepcopy

import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny_networks import TINY

from hybridus import (
    DeepFeatureExtractor,
    FineTunedClassifier,
    LesionFeatures,
    PixelSegmenter,
    StableFeatures,
    TextureFeatures,
    make_breast_phantoms,
    make_hybrid_classifier,
)
from hybridus.inputs.scanner import ScannerChange

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_networks")]

# The checks send flattened rows of small numbers, which are images where this is declared.
VALUE_RANGE = (0, 19)
# An encoder small enough for hundreds of fits.
FAST = {
    "encoder": "mobilenet_v2_0.35",
    "weights": "random",
    "layers": ["block_3_expand_relu"],
    "image_size": 32,
    "value_range": VALUE_RANGE,
}


class HybridPipeline(Pipeline):
    """The same pipeline, telling the checks what its first step wants.

    scikit-learn's Pipeline does not hand on the tag `positive_only`, and images are not negative.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


def hybrid(head):
    return HybridPipeline(make_hybrid_classifier(head=head, random_state=0, **FAST).steps)


def fine_tuned(trainable):
    return FineTunedClassifier(
        TINY,
        weights="random",
        trainable=trainable,
        hidden_layer_sizes=(32,),
        dropout_rate=0.0,
        augmentation=None,
        learning_rate=0.03,
        value_range=VALUE_RANGE,
        max_epochs=5,
        random_state=0,
    )


def of_lesions():
    """Features by a segmenter that is fitted already: the checks send no masks."""
    phantoms = make_breast_phantoms(4, image_size=32, random_state=0)
    pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=16, random_state=0)
    pixels.fit(phantoms.images, phantoms.masks).set_params(value_range=VALUE_RANGE)
    # A copy, since the checks tell changes by joblib's hash, which a first copy changes.
    return LesionFeatures(FrozenEstimator(deepcopy(pixels)))


_PIPELINE = {
    "check_estimators_overwrite_params": "scikit-learn's Pipeline fits the steps it was given",
    "check_dont_overwrite_parameters": "scikit-learn's Pipeline fits the steps it was given",
}
EXPECTED_FAILURES = {
    "DeepFeatureExtractor": {},
    "LesionFeatures": {},
    "StableFeatures": {},
    "TextureFeatures": {},
    "LogisticRegression": _PIPELINE,
    "FineTunedClassifier": {
        "check_sample_weight_equivalence_on_dense_data": "an image of weight 2 stands in one batch "
        "of an epoch, an image given twice in two",
        "check_class_weight_classifiers": "the check ignores the tag positive_only and sends "
        "negative values, which are no image",
    },
}


def expected_failures(estimator):
    if isinstance(estimator, Pipeline):
        estimator = estimator["head"]
    return EXPECTED_FAILURES[type(estimator).__name__]


# One head that is scikit-learn's own, for the others run no other code of ours, and one of ours.
@parametrize_with_checks(
    [
        DeepFeatureExtractor(**FAST),
        hybrid("logreg"),
        fine_tuned("all"),
        of_lesions(),
        TextureFeatures(kinds=["intensity"], value_range=VALUE_RANGE),
        StableFeatures(
            DeepFeatureExtractor(**FAST),
            changes=[ScannerChange("gain", 0.5)],
            value_range=VALUE_RANGE,
        ),
    ],
    expected_failed_checks=expected_failures,
    xfail_strict=True,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("head", ["svm", "mlp"])
@pytest.mark.parametrize(
    "check", ["check_methods_sample_order_invariance", "check_methods_subset_invariance"]
)
def test_answers_of_other_heads_depend_on_nothing_but_the_image(head, check):
    estimator = hybrid(head)
    if head == "mlp":
        estimator.set_params(head__tol=1.0)  # a few steps are enough
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize(
    "check",
    [
        "check_param_validation",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_dataframe_column_names_consistency",
    ],
)
# What two of the checks do.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.filterwarnings("ignore:X has feature names")
def test_checks_that_scikit_learn_leaves_out(check):
    estimator = DeepFeatureExtractor(**FAST)
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize(
    "check", ["check_param_validation", "check_dataframe_column_names_consistency"]
)
def test_checks_of_fine_tuned_networks_that_scikit_learn_leaves_out(check):
    estimator = fine_tuned("none")
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)
