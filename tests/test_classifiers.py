"""`FineTunedClassifier`: what is learned, what is held out, what is used again."""

import os
import pickle
import random
import threading
import types
import warnings

import joblib
import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors.numpy import save_file
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError
from tiny_networks import TINY, UNNAMED, textures

from hybridus import (
    Augmentation,
    DeepFeatureExtractor,
    FineTunedClassifier,
    make_hybrid_classifier,
)
from hybridus.encoders import engine
from hybridus.encoders.weights import draw_weights
from hybridus.exceptions import DivergedError
from hybridus.store.activations import ACTIVATIONS
from hybridus.training import loop as training

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_networks")]

SMALL = {"encoder": "mobilenet_v2_0.35", "weights": "bundled", "image_size": 32}


def classifier(**changes):
    """All layers of a tiny network from random weights; of which no two fits differ by chance."""
    options = {
        "encoder": TINY,
        "weights": "random",
        "trainable": "all",
        "hidden_layer_sizes": (8,),
        "augmentation": None,
        "learning_rate": 0.01,
        "max_epochs": 3,
        "random_state": 0,
    }
    return FineTunedClassifier(**{**options, **changes})


def frozen(**changes):
    return classifier(**{"trainable": "none", **changes})


@pytest.fixture(scope="module")
def images():
    return textures(60)[0]


@pytest.fixture(scope="module")
def y():
    return textures(60)[1]


@pytest.fixture(scope="module")
def fitted(images, y):
    """Three epochs of the default; not to be changed."""
    return classifier().fit(images, y)


@pytest.fixture(scope="module")
def bundled():
    """An epoch over a frozen encoder with real weights; not to be changed."""
    return frozen(**SMALL, max_epochs=1).fit(*textures(16, size=32))


@pytest.fixture(scope="module")
def good(images, y):
    """Trained until it is good."""
    return classifier(max_epochs=60, learning_rate=0.02).fit(*textures(200))


@pytest.fixture
def splits(monkeypatch):
    """Samples trained on and held out, of each fit, with the groups that it was given."""
    from hybridus.estimators import trained as _network_estimator
    from hybridus.training.held_out import split_validation

    seen = []

    def spy(strata, groups, fraction, seed):
        train, held_out = split_validation(strata, groups, fraction, seed)
        seen.append((train, held_out, groups))
        return train, held_out

    monkeypatch.setattr(_network_estimator, "split_validation", spy)
    return seen


@pytest.fixture
def built(monkeypatch):
    """Networks that are built, by what was asked for; the pool is empty at first."""
    from hybridus.training.networks import classifier as module

    asked, build = [], module.build_classifier

    def counting(*arguments, **options):
        asked.append(options)
        return build(*arguments, **options)

    monkeypatch.setattr(module, "build_classifier", counting)
    monkeypatch.setattr(training, "_idle", [])
    return asked


@pytest.fixture
def encoded(monkeypatch):
    """How many images went through frozen networks; nothing is stored at first."""
    counted = []
    run = engine.OpenVINOEngine.run

    def counting(self, batches):
        for rows in run(self, batches):
            counted.extend(rows[:, 0])
            yield rows

    monkeypatch.setattr(engine.OpenVINOEngine, "run", counting)
    ACTIVATIONS.clear()
    yield counted
    ACTIVATIONS.clear()


def difference(one, other):
    assert one.keys() == other.keys()
    return max(np.abs(one[path] - other[path]).max() for path in one)


class TestLearning:
    def test_textures_are_told_apart(self, good):
        X, y = textures(200, seed=1)
        assert good.score(X, y) > 0.9
        assert good.history_["loss"].iloc[-1] < 0.5 * good.history_["loss"].iloc[0]

    @pytest.mark.parametrize("trainable", ["none", "last:2"])
    def test_so_they_are_by_the_last_layers_alone(self, trainable):
        net = classifier(
            trainable=trainable, hidden_layer_sizes=(32,), max_epochs=60, learning_rate=0.02
        ).fit(*textures(200))
        assert net.score(*textures(200, seed=1)) > 0.75

    def test_three_classes(self):
        net = classifier(max_epochs=40, learning_rate=0.02).fit(*textures(210, n_classes=3))
        X, y = textures(150, n_classes=3, seed=1)
        assert net.score(X, y) > 0.8
        assert net.predict_proba(X).shape == (150, 3)
        assert list(net.classes_) == [0, 1, 2]

    @pytest.mark.parametrize(
        "names", [["fine", "coarse"], [True, False], [7, -3], np.array(["b", "a"], dtype=object)]
    )
    def test_labels_of_any_type_are_learned_alike(self, fitted, images, y, names):
        labels = np.array([names[1 - code] for code in y])  # sorted, they are in the order of y
        net = classifier().fit(images, labels)
        assert list(net.classes_) == sorted(names)
        np.testing.assert_array_equal(net.predict_proba(images), fitted.predict_proba(images))
        np.testing.assert_array_equal(net.predict(images), net.classes_[fitted.predict(images)])

    def test_probabilities_sum_to_1(self, fitted, images):
        probabilities = fitted.predict_proba(images)
        assert probabilities.dtype == np.float64
        assert probabilities.min() >= 0
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)

    def test_every_form_of_the_images_gives_the_same(self, fitted, images, y, tmp_path):
        paths = [tmp_path / f"scan ({i}).png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        expected = fitted.predict_proba(images)
        read_only = images.copy()
        read_only.setflags(write=False)
        for X in (paths, images / 255, list(images), images.reshape(60, -1), read_only):
            np.testing.assert_array_equal(fitted.predict_proba(X), expected)
        for X in (paths, read_only):
            np.testing.assert_array_equal(classifier().fit(X, y).predict_proba(X), expected)

    def test_ragged_images(self, fitted, images, y):
        ragged = [image[: 5 + i % 4] for i, image in enumerate(images)]
        net = classifier().fit(ragged, y)
        assert not hasattr(net, "n_features_in_")
        alone = np.vstack([net.predict_proba([image]) for image in ragged[:5]])
        np.testing.assert_allclose(net.predict_proba(ragged)[:5], alone, atol=1e-6)
        assert fitted.n_features_in_ == 64

    def test_a_prediction_does_not_depend_on_the_others(self, fitted, images):
        expected = fitted.predict_proba(images)
        for rows in ([3], [5, 5, 0], np.arange(60)[::-1]):
            np.testing.assert_allclose(
                fitted.predict_proba(images[rows]), expected[rows], atol=1e-6
            )

    def test_many_images_are_predicted_in_parts(self, fitted, images, monkeypatch):
        from hybridus.estimators import trained as _network_estimator

        many = np.concatenate([images] * 3)
        expected = fitted.predict_proba(many)
        monkeypatch.setattr(_network_estimator, "TOGETHER", 50)
        np.testing.assert_allclose(fitted.predict_proba(many), expected, atol=1e-6)

    def test_without_hidden_layers_there_is_a_softmax_alone(self, images, y):
        net = frozen(hidden_layer_sizes=()).fit(images, y)
        assert net.variables_["softmax/kernel"].shape == (16, 2)
        assert not [path for path in net.variables_ if path.startswith("hidden")]

    def test_features_of_several_layers_stand_side_by_side(self, images, y):
        for trainable, cache in (("none", True), ("last:2", True), ("last:2", False)):
            net = classifier(layers="multi", trainable=trainable, cache=cache).fit(images, y)
            assert net.variables_["hidden_1/kernel"].shape == (8 + 16, 8)
            if cache:
                expected = net.predict_proba(images)
        np.testing.assert_allclose(net.predict_proba(images), expected, atol=1e-4)

    def test_layers_without_names_of_their_own_are_trained(self, images, y):
        values = []
        for _ in range(2):
            training._idle.clear()
            values.append(classifier(encoder=UNNAMED).fit(images, y).variables_)
        assert {"conv2d/kernel", "conv2d_1/kernel"} <= values[0].keys()
        assert difference(*values) == 0

    def test_mixed_precision_is_close(self, fitted, images, y):
        half = classifier(precision="bfloat16").fit(images, y)
        gap = np.abs(half.predict_proba(images) - fitted.predict_proba(images)).max()
        assert 0 < gap < 0.1
        assert {value.dtype for value in half.variables_.values()} == {np.dtype("float32")}

    def test_an_optimizer_may_be_configured(self, images, y):
        plain, heavy = (
            classifier(
                optimizer={"class_name": "SGD", "config": {"momentum": momentum}}, dropout_rate=0.0
            ).fit(images, y)
            for momentum in (0.0, 0.9)
        )
        named = classifier(optimizer="sgd", dropout_rate=0.0).fit(images, y)
        assert difference(plain.variables_, named.variables_) == 0
        assert difference(plain.variables_, heavy.variables_) > 1e-3

    def test_label_smoothing_keeps_probabilities_from_the_ends(self):
        X, y = textures(100)
        sharp, smooth = (
            classifier(label_smoothing=amount, max_epochs=12, learning_rate=0.05)
            .fit(X, y)
            .predict_proba(X)
            .max(axis=1)
            for amount in (0.0, 0.4)
        )
        assert smooth.mean() < 0.85 < sharp.mean()


class TestHistory:
    def test_columns_are_in_this_order(self, fitted):
        metrics = ["loss", "accuracy", "precision", "recall", "f1"]
        expected = [*metrics, *(f"val_{name}" for name in metrics), "learning_rate", "seconds"]
        assert list(fitted.history_.columns) == expected
        assert fitted.history_.index.name == "epoch"
        assert list(fitted.history_.index) == [1, 2, 3]
        assert fitted.n_iter_ == 3
        assert (fitted.history_["seconds"] > 0).all()

    def test_validation_of_the_best_epoch_is_that_of_the_model(self, splits):
        """What is kept is the best epoch; scikit-learn's metrics say the same of it."""
        X, y = textures(150, n_classes=3)
        net = classifier(max_epochs=25, learning_rate=0.05, patience=4).fit(X, y)
        _, held_out, _ = splits[-1]
        best = net.history_.loc[net.best_epoch_]
        assert net.best_epoch_ == net.history_["val_loss"].idxmin()
        assert net.best_epoch_ < net.n_iter_ <= net.best_epoch_ + 4
        probabilities, truth = net.predict_proba(X[held_out]), y[held_out]
        codes = probabilities.argmax(axis=1)
        assert best["val_loss"] == pytest.approx(log_loss(truth, probabilities), rel=1e-4)
        assert best["val_accuracy"] == pytest.approx(net.score(X[held_out], truth), abs=1e-6)
        for name, score in (
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        ):
            expected = score(truth, codes, average="macro", zero_division=0)
            assert best[f"val_{name}"] == pytest.approx(expected, abs=1e-6)

    def test_validation_loss_counts_weights_and_smoothing(self, images, y, splits):
        weights = np.linspace(0.2, 3, 60)
        net = classifier(label_smoothing=0.2).fit(images, y, sample_weight=weights)
        train, held_out, _ = splits[-1]
        log = np.log(net.predict_proba(images[held_out]))
        targets = np.eye(2)[y[held_out]] * 0.8 + 0.1
        each = -(targets * log).sum(axis=1) * weights[held_out] / weights[train].mean()
        best = net.history_["val_loss"][net.best_epoch_]
        assert best == pytest.approx(each.mean(), rel=1e-4)

    def test_without_validation_there_is_none(self, images, y, splits):
        net = classifier(validation_fraction=None).fit(images, y)
        assert not splits
        assert list(net.history_.columns) == [
            *("loss", "accuracy", "precision", "recall", "f1"),
            *("learning_rate", "seconds"),
        ]
        assert net.best_epoch_ == net.history_["loss"].idxmin()

    def test_schedules_are_in_it(self, images, y):
        rates = frozen(lr_schedule="cosine", max_epochs=4).fit(images, y).history_["learning_rate"]
        expected = 0.01 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
        np.testing.assert_allclose(rates, expected, rtol=1e-5)

    def test_a_line_an_epoch_is_printed_on_request(self, images, y, capsys):
        frozen(verbose=1).fit(images, y)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
        assert "val_f1" in lines[0]
        frozen().fit(images, y)
        assert capsys.readouterr().out == ""

    def test_a_fit_says_nothing_unasked(self, images, y):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            frozen().fit(images, y).predict(images)


class TestValidationPart:
    def test_is_stratified_and_left_out_of_training(self, images, y, splits):
        net = frozen(early_stopping=False).fit(images, y)
        _, held_out, groups = splits[0]
        assert groups is None
        assert len(held_out) in (8, 9)
        assert abs(y[held_out].mean() - 0.5) < 0.1
        changed = images.copy()
        changed[held_out] = 255 - changed[held_out]
        again = frozen(early_stopping=False).fit(changed, y)
        assert difference(net.variables_, again.variables_) == 0
        assert (net.history_["val_loss"] != again.history_["val_loss"]).all()

    def test_keeps_groups_whole(self, images, y, splits):
        groups = np.arange(60) // 4
        frozen().fit(images, y, groups=groups)
        train, held_out, given = splits[0]
        np.testing.assert_array_equal(given, groups)
        assert not set(groups[train]) & set(groups[held_out])
        assert len(held_out) == 8

    def test_keeps_groups_whole_in_searches_and_cross_validation(self, images, y, splits):
        """They reach the inner split by metadata routing, without being requested."""
        groups = np.arange(60) // 3
        with config_context(enable_metadata_routing=True):
            search = GridSearchCV(
                frozen(), {"learning_rate": [0.01, 0.02]}, cv=GroupKFold(3), error_score="raise"
            )
            search.fit(images, y, groups=groups)
            assert len(splits) == 2 * 3 + 1
            cross_validate(
                frozen(),
                images,
                y,
                cv=GroupKFold(4),
                params={"groups": groups},
                error_score="raise",
            )
        assert len(splits) == 7 + 4
        for train, held_out, given in splits:
            assert given is not None
            assert len(held_out)
            assert not set(given[train]) & set(given[held_out])

    def test_without_routing_groups_reach_the_outer_split_only(self, images, y, splits):
        GridSearchCV(frozen(), {"learning_rate": [0.01]}, cv=GroupKFold(3)).fit(
            images, y, groups=np.arange(60) // 3
        )
        assert {given is None for _, _, given in splits} == {True}

    def test_one_group_is_an_error_with_a_way_out(self, images, y):
        with pytest.raises(ValueError, match=r"only one group; validation_fraction=None trains"):
            frozen().fit(images, y, groups=np.zeros(60))
        frozen(validation_fraction=None).fit(images, y, groups=np.zeros(60))

    def test_leaves_every_class_a_sample_to_train_on(self, images, splits):
        y = np.r_[np.arange(58) % 2, 2, 3]
        net = frozen().fit(images, y)
        assert {58, 59} <= set(splits[0][0])
        assert list(net.classes_) == [0, 1, 2, 3]

    def test_is_never_augmented(self, images, y, splits):
        """A policy that blackens every other image leaves validation as it is."""
        wild = Augmentation(flip="none", brightness=1.0, speckle=1.0)
        net = classifier(augmentation=wild, early_stopping=False).fit(images, y)
        held_out = splits[0][1]
        expected = log_loss(y[held_out], net.predict_proba(images[held_out]))
        assert net.history_["val_loss"].iloc[-1] == pytest.approx(expected, rel=1e-4)


class TestWeights:
    def test_samples_of_weight_0_are_as_if_removed(self, images, y):
        weights = np.ones(60)
        weights[::5] = 0
        kept = weights > 0
        for changes in ({}, {"class_weight": "balanced"}, {"class_weight": {0: 3}}):
            zero = frozen(**changes).fit(images, y, sample_weight=weights)
            removed = frozen(**changes).fit(images[kept], y[kept])
            assert difference(zero.variables_, removed.variables_) == 0

    def test_only_their_ratios_count(self, images, y):
        weights = np.linspace(1, 2, 60)
        one, other = (
            frozen().fit(images, y, sample_weight=factor * weights) for factor in (1, 1024)
        )
        assert difference(one.variables_, other.variables_) < 1e-6
        assert difference(one.variables_, frozen().fit(images, y).variables_) > 1e-3

    def test_class_weights_are_sample_weights(self, images):
        y = np.r_[np.zeros(45, int), np.ones(15, int)]
        by_class = frozen(class_weight={0: 1, 1: 3}).fit(images, y)
        by_sample = frozen().fit(images, y, sample_weight=np.where(y, 3.0, 1.0))
        balanced = frozen(class_weight="balanced").fit(images, y)
        assert difference(by_class.variables_, by_sample.variables_) < 1e-6
        assert difference(by_class.variables_, balanced.variables_) < 1e-5

    def test_classes_are_named_as_in_y(self, images, y):
        names = np.array(["fine", "coarse"])[y]
        net = frozen(class_weight={"fine": 0.05, "coarse": 20}, max_epochs=20).fit(images, names)
        assert np.mean(net.predict(images) == "coarse") > 0.8

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (np.zeros(60), "at least one non-zero number"),
            (np.r_[-1, np.ones(59)], "Negative values"),
            (np.ones(59), "sample_weight.shape == "),
            (np.r_[np.nan, np.ones(59)], "NaN"),
        ],
    )
    def test_impossible_ones_are_refused(self, images, y, weights, message):
        with pytest.raises(ValueError, match=message):
            frozen().fit(images, y, sample_weight=weights)


def save_tiny_weights(folder, seed=3):
    """A weights file of the tiny encoder, as if it were pretrained."""
    shapes = {
        "conv1": {"kernel": (3, 3, 3, 8), "bias": (8,)},
        "bn1": dict.fromkeys(["gamma", "beta", "moving_mean", "moving_variance"], (8,)),
        "conv2": {"kernel": (3, 3, 8, 16), "bias": (16,)},
    }
    drawn = {layer: draw_weights(layer, shapes[layer], seed=seed) for layer in shapes}
    path = folder / "tiny.safetensors"
    save_file({f"{layer}/{k}": v for layer, of in drawn.items() for k, v in of.items()}, path)
    return path


class Changed(Exception):
    """A network was built."""


class TestPool:
    def test_one_network_serves_all_fits_of_one_architecture(self, images, y, built):
        search = GridSearchCV(
            classifier(), {"learning_rate": [0.01, 0.03], "batch_size": [16, 32]}, cv=3
        ).fit(images, y)
        search.predict(images)
        search.best_estimator_.score(images, y)
        assert len(built) == 1

    def test_stored_activations_need_no_second_network(self, images, y, built):
        frozen().fit(images, y).predict(images)
        assert len(built) == 1

    @pytest.mark.parametrize("trainable", ["all", "last:2"])
    def test_a_used_network_gives_what_a_new_one_gives(self, images, y, trainable):
        """After fits with other weights, seeds, rates and data; dropout included."""
        options = {"trainable": trainable, "dropout_rate": 0.5, "max_epochs": 4}
        training._idle.clear()
        expected = classifier(**options).fit(images, y)
        other = classifier(
            **{**options, "learning_rate": 0.3, "random_state": 7, "lr_schedule": "cosine"}
        )
        other.set_params(warm_start=True, batch_size=9).fit(255 - images, y).fit(images, 1 - y)
        with pytest.raises(DivergedError):
            classifier(**{**options, "learning_rate": 1e39}).fit(images, y)
        (_, network), *others = training._idle
        assert not others
        again = classifier(**options).fit(images, y)
        assert training._idle[0][1] is network
        assert difference(again.variables_, expected.variables_) <= 1e-6
        np.testing.assert_allclose(
            again.predict_proba(images), expected.predict_proba(images), atol=1e-6
        )
        columns = [name for name in again.history_ if name != "seconds"]
        np.testing.assert_allclose(
            again.history_[columns], expected.history_[columns], rtol=1e-5, atol=1e-6
        )

    def test_what_is_traced_in_needs_another_network(self, images, y, built, monkeypatch, tmp_path):
        net = frozen().fit(images, y)

        def build(*_, **__):
            raise Changed

        monkeypatch.setattr("hybridus.training.networks.classifier.build_classifier", build)
        for changes in (
            {"dropout_rate": 0.1},
            {"label_smoothing": 0.1},
            {"hidden_layer_sizes": (9,)},
            {"hidden_layer_sizes": (8, 8)},
            {"optimizer": "sgd"},
            {"optimizer": {"class_name": "adam", "config": {"beta_1": 0.8}}},
            {"precision": "bfloat16"},
            {"image_size": (8, 12)},
            {"weights": save_tiny_weights(tmp_path)},
            {"trainable": "last:2"},
            {"layers": "multi"},
            {"layers": ["relu1"]},
            {"cache": False},
        ):
            with pytest.raises(Changed):
                clone(net).set_params(**changes).fit(images, y)
        with pytest.raises(Changed):
            clone(net).fit(images, np.arange(60) % 3)
        for changes in (
            {"learning_rate": 0.5},
            {"batch_size": 7},
            {"lr_schedule": "cosine"},
            {"augmentation": "light"},
            {"class_weight": "balanced"},
            {"validation_fraction": None},
            {"early_stopping": False},
            {"random_state": 3},
            {"resize": "pad"},
            {"verbose": 1},
        ):
            clone(net).set_params(**changes).fit(images, y)
        assert len(built) == 1
        assert len(training._idle) == 1

    def test_few_networks_are_kept(self, images, y, built, monkeypatch):
        monkeypatch.setattr(training, "_MOST_IDLE", 4)
        for width in range(4, 9):
            frozen(hidden_layer_sizes=(width,), max_epochs=1).fit(images, y)
        assert len(built) == 5
        assert len(training._idle) == 4

    def test_predicting_while_another_fit_trains(self, images, y, built, fitted):
        """As a callback does that scores after each epoch: the network in use is left alone."""
        expected = fitted.predict_proba(images)
        calls = []

        class Predicts:
            def setup(self, estimator, context): ...

            def teardown(self, estimator, context): ...

            def on_fit_task_begin(self, estimator, context): ...

            def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
                np.testing.assert_array_equal(fitted.predict_proba(images), expected)
                if context.task_name.startswith("epoch"):
                    calls.append(fitted_estimator.predict_proba(images))

        net = classifier().set_callbacks(Predicts()).fit(images, y)
        assert difference(net.variables_, fitted.variables_) <= 1e-6
        assert len(calls) == 3
        best = calls[net.best_epoch_ - 1]
        np.testing.assert_allclose(best, net.predict_proba(images), atol=1e-6)
        assert len(built) == 2

    def test_two_threads_train_at_once(self, images, y):
        expected = [classifier(random_state=seed).fit(images, y).variables_ for seed in (0, 1)]
        training._idle.clear()  # so that both build
        trained = {}

        def fit(seed):
            trained[seed] = classifier(random_state=seed).fit(images, y).variables_

        threads = [threading.Thread(target=fit, args=(seed,)) for seed in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed in (0, 1):
            assert difference(trained[seed], expected[seed]) <= 1e-6

    def test_repeated_fits_leak_little(self, images, y):
        for seed in range(4):
            classifier(random_state=seed).fit(images, y)
        before = psutil.Process().memory_info().rss
        for seed in range(12):
            classifier(random_state=seed).fit(images, y)
        grown = psutil.Process().memory_info().rss - before
        assert grown < 12 * 5 * 2**20


class TestFrozenPrefix:
    @pytest.mark.parametrize("trainable", ["none", "last:2", "conv2"])
    def test_stored_activations_train_the_same(self, images, y, trainable, encoded):
        stored, computed = (
            classifier(trainable=trainable, cache=cache, max_epochs=5).fit(images, y)
            for cache in (True, False)
        )
        assert len(encoded) == 60
        assert difference(stored.variables_, computed.variables_) < 1e-4
        np.testing.assert_allclose(
            stored.predict_proba(images), computed.predict_proba(images), atol=1e-4
        )

    def test_so_they_do_where_a_skip_connection_crosses_the_cut(self):
        X, y = textures(24, size=32)
        ends = {"layers": ["block_2_add"], "trainable": "block_2_project"}
        options = {**SMALL, **ends, "max_epochs": 2}
        stored, computed = (classifier(**options, cache=c).fit(X, y) for c in (True, False))
        encoder = [path for path in stored.variables_ if path.startswith("block_")]
        assert encoder == ["block_2_project/kernel"]
        assert difference(stored.variables_, computed.variables_) < 1e-4

    def test_an_image_is_encoded_once_for_all_fits_and_folds(self, images, y, encoded):
        GridSearchCV(frozen(), {"learning_rate": [0.01, 0.02], "dropout_rate": [0, 0.3]}, cv=3).fit(
            images, y
        ).predict(images)
        assert len(encoded) == 60
        frozen(random_state=5).fit(images[::-1], y[::-1]).predict(images / 255)
        assert len(encoded) == 60

    def test_another_cut_is_encoded_anew(self, images, y, encoded):
        for trainable in ("none", "last:2", "none", "conv2"):
            classifier(trainable=trainable).fit(images, y)
        assert len(encoded) == 2 * 60

    def test_where_all_layers_train_nothing_is_encoded(self, images, y, encoded):
        classifier().fit(images, y)
        assert not encoded

    def test_views_are_encoded_once_and_drawn_from(self, images, y, encoded):
        options = {"augmentation": "light", "validation_fraction": None, "max_epochs": 6}
        first = frozen(n_views=4, **options).fit(images, y)
        assert len(encoded) == 4 * 60
        again = frozen(n_views=4, **options).fit(images, y)
        frozen(n_views=4, **options, random_state=1).fit(images, y).predict(images)
        assert len(encoded) == 4 * 60
        assert difference(first.variables_, again.variables_) == 0
        plain = frozen(**{**options, "augmentation": None}).fit(images, y)
        assert difference(first.variables_, plain.variables_) > 1e-3
        frozen(n_views=6, **options).fit(images, y)
        assert len(encoded) == 6 * 60

    def test_held_out_images_are_encoded_as_they_are(self, images, y, encoded, splits):
        frozen(augmentation="light", n_views=5).fit(images, y)
        train, held_out, _ = splits[0]
        assert len(encoded) == 5 * len(train) + len(held_out)

    @pytest.mark.parametrize("trainable", ["none", "last:2"])
    def test_without_room_they_are_computed_in_each_step(
        self, images, y, trainable, encoded, monkeypatch
    ):
        stored = classifier(trainable=trainable).fit(images, y)
        ACTIVATIONS.clear()
        encoded.clear()
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "0.000001")
        computed = classifier(trainable=trainable).fit(images, y)
        assert not encoded
        assert difference(stored.variables_, computed.variables_) < 1e-4
        expected = computed.predict_proba(images)
        monkeypatch.undo()
        np.testing.assert_allclose(computed.predict_proba(images), expected, atol=1e-4)

    def test_a_full_disk_is_a_warning(self, images, y, encoded, monkeypatch):
        from hybridus.store import activations

        expected = frozen().fit(images, y)
        ACTIVATIONS.clear()

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(activations, "_IN_MEMORY", 0)
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.warns(UserWarning, match="no room for .* of activations"):
            net = frozen().fit(images, y)
        assert difference(net.variables_, expected.variables_) < 1e-4

    def test_nothing_with_a_name_is_left_on_disk(
        self, images, y, encoded, monkeypatch, cache_folder
    ):
        monkeypatch.setattr("hybridus.store.activations._IN_MEMORY", 0)
        kept = {"networks", "keras"}  # compiled networks, and Keras's own configuration
        before = set(cache_folder.rglob("*"))
        classifier(trainable="last:2", augmentation="light").fit(images, y).predict(images)
        assert len(encoded) > 60
        left = [path for path in cache_folder.rglob("*") if path.is_file() and path not in before]
        assert {path.relative_to(cache_folder).parts[0] for path in left} <= kept

    def test_a_file_that_changes_is_encoded_anew(self, images, y, encoded, tmp_path):
        paths = [tmp_path / f"{i}.png" for i in range(60)]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        net = frozen().fit(paths, y)
        assert len(encoded) == 60
        before = net.predict_proba(paths[:2])
        Image.fromarray(images[1]).save(paths[0])
        os.utime(paths[0], (10**9, 10**9))
        after = net.predict_proba(paths[:2])
        np.testing.assert_array_equal(after[1], before[1])
        np.testing.assert_array_equal(after[0], before[1])
        assert len(encoded) == 60


class TestBatchNormalisation:
    def test_of_a_pretrained_encoder_is_never_trained(self, images, y, tmp_path):
        net = classifier(weights=save_tiny_weights(tmp_path)).fit(images, y)
        encoder = {p for p in net.variables_ if not p.startswith(("scaler", "hidden", "softmax"))}
        assert encoder == {"conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias"}

    def test_from_random_weights_is(self, fitted):
        assert np.abs(fitted.variables_["bn1/moving_mean"]).max() > 1e-3
        assert np.abs(fitted.variables_["bn1/gamma"] - 1).max() > 1e-3

    def test_of_a_frozen_layer_is_not(self, images, y):
        net = classifier(trainable="last:2", cache=False).fit(images, y)
        assert not [path for path in net.variables_ if path.startswith(("bn1", "conv1"))]
        assert "conv2/kernel" in net.variables_


class TestPartialFit:
    def test_goes_on_from_call_to_call(self, images, y):
        net = classifier()
        for step in range(30):
            rows = slice(30 * (step % 2), 30 * (step % 2) + 30)
            net.partial_fit(images[rows], y[rows], classes=[0, 1] if step == 0 else None)
        assert net.n_iter_ == 30
        assert list(net.history_.index) == list(range(1, 31))
        assert net.history_["loss"].iloc[-1] < 0.7 * net.history_["loss"].iloc[0]
        assert net.score(images, y) > 0.8

    def test_classes_may_come_later(self, images, y):
        net = classifier().partial_fit(images, y, classes=[2, 0, 1])
        assert net.predict_proba(images).shape == (60, 3)
        net.partial_fit(images, y + 1)
        assert list(net.classes_) == [0, 1, 2]

    def test_a_class_that_was_not_named_is_refused(self, images, y):
        net = classifier().partial_fit(images, y, classes=[0, 1])
        with pytest.raises(ValueError, match=r"y has the class 2; the first call named \[0, 1\]"):
            net.partial_fit(images, y + 1)
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            classifier().partial_fit(images, y)

    def test_goes_on_after_fit(self, images, y, fitted):
        net = joblib.load(dump(fitted)).set_params(learning_rate=1e-9)
        net.partial_fit(images, y)
        assert net.n_iter_ == 4
        assert list(net.history_.index) == [1, 2, 3, 4]
        assert np.isnan(net.history_["val_loss"][4])
        kernels = (one.variables_["conv1/kernel"] for one in (net, fitted))
        assert np.abs(np.subtract(*kernels)).max() < 1e-6

    def test_is_the_same_after_a_round_trip(self, images, y):
        """The optimizer's state travels with the estimator."""
        net = classifier().partial_fit(images, y, classes=[0, 1])
        copy = pickle.loads(pickle.dumps(net))
        training._idle.clear()
        for one in (net, copy):
            one.partial_fit(images, y).partial_fit(255 - images, y)
        assert difference(net.variables_, copy.variables_) <= 1e-6

    def test_an_interrupt_is_not_swallowed(self, images, y, monkeypatch):
        net = classifier().partial_fit(images, y, classes=[0, 1])
        before = net.predict_proba(images)

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(training.TrainableNetwork, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.partial_fit(images, y)
        np.testing.assert_array_equal(net.predict_proba(images), before)
        assert net.n_iter_ == 1


def dump(estimator):
    """File-like copy of an estimator."""
    import io

    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return buffer


class TestWarmStart:
    def test_starts_from_the_last_weights(self, images, y):
        net = classifier(warm_start=True, lr_schedule=None).fit(images, y)
        kept = net.variables_["conv1/kernel"].copy()
        net.set_params(learning_rate=1e-9).fit(images, y)
        assert np.abs(net.variables_["conv1/kernel"] - kept).max() < 1e-6
        assert net.n_iter_ == 3
        cold = classifier(learning_rate=1e-9).fit(images, y)
        assert np.abs(cold.variables_["conv1/kernel"] - kept).max() > 1e-3

    def test_with_other_classes_is_refused_and_changes_nothing(self, images, y):
        net = frozen(warm_start=True).fit(images, y)
        before = net.predict(images)
        with pytest.raises(ValueError, match=r"has the classes \[5, 6\], the last fit had \[0, 1"):
            net.fit(images, y + 5)
        np.testing.assert_array_equal(net.predict(images), before)

    def test_with_another_architecture_is_refused(self, images, y):
        net = frozen(warm_start=True).fit(images, y)
        with pytest.raises(ValueError, match="learned by a network of another architecture"):
            net.set_params(hidden_layer_sizes=(5,)).fit(images, y)

    def test_without_it_a_fit_forgets_the_last(self, images, y, fitted):
        net = classifier().fit(255 - images, 1 - y).fit(images, y)
        assert difference(net.variables_, fitted.variables_) == 0


class TestTrouble:
    def test_a_single_class_is_refused(self, images, y):
        with pytest.raises(ValueError, match="needs samples of two classes.* only one class: 0$"):
            frozen().fit(images, np.zeros(60, int))
        with pytest.raises(ValueError, match=r"one class: 'a' \(others have no weight\)"):
            frozen().fit(images, np.array(["a", "b"])[y], sample_weight=1.0 - y)

    def test_divergence_says_what_to_do(self, images, y):
        for changes in ({}, {"optimizer": "sgd"}, {"validation_fraction": None}):
            with pytest.raises(DivergedError, match=r"at learning_rate=inf: .*Lower learning"):
                classifier(learning_rate=1e39, max_epochs=20, **changes).fit(images, y)

    def test_an_interrupt_keeps_the_best_weights_so_far(self, images, y, monkeypatch):
        step, steps = training.TrainableNetwork.step, []

        def interrupted(*arguments):
            steps.append(1)
            if len(steps) == 6:  # in the third epoch of two steps
                raise KeyboardInterrupt
            return step(*arguments)

        expected = classifier(max_epochs=2).fit(images, y)
        monkeypatch.setattr(training.TrainableNetwork, "step", interrupted)
        message = (
            f"interrupted after 2 of 9 epochs; the weights are those of epoch "
            f"{expected.best_epoch_}, and the estimator can be used"
        )
        with pytest.warns(UserWarning, match=message):
            net = classifier(max_epochs=9).fit(images, y)
        monkeypatch.undo()
        assert net.n_iter_ == 2
        assert net.best_epoch_ == expected.best_epoch_
        assert difference(net.variables_, expected.variables_) == 0
        np.testing.assert_array_equal(net.predict(images), expected.predict(images))
        again = classifier(max_epochs=2).fit(images, y)
        assert difference(again.variables_, expected.variables_) == 0

    @pytest.mark.parametrize("changes", [{}, {"early_stopping": False}])
    def test_an_interrupt_at_once_keeps_the_latest_weights(self, images, y, monkeypatch, changes):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(training.TrainableNetwork, "step", interrupted)
        with pytest.warns(UserWarning, match="after 0 of 3 epochs; the weights are the latest"):
            net = classifier(**changes).fit(images, y)
        assert net.predict_proba(images).shape == (60, 2)
        assert len(net.history_) == net.n_iter_ == 0

    def test_what_is_not_fitted_says_so(self, images):
        with pytest.raises(NotFittedError):
            frozen().predict(images)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"trainable": "block_99"}, "trainable='block_99': expected 'none', 'all', 'first:K'"),
            ({"augmentation": "wild"}, "augmentation='wild': expected None, one of 'light'"),
            ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes=\(8, 0\): expected numbers of"),
            ({"hidden_layer_sizes": (2.5,)}, r"hidden_layer_sizes=\(2.5,\)"),
            ({"encoder": "vgg17"}, "unknown encoder 'vgg17'"),
            ({"layers": ["relu9"]}, "layer 'relu9' is not in this encoder"),
            ({"image_size": (8, 8, 3)}, r"image_size=\(8, 8, 3\)"),
            ({"optimizer": "nosuch"}, "optimizer.*nosuch"),
            ({"optimizer": {"class_name": "SGD", "config": {"momentumm": 1}}}, "momentumm"),
            ({"weights": "no/file.h5"}, "weights='no/file.h5'"),
            ({"class_weight": {5: 1}}, "not in class_weight"),
        ],
    )
    def test_mistakes_are_named(self, images, y, changes, message):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            frozen(**changes).fit(images, y)

    @pytest.mark.parametrize(
        "changes",
        [
            {"dropout_rate": 1.0},
            {"n_views": 0},
            {"learning_rate": 0},
            {"lr_schedule": "step"},
            {"validation_fraction": 1.0},
            {"patience": 0},
            {"batch_size": 0},
            {"max_epochs": 0},
            {"label_smoothing": 1.0},
            {"precision": "float16"},
            {"class_weight": "even"},
            {"trainable": 3},
        ],
    )
    def test_values_out_of_range_are_named(self, images, y, changes):
        name = next(iter(changes))
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
            frozen(**changes).fit(images, y)

    def test_images_on_a_wrong_scale_are_refused(self, images, y, fitted):
        with pytest.raises(ValueError, match="has values up to 25., but float images lie in"):
            frozen().fit(images.astype(float), y)
        with pytest.raises(ValueError, match="has values up to 25., but float images lie in"):
            fitted.predict(images.astype(float))

    def test_weights_that_have_changed_are_refused(self, images, y, tmp_path):
        """A fitted estimator holds the digest of the weights it was trained from."""
        path = save_tiny_weights(tmp_path)
        net = classifier(weights=path).fit(images, y)
        save_tiny_weights(tmp_path, seed=4)
        training._idle.clear()
        with pytest.raises(ValueError, match="Bring the former weights back, or call fit again"):
            net.predict(images)


class Stops:
    """A callback that stops after so many epochs, and remembers what it was told."""

    def __init__(self, after):
        self.after = after
        self.told = []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.told.append(f"{context.task_name} begins")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        self.told.append(f"{context.task_name} ends")
        return context.task_name == f"epoch {self.after}"


class TestCallbacks:
    def test_are_told_of_each_epoch_and_may_stop(self, images, y):
        stops = Stops(after=2)
        net = frozen(max_epochs=9).set_callbacks(stops).fit(images, y)
        assert net.n_iter_ == 2
        assert stops.told == [
            "setup",
            "fit begins",
            "epoch 1 begins",
            "epoch 1 ends",
            "epoch 2 begins",
            "epoch 2 ends",
            "fit ends",
            "teardown",
        ]

    def test_are_torn_down_after_an_error(self, images, y):
        stops = Stops(after=9)
        with pytest.raises(DivergedError):
            classifier(learning_rate=1e39, max_epochs=20).set_callbacks(stops).fit(images, y)
        assert stops.told[-1] == "teardown"

    def test_an_interrupt_from_one_keeps_the_best_weights(self, images, y):
        class Interrupts(Stops):
            def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
                if context.task_name == "epoch 3":
                    raise KeyboardInterrupt

        with pytest.warns(UserWarning, match="interrupted after 3 of 9 epochs"):
            net = frozen(max_epochs=9).set_callbacks(Interrupts(0)).fit(images, y)
        assert net.n_iter_ == 3
        assert net.score(images, y) > 0.4

    def test_a_scoring_monitor_scores_each_epoch(self, images, y):
        monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
        weights = np.linspace(1, 2, 60)
        net = frozen(validation_fraction=None, early_stopping=False).set_callbacks(monitor)
        net.fit(images, y, sample_weight=weights)
        log = monitor.get_logs().data_as_pandas
        log = log[log["task_name"].str.startswith("epoch")]
        assert len(log) == 3
        expected = -log_loss(y, net.predict_proba(images), sample_weight=weights)
        assert log["neg_log_loss"].iloc[-1] == pytest.approx(expected, rel=1e-4)
        assert log["accuracy"].between(0, 1).all()
        assert log["neg_log_loss"].nunique() == 3

    def test_a_progress_bar_shows_the_epochs(self, images, y, capsys):
        frozen().set_callbacks(ProgressBar()).fit(images, y)
        assert "FineTunedClassifier" in capsys.readouterr().out

    def test_reach_the_fits_of_a_search(self, images, y):
        monitor = ScoringMonitor(scoring="accuracy")
        net = frozen(max_epochs=2).set_callbacks(monitor)
        GridSearchCV(net, {"learning_rate": [0.01, 0.02]}, cv=2, error_score="raise").fit(images, y)
        logs = monitor.get_logs(select="all")
        epochs = sum(log.data_as_pandas["task_name"].str.startswith("epoch").sum() for log in logs)
        assert epochs == (2 * 2 + 1) * 2

    def test_of_a_search_are_handed_down(self, images, y, capsys):
        class Everywhere(Stops):
            max_propagation_depth = None

        stops = Everywhere(after=1)
        search = GridSearchCV(
            frozen(max_epochs=5), {"learning_rate": [0.01, 0.02]}, cv=2, error_score="raise"
        ).set_callbacks(stops, ProgressBar())
        search.fit(images, y)
        assert search.best_estimator_.n_iter_ == 1
        assert stops.told.count("epoch 1 ends") == 2 * 2 + 1
        assert "epoch 2 begins" not in stops.told
        assert (stops.told[0], stops.told[-1]) == ("setup", "teardown")
        assert "FineTunedClassifier" in capsys.readouterr().out

    def test_leave_nothing_in_the_fitted_estimator(self, images, y, fitted):
        net = classifier().set_callbacks(Stops(after=9)).fit(images, y)
        assert net.__dict__.keys() - fitted.__dict__.keys() == {"_skl_callbacks"}
        assert difference(net.variables_, fitted.variables_) == 0


def values_in(thing):
    """All that an estimator holds, however deep."""
    yield thing
    if isinstance(thing, dict):
        parts = thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        parts = thing
    elif type(thing).__module__.startswith("hybridus"):
        parts = vars(thing).values()
    else:
        return
    for part in parts:
        yield from values_in(part)


class TestState:
    def test_is_plain_data(self, images, y, fitted):
        kept = frozen(augmentation="light").fit(images, y)
        updated = classifier().partial_fit(images, y, classes=[0, 1])
        for net in (fitted, kept, updated):
            for value in values_in(vars(net)):
                module = type(value).__module__.partition(".")[0]
                assert module in {"builtins", "numpy", "pandas", "hybridus"}, value
                assert not isinstance(value, types.LambdaType) or value is TINY.builder

    def test_of_a_frozen_encoder_is_small(self, bundled):
        assert sum(value.nbytes for value in bundled.variables_.values()) < 100_000
        assert len(pickle.dumps(bundled)) < 120_000

    def test_has_one_hash(self, images, y, fitted):
        before = joblib.hash(fitted)
        fitted.predict(images)
        assert joblib.hash(fitted) == before
        assert joblib.hash(joblib.load(dump(fitted))) == before
        again = classifier().fit(images, y)
        assert joblib.hash(again.variables_) == joblib.hash(fitted.variables_)

    def test_parameters_are_left_as_they_were_given(self, images, y):
        net = frozen(hidden_layer_sizes=[4, 4], optimizer={"class_name": "adam", "config": {}})
        before = clone(net).get_params()
        net.fit(images, y)
        assert net.get_params() == before


class TestDeterminism:
    @pytest.mark.parametrize("trainable", ["all", "last:2"])
    def test_one_seed_gives_one_model(self, images, y, trainable):
        options = {"trainable": trainable, "augmentation": "strong"}
        one, same, other = (
            classifier(**options, random_state=seed).fit(images, y).variables_ for seed in (3, 3, 4)
        )
        assert difference(one, same) == 0
        assert difference(one, other) > 1e-3

    def test_global_seeds_neither_matter_nor_change(self, images, y, fitted):
        training._idle.clear()
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        expected = np.random.random(), random.random()  # noqa: NPY002
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        net = classifier().fit(images, y)
        net.predict(images)
        assert (np.random.random(), random.random()) == expected  # noqa: NPY002
        assert difference(net.variables_, fitted.variables_) == 0

    def test_keras_settings_of_the_user_do_not_matter(self, images, y, fitted):
        from hybridus._keras import keras

        before = keras.config.floatx(), keras.config.image_data_format()
        training._idle.clear()
        try:
            keras.config.set_floatx("float16")
            keras.config.set_image_data_format("channels_first")
            net = classifier().fit(images, y)
        finally:
            keras.config.set_floatx(before[0])
            keras.config.set_image_data_format(before[1])
            training._idle.clear()
        assert difference(net.variables_, fitted.variables_) == 0

    def test_a_random_state_moves_on(self, images, y):
        state = np.random.RandomState(0)
        net = frozen(random_state=state)
        one, other = (clone(net).set_params(random_state=state).fit(images, y) for _ in range(2))
        assert difference(one.variables_, other.variables_) > 1e-3


def predicted_and_trained(asked):
    """What models say, and the same models fitted again."""
    return {
        name: (net.predict_proba(X), clone(net).fit(X, y).predict_proba(X))
        for name, (net, X, y) in asked.items()
    }


@pytest.fixture(scope="module")
def elsewhere(another_process, fitted, images, y, bundled):
    """What another process makes of models that are sent to it, and of the same fits."""
    X, labels = textures(16, size=32)
    asked = {"tiny": (fitted, images, y), "bundled": (bundled, X, labels)}
    answers = another_process(predicted_and_trained, asked)
    return {name: (net.predict_proba(X), *answers[name]) for name, (net, X, _) in asked.items()}


@pytest.mark.parametrize("name", ["tiny", "bundled"])
class TestAnotherProcess:
    def test_opens_a_model_and_predicts_the_same(self, elsewhere, name):
        expected, opened, _ = elsewhere[name]
        np.testing.assert_array_equal(opened, expected)

    def test_trains_the_same_model(self, elsewhere, name):
        expected, _, trained = elsewhere[name]
        np.testing.assert_array_equal(trained, expected)


def run_and_fork():
    """Run networks, then use them in forked children; what each of these says."""
    X, y = textures(20)
    by_keras, by_openvino = (
        DeepFeatureExtractor(TINY, weights="random", engine=engine, cache=False).fit(X)
        for engine in ("keras", "openvino")
    )
    net = classifier().fit(X, y)
    uses = (
        lambda: by_keras.transform(X),
        lambda: by_openvino.transform(X),
        lambda: net.predict(X),
        lambda: net.fit(X, y),
    )
    for use in uses[:2]:
        use()
    said = []
    for use in uses:
        reading, writing = os.pipe()
        if os.fork() == 0:
            try:
                use()
            except BaseException as error:
                os.write(writing, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
        os.close(writing)
        said.append(os.read(reading, 10_000).decode())  # nothing where the child ended silently
        os.close(reading)
        os.wait()
    return said


def test_a_forked_child_is_refused_not_hung(another_process):
    """A fork after networks have run: in another process, since pytest must not fork."""
    said = another_process(run_and_fork)
    assert len(said) == 4
    for message in said:
        assert message.startswith("RuntimeError: ")
        assert "forked" in message
        assert "loky" in message


class TestEcosystem:
    def test_a_search_over_layers_in_two_workers(self, images, y):
        search = GridSearchCV(
            classifier(max_epochs=4),
            [{"trainable": ["none"]}, {"trainable": ["all"], "learning_rate": [0.03]}],
            cv=2,
            n_jobs=2,
            error_score="raise",
        ).fit(images, y)
        assert len(search.cv_results_["params"]) == 2
        assert search.score(images, y) > 0.5
        here = GridSearchCV(search.estimator, search.param_grid, cv=2).fit(images, y)
        np.testing.assert_array_equal(
            here.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
        )

    def test_stacked_on_a_hybrid(self):
        X, y = textures(48)
        stack = StackingClassifier(
            [
                ("frozen", make_hybrid_classifier(TINY, weights="random", head="svm")),
                ("tuned", classifier(max_epochs=5)),
            ],
            LogisticRegression(),
            cv=2,
        )
        labels = np.array(["fine", "coarse"])[y]
        assert stack.fit(X[:24], labels[:24]).score(X[24:], labels[24:]) > 0.8

    def test_calibrated(self, images, y):
        for ensemble in (True, False):
            calibrated = CalibratedClassifierCV(frozen(), cv=2, ensemble=ensemble).fit(images, y)
            assert calibrated.predict_proba(images).shape == (60, 2)
            assert calibrated.score(images, y) > 0.4

    def test_cross_predicted(self, images, y):
        probabilities = cross_val_predict(
            frozen(max_epochs=10), images, y, cv=3, method="predict_proba"
        )
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
        assert len(np.unique(probabilities[:, 0])) == 60

    def test_learning_curve(self, images, y):
        sizes, train, test = learning_curve(
            frozen(), images, y, cv=2, train_sizes=[0.5, 1.0], error_score="raise"
        )
        assert list(sizes) == [15, 30]
        assert train.shape == test.shape == (2, 2)
        assert np.isfinite(test).all()

    def test_folds_are_stratified(self, images):
        """A fold of one class would be refused; that of a classifier never is."""
        y = np.repeat([0, 1], 30)
        scores = cross_validate(frozen(), images, y, cv=3, error_score="raise")["test_score"]
        assert len(scores) == 3

    def test_at_the_end_of_a_pipeline(self, images, y, fitted):
        pipe = make_pipeline(FunctionTransformer(lambda X: X[:, ::-1]), classifier())
        pipe.fit(images[:, ::-1], y)
        np.testing.assert_array_equal(
            pipe.predict_proba(images[:, ::-1]), fitted.predict_proba(images)
        )
        assert pipe.score(images[:, ::-1], y) == fitted.score(images, y)
