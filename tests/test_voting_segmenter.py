"""`VotingSegmenter`: the mean of several segmenters."""

import copy

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from tiny_images import boxed, discs

from hybridus.estimators.segmenters import (
    DnCNNSegmenter,
    PixelSegmenter,
    Postprocessing,
    UNetSegmenter,
    VotingSegmenter,
)
from hybridus.estimators.trained import NetworkEstimator
from hybridus.metrics import dice, dice_scorer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_networks")]

PLAIN = {"threshold": 0.5, "postprocess": None}  # answers are the mean and nothing else


def net(**changed):
    """A network that is compiled once for these tests."""
    options = {
        "n_layers": 3,
        "filters": 4,
        "image_size": 16,
        "max_epochs": 4,
        "learning_rate": 0.01,
        "batch_size": 8,
        "random_state": 0,
    }
    return DnCNNSegmenter(**{**options, **changed})


def pixels(**changed):
    options = {"features": "basic", "mask_size": 16, "n_pixels": 30, "random_state": 0}
    return PixelSegmenter(LogisticRegression(), **{**options, **changed})


def nets(n, **changed):
    return [(f"net_{k}", net(random_state=k, **changed)) for k in range(n)]


@pytest.fixture(scope="module")
def lesions():
    return discs(32)


@pytest.fixture(scope="module")
def unseen():
    return discs(12, seed=1)


@pytest.fixture(scope="module")
def mean(lesions):
    return VotingSegmenter(nets(3), **PLAIN, output_size="network").fit(*lesions)


class TestMean:
    def test_is_that_of_the_probabilities(self, mean, unseen):
        each = [
            clone(segmenter).set_params(output_size="network").fit(*discs(32))
            for _, segmenter in mean.estimators
        ]
        maps = [segmenter.predict_proba(unseen[0]) for segmenter in each]
        assert not np.array_equal(maps[0], maps[1])
        found = mean.predict_proba(unseen[0])
        assert found.dtype == np.float32
        assert found.shape == (12, 16, 16, 1)
        np.testing.assert_allclose(found, np.mean(maps, axis=0), atol=1e-6)
        np.testing.assert_array_equal(mean.predict(unseen[0]), found > 0.5)

    def test_of_one_segmenter_is_what_it_says(self, lesions, unseen):
        alone = VotingSegmenter([("net", net())], **PLAIN).fit(*lesions)
        expected = net().fit(*lesions)
        np.testing.assert_array_equal(
            alone.predict_proba(unseen[0]), expected.predict_proba(unseen[0])
        )
        assert alone.score(*unseen) == expected.score(*unseen)

    def test_is_weighted(self, mean, unseen):
        weighted = clone(mean).set_params(weights=[0, 2, 6]).fit(*discs(32))
        maps = [
            segmenter.set_params(output_size="network").predict_proba(unseen[0])
            for segmenter in map(copy.copy, weighted.estimators_)
        ]
        expected = 0.25 * maps[1] + 0.75 * maps[2]
        np.testing.assert_allclose(weighted.predict_proba(unseen[0]), expected, atol=1e-6)

    def test_joins_segmenters_of_different_kinds_and_sizes(self, lesions, unseen):
        kinds = [("net", net()), ("pixels", pixels(mask_size=8))]
        mixed = VotingSegmenter(kinds, **PLAIN).fit(*lesions)
        assert mixed.mask_size_ == (16, 16)
        assert mixed.predict(unseen[0]).shape == (12, 32, 32, 1)
        assert mixed.score(*unseen) > 0.6

    def test_finds_discs_and_is_scored_by_their_dice(self, mean, unseen):
        full = clone(mean).set_params(output_size="input").fit(*discs(32))
        score = full.score(*unseen)
        assert score == pytest.approx(dice(unseen[1], full.predict(unseen[0]), empty="one"))
        assert score > 0.6

    def test_is_that_of_the_fit_whatever_is_set_afterwards(self, mean, unseen):
        expected = mean.predict_proba(unseen[0])
        changed = copy.copy(mean)
        changed.estimators = nets(2, resize="pad")
        changed.weights = [1, 2]
        np.testing.assert_array_equal(changed.predict_proba(unseen[0]), expected)


class TestThreshold:
    def test_is_one_half_or_what_is_given(self, lesions):
        assert VotingSegmenter(nets(1), **PLAIN).fit(*lesions).threshold_ == 0.5
        given = VotingSegmenter(nets(1, threshold=0.2), threshold=0.3, postprocess=None).fit(
            *lesions
        )
        assert given.threshold_ == 0.3

    def test_auto_is_the_weighted_mean_of_those_of_the_segmenters(self, lesions):
        kinds = [("a", net(threshold=0.2)), ("b", net(threshold=0.6))]
        voting = VotingSegmenter(kinds, threshold="auto", postprocess=None, weights=[3, 1]).fit(
            *lesions
        )
        assert voting.threshold_ == pytest.approx(0.3)

    def test_masks_are_cleaned_once_at_the_end(self, mean, unseen):
        joined = clone(mean).set_params(postprocess=Postprocessing(largest=True)).fit(*discs(32))
        raw = mean.predict(unseen[0])
        cleaned = [Postprocessing(largest=True)(mask[..., 0].astype(bool)) for mask in raw]
        np.testing.assert_array_equal(joined.predict(unseen[0])[..., 0], cleaned)


class TestForms:
    def test_images_of_different_sizes(self, lesions):
        images, masks = lesions
        ragged = boxed([images[i][: 32 - i % 3] for i in range(32)])
        cut = boxed([masks[i][: 32 - i % 3] for i in range(32)])
        found = VotingSegmenter(nets(2), **PLAIN).fit(ragged, cut).predict(ragged)
        assert [mask.shape for mask in found[:3]] == [(32, 32, 1), (31, 32, 1), (30, 32, 1)]

    def test_weights_and_groups_reach_every_segmenter(self, lesions, monkeypatch):
        seen = []
        hold_out = NetworkEstimator._hold_out

        def spy(self, strata, counted, groups, seed):
            seen.append((len(counted), None if groups is None else list(groups)))
            return hold_out(self, strata, counted, groups, seed)

        monkeypatch.setattr(NetworkEstimator, "_hold_out", spy)
        weights, groups = np.arange(32) % 4 > 0, np.arange(32) // 2
        VotingSegmenter(nets(2), **PLAIN).fit(*lesions, sample_weight=weights, groups=groups)
        assert seen == [(24, list(groups))] * 2

    def test_groups_reach_the_inner_splits_of_a_cross_validation(self, lesions, monkeypatch):
        seen = []
        hold_out = NetworkEstimator._hold_out

        def spy(self, strata, counted, groups, seed):
            seen.append(list(groups))
            return hold_out(self, strata, counted, groups, seed)

        monkeypatch.setattr(NetworkEstimator, "_hold_out", spy)
        groups = np.arange(32) // 4
        with config_context(enable_metadata_routing=True):
            cross_validate(
                VotingSegmenter(nets(2), **PLAIN),
                *lesions,
                cv=GroupKFold(2),
                params={"groups": groups},
                error_score="raise",
            )
        assert len(seen) == 4
        assert seen[0] == seen[1] != seen[2] == seen[3]

    def test_a_search_changes_a_segmenter_by_its_name(self, lesions):
        search = GridSearchCV(
            VotingSegmenter(nets(2, max_epochs=2), **PLAIN),
            [
                {"net_1__loss": ["dice"], "weights": [None]},
                {"net_1__loss": ["binary_crossentropy"], "weights": [[1, 2]]},
            ],
            scoring=dice_scorer,
            cv=2,
            error_score="raise",
        ).fit(*lesions)
        best = search.best_estimator_
        assert best.named_estimators_.net_1.loss == search.best_params_["net_1__loss"]
        assert best.named_estimators_.net_0.loss == "binary_crossentropy"


class TestBadInput:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"estimators": []}, r"expected one or more \(name, segmenter\)"),
            ({"estimators": [net()]}, r"expected one or more \(name, segmenter\)"),
            ({"estimators": [("svm", LogisticRegression())]}, "'svm' is LogisticRegression"),
            ({"estimators": [("net", net()), ("net", net())]}, "not unique"),
            ({"weights": [1]}, "expected 2 numbers"),
            ({"weights": [1, -1]}, "0 or more"),
            ({"weights": [0, 0]}, "not all 0"),
            ({"weights": [1, np.nan]}, "0 or more"),
            (
                {"estimators": [("a", net()), ("b", net(resize="pad"))]},
                "'b' has resize='pad' and 'a' has 'stretch'",
            ),
            (
                {"estimators": [("a", net()), ("b", net(image_shape=(8, 8)))]},
                r"'b' has image_shape=\(8, 8\) and 'a' has None",
            ),
            ({"threshold": 2}, "threshold"),
        ],
    )
    def test_is_refused_before_anything_is_trained(self, lesions, changed, message, monkeypatch):
        monkeypatch.setattr(DnCNNSegmenter, "fit", lambda *_: pytest.fail("was trained"))
        with pytest.raises(ValueError, match=message):
            VotingSegmenter(nets(2), **PLAIN).set_params(**changed).fit(*lesions)

    def test_margins_that_would_not_lie_on_each_other(self, lesions):
        kinds = [
            ("square", net(resize="pad")),
            ("wide", net(resize="pad", image_size=(16, 24))),
        ]
        with pytest.raises(ValueError, match="ratio"):
            VotingSegmenter(kinds, **PLAIN).fit(*lesions)

    def test_prediction_before_fit(self, unseen):
        with pytest.raises(NotFittedError):
            VotingSegmenter([("unet", UNetSegmenter())]).predict(unseen[0])
