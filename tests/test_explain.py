"""Evidence: its sums, its slopes, its places, and how much of it lies on the lesion."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC

import hybridus
from hybridus import (
    DeepFeatureExtractor,
    EvidenceScorer,
    FineTunedClassifier,
    LesionFeatures,
    PixelSegmenter,
    SpeckleFilter,
    compare,
    evidence_on_lesion,
    explain,
    make_breast_phantoms,
    make_hybrid_classifier,
    make_preset,
)
from hybridus.evidence.heads import head_slopes, through_step
from hybridus.evidence.places import check_places
from hybridus.evidence.votes import slopes_of_probabilities
from hybridus.exceptions import CannotExplainError
from hybridus.protocol.final import fit_final
from hybridus.protocol.run import run_fold

NARROW = {"weights": "bundled", "image_size": 64}
LAYERS = ["block_3_expand_relu", "block_6_expand_relu"]


@pytest.fixture(scope="module")
def phantoms():
    return make_breast_phantoms(30, image_size=64, random_state=0)


@pytest.fixture(scope="module")
def rows():
    X = np.random.default_rng(0).normal(size=(60, 7))
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] + X[:, 2] > 0.5)


@pytest.fixture(scope="module")
def network(phantoms):
    return FineTunedClassifier(
        "mobilenet_v2_0.35",
        weights="bundled",
        image_size=64,
        layers=["block_6_expand_relu", "out_relu"],
        trainable="last:3",
        hidden_layer_sizes=(8,),
        max_epochs=2,
        random_state=0,
    ).fit(phantoms.images, phantoms.target)


@pytest.fixture(scope="module")
def vote(phantoms):
    pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=32, random_state=0)
    known = FrozenEstimator(pixels.fit(phantoms.images, phantoms.masks))
    members = [
        ("whole", hybrid(layers=LAYERS)),
        ("lesion", make_pipeline(LesionFeatures(known), StandardScaler(), hybrid()["head"])),
    ]
    vote = VotingClassifier(members, voting="soft", weights=[3, 1])
    return vote.fit(list(phantoms.images), phantoms.target + 5)


def hybrid(head="logreg", **parameters):
    return make_hybrid_classifier("mobilenet_v2_0.35", head, **NARROW | parameters)


def sums(found):
    return np.stack([one.sum(axis=(1, 2)) for one in found.maps]) + found.elsewhere + found.offset


class TestSums:
    @pytest.mark.parametrize("pooling", ["avg", "max", "avgmax", "gem", "flatten"])
    @pytest.mark.parametrize("resize", ["stretch", "pad"])
    def test_of_linear_heads_the_maps_sum_to_the_decision(self, phantoms, pooling, resize):
        size = (48, 64)
        pipe = hybrid(pooling=pooling, resize=resize, layers=LAYERS, image_size=size)
        pipe.fit(phantoms.images, phantoms.target)
        found = explain(pipe, phantoms.images[:4])
        decision = pipe.decision_function(phantoms.images[:4])
        np.testing.assert_allclose(sums(found), decision, atol=1e-4)
        # What is not on the maps is the same for all images: the score at the mean of training.
        assert np.ptp(found.offset, axis=0).max() < 1e-4
        np.testing.assert_allclose(found.offset[0], pipe["head"].intercept_, atol=1e-4)
        assert (np.abs(found.elsewhere).max() > 1e-6) == (resize == "pad")

    @pytest.mark.parametrize(
        "head", [LinearSVC(), RidgeClassifier(), LogisticRegression()], ids=lambda h: str(h)
    )
    def test_of_two_classes_too(self, phantoms, head):
        y = np.where(phantoms.target == 1, "malignant", "other")
        pipe = hybrid(head, layers=LAYERS).fit(phantoms.images, y)
        found = explain(pipe, phantoms.images[:3])
        np.testing.assert_allclose(
            sums(found)[:, 1], pipe.decision_function(phantoms.images[:3]), atol=1e-4
        )
        np.testing.assert_allclose(found.maps[0][0], -found.maps[0][1])
        assert found.classes.tolist() == ["malignant", "other"]

    @pytest.mark.filterwarnings("ignore:Features:UserWarning", "ignore:invalid value")
    def test_of_several_encoders_and_steps(self, phantoms):
        union = FeatureUnion(
            [
                ("a", DeepFeatureExtractor("mobilenet_v2_0.35", layers=LAYERS, **NARROW)),
                ("b", DeepFeatureExtractor("mobilenet_v2_0.35", layers="last", **NARROW)),
            ],
            transformer_weights={"b": 0.3},
        )
        steps = (StandardScaler(), SelectKBest(k=100), RobustScaler(), MinMaxScaler())
        steps += (PCA(8, whiten=True),)
        pipe = make_pipeline(union, *steps, LogisticRegression())
        pipe.fit(phantoms.images, phantoms.target)
        found = explain(pipe, phantoms.images[:3])
        np.testing.assert_allclose(
            sums(found), pipe.decision_function(phantoms.images[:3]), atol=1e-4
        )
        assert np.ptp(found.offset, axis=0).max() < 1e-4

    def test_of_features_of_the_lesion(self, phantoms):
        pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=32, random_state=0)
        known = FrozenEstimator(pixels.fit(phantoms.images, phantoms.masks))
        pipe = hybrid(lesion=known, layers=LAYERS).fit(phantoms.images, phantoms.target)
        found = explain(pipe, phantoms.images[:3])
        np.testing.assert_allclose(
            sums(found), pipe.decision_function(phantoms.images[:3]), atol=1e-4
        )
        assert np.ptp(found.offset, axis=0).max() < 1e-4
        rows = pipe[:-1].transform(phantoms.images[:3])
        names = list(pipe["features"].get_feature_names_out())
        place = names.index("shape_Solidity")
        np.testing.assert_allclose(
            found.by_feature.loc["shape_Solidity"].to_numpy().reshape(3, 3),
            rows[:, [place]] * pipe["head"].coef_[:, place],
            atol=1e-8,
        )

    def test_evidence_of_crops_lies_where_they_were_cut(self, phantoms):
        pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=32, random_state=0)
        known = FrozenEstimator(pixels.fit(phantoms.images, phantoms.masks))
        extractor = DeepFeatureExtractor("mobilenet_v2_0.35", layers=LAYERS, **NARROW)
        lesions = LesionFeatures(known, extractor, contexts=[1.2], measurements=False)
        pipe = make_pipeline(lesions, StandardScaler(), LogisticRegression())
        pipe.fit(phantoms.images, phantoms.target)
        found = explain(pipe, phantoms.images)
        for region, one in zip(lesions.regions(phantoms.images), found.maps, strict=True):
            top, left, bottom, right = (np.array(region.box) * 64).round().astype(int)
            longer = max(bottom - top, right - left)
            reach = int(0.1 * longer) + longer // 2 + 3
            middle = (top + bottom) // 2, (left + right) // 2
            rows, columns = (slice(max(0, m - reach), m + reach) for m in middle)
            inside = np.zeros((64, 64), bool)
            inside[rows, columns] = True
            assert np.abs(one[:, ~inside]).max() <= 1e-9


class TestSlopes:
    @pytest.mark.parametrize(
        "head",
        [
            SVC(C=2),
            SVC(kernel="poly", degree=2, coef0=1.0),
            SVC(kernel="sigmoid", gamma=0.02),
            SVC(kernel="linear"),
            NuSVC(nu=0.2),
            MLPClassifier((9, 5), "tanh", random_state=0, max_iter=20),
            MLPClassifier((9,), "logistic", random_state=0, max_iter=20),
            MLPClassifier((9, 5), random_state=0, max_iter=20),
            LogisticRegression(),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_are_those_of_small_differences(self, rows, head, n_classes):
        X, y = rows[0], np.minimum(rows[1], n_classes - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head.fit(X, y)
        found = head_slopes(head, X[:5])
        for j in range(X.shape[1]):
            step = np.zeros(X.shape[1])
            step[j] = 1e-5
            up, down = (head_slopes(head, X[:5] + sign * step).scores for sign in (1, -1))
            np.testing.assert_allclose(found.weights[..., j], (up - down) / 2e-5, atol=1e-4)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_scores_of_svms_are_their_decisions_between_two(self, rows, n_classes):
        X, y = rows[0], np.minimum(rows[1], n_classes - 1)
        head = SVC(decision_function_shape="ovo").fit(X, y)
        pairs = head.decision_function(X).reshape(len(X), -1)
        scores = head_slopes(head, X).scores
        if n_classes == 2:
            np.testing.assert_allclose(scores[:, 1], pairs[:, 0], atol=1e-9)
        else:  # pairs are 0 against 1, 0 against 2, 1 against 2
            np.testing.assert_allclose(scores[:, 0], (pairs[:, 0] + pairs[:, 1]) / 2, atol=1e-9)
            np.testing.assert_allclose(scores[:, 2], -(pairs[:, 1] + pairs[:, 2]) / 2, atol=1e-9)

    def test_of_perceptrons_the_score_is_what_the_softmax_takes(self, rows):
        head = MLPClassifier((9,), tol=1.0, random_state=0).fit(*rows)
        scores = head_slopes(head, rows[0]).scores
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shares, head.predict_proba(rows[0]), atol=1e-9)


class TestNetworks:
    @pytest.mark.slow
    def test_scores_are_those_of_the_network_and_maps_sum_to_them(self, network, phantoms):
        found = explain(network, phantoms.images[:6])
        shares = np.exp(found.scores) / np.exp(found.scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shares, network.predict_proba(phantoms.images[:6]), atol=1e-5)
        np.testing.assert_allclose(sums(found), found.scores, atol=1e-4)
        assert (found.predicted == network.predict(phantoms.images[:6])).all()
        assert max(np.ptp(one, axis=(1, 2)).max() for one in found.maps) > 1e-4

    @pytest.mark.slow
    def test_a_model_from_a_file_explains_the_same(self, network, phantoms, tmp_path):
        for model in (network, hybrid(layers=LAYERS).fit(phantoms.images, phantoms.target)):
            hybridus.save(model, tmp_path / "model.hybridus")
            read = hybridus.load(tmp_path / "model.hybridus")
            given, again = (explain(one, phantoms.images[:2]) for one in (model, read))
            np.testing.assert_allclose(again.maps[1], given.maps[1], atol=1e-6)


class TestWhere:
    @pytest.mark.slow
    def test_a_planted_mark_is_where_the_evidence_lies(self):
        rng = np.random.default_rng(0)
        phantoms = make_breast_phantoms(60, image_size=64, random_state=1)
        images, y = phantoms.images.copy(), rng.integers(0, 2, 60)
        images[y == 1, 4:14, 48:58] = 255
        corner = np.zeros((60, 64, 64), bool)
        corner[:, 0:18, 44:62] = True
        for head in ("logreg", "svm", "mlp"):
            pipe = hybrid(head, layers=["block_3_expand_relu"]).fit(images, y)
            table = evidence_on_lesion(pipe, images[y == 1], y[y == 1], corner[y == 1])
            assert table.loc["all", "area"] == pytest.approx(18 * 18 / 64**2)
            assert table.loc["all", "ratio"] > 2.5, head
            # Without the mark it is not there, so that the check can fail.
            clean = evidence_on_lesion(pipe, phantoms.images[y == 1], y[y == 1], corner[y == 1])
            assert clean.loc["all", "share"] < 0.6 * table.loc["all", "share"], head

    def test_shares_are_of_positive_evidence_and_of_images_with_a_lesion(self, phantoms):
        pipe = hybrid(layers=LAYERS).fit(phantoms.images, phantoms.target)
        found = explain(pipe, phantoms.images[:3])
        masks = np.zeros((3, 64, 64), bool)
        masks[1, :32], masks[2] = True, True
        table = found.on_lesion(masks)
        positive = np.maximum(found.of(1), 0)
        assert np.isnan(table.loc[0, ["share", "area", "ratio"]].astype(float)).all()
        assert table.loc[1, "share"] == pytest.approx(positive[:32].sum() / positive.sum())
        assert table.loc[2, ["share", "area", "ratio"]].tolist() == pytest.approx([1, 1, 1])
        assert found.of(1, 2) is not None
        for wrong in ({"masks": masks[:2]}, {"masks": masks, "labels": [0, 1]}):
            with pytest.raises(ValueError, match="the explanation is of 3 images"):
                found.on_lesion(**wrong)
        unknown = found.on_lesion(masks, [0, 7, 1])
        assert np.isnan(unknown.loc[1, "share"])
        assert unknown.loc[2, "share"] == pytest.approx(1)
        with pytest.raises(ValueError, match="expected one of"):
            found.of(1, "cyst")


class TestInComparisons:
    def test_it_stands_in_the_table_where_masks_are_given(self, phantoms, tmp_path):
        models = {
            "linear": hybrid(layers=LAYERS),
            "forest": hybrid(RandomForestClassifier(3), layers=LAYERS),
        }
        given = {"groups": "independent", "n_splits": 2, "study": tmp_path / "study"}
        plain = compare(models, phantoms.images, phantoms.target, **given)
        found = compare(models, phantoms.images, phantoms.target, masks=phantoms.masks, **given)
        assert "evidence_on_lesion" not in plain.metrics
        assert found.metrics[:-1] == plain.metrics
        assert 0 < found.table.loc["linear", "evidence_on_lesion_mean"] < 1
        assert np.isnan(found.table.loc["forest", "evidence_on_lesion_mean"])
        assert "lies on the mask" in repr(found)
        train, test = found.results[0].train, found.results[0].test
        fitted = hybrid(layers=LAYERS).fit(phantoms.images[train], phantoms.target[train])
        expected = evidence_on_lesion(
            fitted, phantoms.images[test], phantoms.target[test], phantoms.masks[test]
        ).loc["all", "share"]
        assert found.folds.loc[0, "evidence_on_lesion"] == pytest.approx(expected, abs=1e-6)
        # Other masks are another comparison.
        moved = compare(
            models, phantoms.images, phantoms.target, masks=phantoms.masks[:, ::-1], **given
        )
        assert (
            moved.table.loc["linear", "evidence_on_lesion_mean"]
            != found.table.loc["linear", "evidence_on_lesion_mean"]
        )

    def test_a_class_that_training_lacks_does_not_fail_the_fold(self, phantoms):
        train, test = np.flatnonzero(phantoms.target != 1), np.flatnonzero(phantoms.target > 0)
        fold = train[:-4], np.concatenate([test[phantoms.target[test] == 1], train[-4:]])
        given = (phantoms.images, phantoms.target, fold, ["accuracy"])
        found = run_fold(hybrid(layers=LAYERS), *given, masks=phantoms.masks)
        plain = run_fold(hybrid(layers=LAYERS), *given)
        assert found.scores["accuracy"] == plain.scores["accuracy"]

    def test_searches_and_calibrated_models_are_explained(self, phantoms):
        search = GridSearchCV(hybrid(layers=LAYERS), {"head__C": [0.01]}, cv=2)
        search.fit(phantoms.images, phantoms.target)
        plain = explain(search.best_estimator_, phantoms.images[:2])
        np.testing.assert_array_equal(explain(search, phantoms.images[:2]).maps, plain.maps)
        final = fit_final(hybrid(layers=LAYERS), phantoms.images, phantoms.target).estimator
        assert explain(final, phantoms.images[:2]).maps[0].shape == (3, 64, 64)


class TestVotes:
    def test_maps_and_offset_sum_to_the_mean_probability(self, vote, phantoms):
        found = explain(vote, phantoms.images[:3])
        said = vote.predict_proba(phantoms.images[:3])
        np.testing.assert_allclose(sums(found), said, atol=1e-5)
        np.testing.assert_allclose(found.scores, said)
        assert found.classes.tolist() == [5, 6, 7]
        np.testing.assert_array_equal(found.predicted, vote.predict(phantoms.images[:3]))

    def test_evidence_of_a_member_counts_by_what_it_moves(self, vote, phantoms):
        """A small change of what a member says changes the mean as the maps say."""
        member = vote.named_estimators_["lesion"]
        lesions, scaler, head = (step for _, step in member.steps)
        one = phantoms.images[:1]
        features = scaler.transform(lesions.transform(one))
        slight = 1e-3
        moved = head.predict_proba((1 - slight) * features) - head.predict_proba(features)
        found = explain(vote, one)
        named = found.by_feature.filter(regex="^lesion__", axis=0)
        assert len(named) == 74
        # All its features together, as far as they are from the mean of training.
        np.testing.assert_allclose(
            named.sum().to_numpy(), -moved[0] / slight / 4, rtol=5e-3, atol=1e-6
        )

    def test_of_one_member_a_vote_is_that_member(self, phantoms):
        vote = VotingClassifier([("a", hybrid(layers=LAYERS)), ("b", "drop")], voting="soft")
        y = (phantoms.target == 1).astype(int)
        vote.fit(phantoms.images, y)
        alone = explain(vote.estimators_[0], phantoms.images[:2])
        found = explain(vote, phantoms.images[:2])
        p = vote.predict_proba(phantoms.images[:2])
        slope = (p[:, 0] * p[:, 1])[:, np.newaxis, np.newaxis]  # of a logistic curve
        for k in (0, 1):
            np.testing.assert_allclose(
                np.stack(found.maps)[:, k], np.stack(alone.maps)[:, k] * slope, atol=1e-7
            )

    def test_what_has_no_slope_is_refused(self, vote, phantoms):
        majority = VotingClassifier([("a", hybrid(layers=LAYERS))])
        majority.fit(phantoms.images, phantoms.target)
        with pytest.raises(CannotExplainError, match="voting='soft'"):
            explain(majority, phantoms.images[:2])
        with pytest.raises(CannotExplainError, match="probabilities of forest are no softmax"):
            slopes_of_probabilities(
                "forest", np.array([[0.0, 1], [2, 0]]), np.array([[0.5, 0.5], [0.1, 0.9]])
            )

    def test_the_preset_of_whole_image_and_lesion_is_known(self):
        assert make_preset("lesion-fusion").voting == "soft"


class TestScorer:
    def test_it_is_the_score_of_a_comparison(self, phantoms):
        given = phantoms.images, phantoms.target
        folds = [(np.arange(15), np.arange(15, 30))]
        pipe = hybrid(layers=LAYERS)
        with sklearn.config_context(enable_metadata_routing=True):
            found = cross_validate(
                pipe,
                *given,
                cv=folds,
                scoring={"evidence": EvidenceScorer(), "accuracy": "accuracy"},
                params={"masks": phantoms.masks},
            )
        fold = run_fold(pipe, *given, folds[0], "accuracy", masks=phantoms.masks)
        assert found["test_evidence"][0] == pytest.approx(fold.scores["evidence_on_lesion"])
        assert found["test_accuracy"][0] == fold.scores["accuracy"]

    def test_without_masks_it_says_how_to_give_them(self, phantoms):
        pipe = hybrid(layers=LAYERS).fit(phantoms.images, phantoms.target)
        with pytest.raises(ValueError, match="enable_metadata_routing"):
            EvidenceScorer()(pipe, phantoms.images, phantoms.target)


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (RandomForestClassifier(3), "cannot be explained: expected a pipeline"),
            (make_pipeline(SpeckleFilter(), LogisticRegression()), "cannot be brought back"),
        ],
    )
    def test_of_models_without_places(self, model, message):
        X = np.random.default_rng(0).random((12, 64))
        model.fit(X, np.arange(12) % 2)
        with pytest.raises(ValueError, match=message):
            explain(model, X)

    def test_such_models_have_no_score_and_fail_no_fold(self, phantoms):
        class Own(ClassifierMixin, BaseEstimator):
            """Says less of itself than scikit-learn's own."""

            def fit(self, X, y):
                self.classes_ = np.unique(y)
                return self

            def predict(self, X):
                return np.full(len(X), self.classes_[0])

        for head in (Own(), RandomForestClassifier(2)):
            model = hybrid(head, layers=LAYERS)
            fold = np.arange(15), np.arange(15, 30)
            given = (phantoms.images, phantoms.target, fold, "accuracy")
            found = run_fold(model, *given, masks=phantoms.masks)
            assert np.isnan(found.scores["evidence_on_lesion"])

    def test_of_heads_and_steps_that_have_no_slope(self):
        X, y = np.random.default_rng(0).random((12, 4)), np.arange(12) % 2
        with pytest.raises(ValueError, match="RandomForestClassifier cannot be explained"):
            head_slopes(RandomForestClassifier(2).fit(X, y), X)
        with pytest.raises(ValueError, match="kernel="):
            head_slopes(SVC(kernel="precomputed").fit(X @ X.T, y), X @ X.T)
        with pytest.raises(ValueError, match="step Normalizer"):
            through_step(Normalizer(), np.zeros((1, 2, 4)), 4)


class TestPictures:
    @pytest.fixture(autouse=True)
    def closed(self):
        import matplotlib.pyplot as plt

        yield
        plt.close("all")

    def test_each_image_is_drawn_with_its_lesion_and_its_share(self, phantoms):
        from hybridus.report import EvidenceDisplay

        y, names = phantoms.target[:5], list(phantoms.target_names)
        pipe = hybrid(layers=LAYERS).fit(phantoms.images, phantoms.target)
        shown = EvidenceDisplay.from_estimator(
            pipe, phantoms.images[:5], masks=phantoms.masks[:5], y=y, class_names=names
        )
        assert len(shown.axes_) == 8
        said = pipe.predict(phantoms.images[:5])
        for i, ax in enumerate(shown.axes_[:5]):
            title = ax.get_title()
            assert title.startswith(f"answer {names[said[i]]}, truth {names[y[i]]}")
            assert ("on the lesion" in title) == bool(phantoms.masks[i].any())
            scan, overlay = ax.get_images()
            np.testing.assert_array_equal(scan.get_array(), phantoms.images[i])
            signs = np.sign(shown.explanation.of(i))
            red, blue = overlay.get_array()[..., 0], overlay.get_array()[..., 2]
            strong = np.abs(shown.explanation.of(i)) > np.abs(shown.explanation.of(i)).max() / 2
            assert ((red > blue) == (signs > 0))[strong].all()
        of_one = EvidenceDisplay.from_explanation(
            phantoms.images[:5], shown.explanation, label=1, masks=phantoms.masks[:5]
        )
        assert (of_one.table_["label"] == 1).all()
        assert "evidence for 1" in of_one.axes_[int(np.flatnonzero(said != 1)[0])].get_title()
        for given in ({"masks": phantoms.masks}, {"y": phantoms.target}):
            with pytest.raises(ValueError, match="the explanation is of 5"):
                EvidenceDisplay.from_explanation(phantoms.images[:5], shown.explanation, **given)


@pytest.fixture(scope="module")
def two_classes():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 5))
    return rows, (rows[:, 0] + 0.1 * rng.normal(size=40) > 0).astype(int)


@pytest.fixture(scope="module")
def planted_pipeline():
    phantoms = make_breast_phantoms(12, image_size=64, random_state=0)
    images = np.stack(list(phantoms.images))
    features = DeepFeatureExtractor("mobilenet_v2_0.35", layers=LAYERS, **NARROW)
    pipe = make_pipeline(features, StandardScaler(), LogisticRegression())
    return pipe.fit(images, phantoms.target), images[:4]


class TestWhatStandsAround:
    """Searches, calibrations and frozen estimators around what is explained."""

    def test_the_head_that_decides_is_found(self, two_classes):
        X, y = two_classes
        plain = LogisticRegression().fit(X, y)
        around = [
            FrozenEstimator(plain),
            GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(X, y),
            CalibratedClassifierCV(LogisticRegression(), ensemble=False, cv=2).fit(X, y),
        ]
        expected = head_slopes(plain, X)
        for one in around:
            np.testing.assert_allclose(head_slopes(one, X)[1], expected[1], rtol=1e-6)
        several = CalibratedClassifierCV(LogisticRegression(), ensemble=True, cv=2).fit(X, y)
        with pytest.raises(CannotExplainError, match="ensemble of 2 classifiers"):
            head_slopes(several, X)

    def test_a_step_that_does_nothing_changes_nothing(self):
        weights = np.ones((2, 3, 4))
        assert through_step("passthrough", weights, 4) is weights
        assert through_step(None, weights, 4) is weights

    def test_masks_of_another_size_are_brought_to_that_of_the_image(self, planted_pipeline):
        pipe, images = planted_pipeline
        whole = explain(FrozenEstimator(pipe), images)
        size = images[0].shape
        left = np.zeros((len(images), *size), bool)
        left[:, :, : size[1] // 2] = True
        small = left[:, ::2, ::2]
        found = [whole.on_lesion(list(masks))["share"].to_numpy() for masks in (left, small)]
        np.testing.assert_allclose(found[0], found[1], atol=0.02)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"pooling": "gram"}, "pooling='gram' mixes"),
            ({"views": ["mirror"]}, "means over views"),
        ],
    )
    def test_features_without_a_place_of_their_own_are_refused(self, changes, message):
        features = DeepFeatureExtractor("mobilenet_v2_0.35", **NARROW, **changes)
        with pytest.raises(CannotExplainError, match=message):
            check_places(features)
