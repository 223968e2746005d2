"""scikit-learn's estimator checks over every public segmenter.

The checks send rows of numbers and one label a row: flattened images and constant masks.
"""

import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny_networks import TINY

from hybridus.estimators import segmenters
from hybridus.estimators.segmenters import (
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    PixelSegmenter,
    ResNet50Segmenter,
    UNetSegmenter,
    VotingSegmenter,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_networks")]

# Networks small enough for hundreds of fits; without batch normalisation they compile faster.
# The checks send flattened rows of small numbers, which are images where this is declared.
VALUE_RANGE = (0, 19)
ONCE = {
    "max_epochs": 1,
    "augmentation": "light",
    "tta": False,
    "random_state": 0,
    "value_range": VALUE_RANGE,
}
SMALL_ENCODER = {
    "weights": "random",
    "image_size": 32,
    "mask_size": 8,
    "decoder_filters": (4,),
    "decoder_stride": 2,
    "batch_norm": False,
    **ONCE,
}
SEGMENTERS = [
    UNetSegmenter(depth=1, base_filters=2, batch_norm=False, image_size=8, **ONCE),
    DnCNNSegmenter(n_layers=2, filters=2, image_size=8, **ONCE),
    EncoderUNetSegmenter(TINY, **SMALL_ENCODER),
    ResNet50Segmenter(layers=["conv1_relu", "conv2_block1_1_relu"], **SMALL_ENCODER),
    PixelSegmenter(
        LogisticRegression(),
        features="basic",
        mask_size=8,
        n_pixels=20,
        random_state=0,
        value_range=VALUE_RANGE,
    ),
]
SEGMENTERS.append(
    VotingSegmenter(
        [(f"seed {i}", clone(SEGMENTERS[0]).set_params(random_state=i)) for i in (0, 1)]
    )
)

# These are another network in the same estimator; what does not depend on it is checked once.
SAME_CODE = {"DnCNNSegmenter": "UNetSegmenter", "ResNet50Segmenter": "EncoderUNetSegmenter"}
CHECKED_FOR_EVERY_NETWORK = {
    "check_parameters_default_constructible",
    "check_no_attributes_set_in_init",
    "check_get_params_invariance",
    "check_set_params",
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_estimators_unfitted",
    "check_estimators_overwrite_params",
    "check_fit_idempotent",
    "check_estimators_pickle",
}

_MINI_BATCHES = {
    "check_sample_weight_equivalence_on_dense_data": "an image of weight 2 stands in one batch, an "
    "image given twice in two, each time augmented anew",
}
_ALL_LESION = "the check's masks are lesion everywhere, which leaves a classifier nothing to tell"
EXPECTED_FAILURES = {
    "UNetSegmenter": _MINI_BATCHES,
    "DnCNNSegmenter": _MINI_BATCHES,
    "EncoderUNetSegmenter": _MINI_BATCHES,
    "ResNet50Segmenter": _MINI_BATCHES,
    "VotingSegmenter": _MINI_BATCHES,
    "PixelSegmenter": {
        "check_sample_weight_equivalence_on_dense_data": "pixels are drawn for each image, so an "
        "image given twice is trained on with other pixels the second time",
        "check_estimators_dtypes": _ALL_LESION,
        "check_sample_weights_pandas_series": _ALL_LESION,
        "check_sample_weights_not_an_array": _ALL_LESION,
        "check_sample_weights_shape": _ALL_LESION,
        "check_sample_weights_not_overwritten": _ALL_LESION,
    },
}


def test_no_segmenter_is_left_out():
    public = {name for name in segmenters.__all__ if name.endswith("Segmenter")}
    public -= {"NetworkSegmenter"}  # the base of them
    assert {type(segmenter).__name__ for segmenter in SEGMENTERS} == public


def name_of(check):
    return check.func.__name__


@parametrize_with_checks(
    [each for each in SEGMENTERS if type(each).__name__ not in SAME_CODE],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator).__name__],
    xfail_strict=True,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("segmenter", "check"),
    [
        pytest.param(each, check, id=f"{type(each).__name__}-{name_of(check)}")
        for each in SEGMENTERS
        if type(each).__name__ in SAME_CODE
        for _, check in estimator_checks.estimator_checks_generator(each)
        if name_of(check) in CHECKED_FOR_EVERY_NETWORK
    ],
)
def test_scikit_learn_checks_of_another_network_in_the_same_estimator(segmenter, check):
    check(clone(segmenter))


@pytest.mark.parametrize(("name", "checked"), SAME_CODE.items())
def test_what_is_checked_once_is_one_code(name, checked):
    for method in ("fit", "predict", "predict_proba", "score"):
        code = getattr(getattr(segmenters, name), method).__code__
        assert code is getattr(getattr(segmenters, checked), method).__code__


@pytest.mark.parametrize("segmenter", SEGMENTERS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    "check", ["check_param_validation", "check_dataframe_column_names_consistency"]
)
def test_checks_that_scikit_learn_leaves_out(segmenter, check):
    getattr(estimator_checks, check)(type(segmenter).__name__, clone(segmenter))
