"""The fit loop, and compiled networks that are used again."""

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

from hybridus._keras import building, keras
from hybridus.training import loop as training
from hybridus.training.loop import (
    DivergedError,
    HeldOut,
    Plan,
    Samples,
    TrainableNetwork,
    lease,
    train,
)
from hybridus.training.networks.classifier import classification_metrics, classification_scores

pytestmark = pytest.mark.slow

PLAN = Plan(
    learning_rate=0.01,
    lr_schedule=None,
    early_stopping=True,
    patience=10,
    batch_size=16,
    max_epochs=5,
)


def build(*, dropout=0.5, optimizer="adam"):
    """A network from four numbers to three classes."""
    drawn = keras.initializers.GlorotUniform(seed=0)
    with building():
        inputs = keras.Input((4,))
        x = keras.layers.Dense(16, "relu", kernel_initializer=drawn, name="hidden")(inputs)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
        output = keras.layers.Dense(3, "softmax", kernel_initializer=drawn, name="softmax")(x)
        return TrainableNetwork(
            inputs,
            output,
            loss=keras.losses.CategoricalCrossentropy(),
            metrics=classification_metrics(3),
            scores=classification_scores,
            optimizer=optimizer,
        )


@pytest.fixture(scope="module")
def network():
    """One network for all tests of this file, as the pool would hand it on."""
    return build()


@pytest.fixture(scope="module")
def flowers():
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    return X[order], np.eye(3, dtype=np.float32)[y[order]]


@pytest.fixture(scope="module")
def samples(flowers):
    X, targets = (part[:100] for part in flowers)
    return Samples(np.ones(100, np.float32), lambda rows, rng: (X[rows], targets[rows]))


@pytest.fixture(scope="module")
def held_out(flowers):
    X, targets = (part[100:] for part in flowers)
    return HeldOut(lambda: iter([X[:30], X[30:]]), targets, np.ones(50, np.float32))


def fit(network, samples, held_out=None, *, seed=0, values=None, **changes):
    plan = replace(PLAN, **changes)
    network.reset(values or {}, seed, learning_rate=plan.learning_rate)
    return train(network, samples, held_out, plan, np.random.default_rng(seed))


def difference(values, others):
    assert values.keys() == others.keys()
    return max(np.abs(values[path] - others[path]).max() for path in values)


@pytest.fixture
def scripted(monkeypatch, network):
    """Let validation give these losses, one an epoch, and remember the weights at each."""

    def script(*losses):
        remaining, weights = iter(losses), []

        def validate(held_out):
            weights.append(network.values())
            return {"val_loss": next(remaining)}

        monkeypatch.setattr(network, "validate", validate)
        return weights

    return script


def test_a_step_is_traced_once(samples, monkeypatch):
    traced, train_step = [], keras.Model.train_step
    monkeypatch.setattr(
        keras.Model, "train_step", lambda self, *a: traced.append(1) or train_step(self, *a)
    )
    fit(build(dropout=0), samples, max_epochs=2)
    assert len(traced) == 1


class TestHistory:
    def test_has_a_row_an_epoch(self, network, samples, held_out):
        outcome = fit(network, samples, held_out)
        assert [row["epoch"] for row in outcome.history] == [1, 2, 3, 4, 5]
        metrics = ["loss", "accuracy", "precision", "recall", "f1"]
        expected = ["epoch", *metrics, *(f"val_{name}" for name in metrics)]
        assert list(outcome.history[0]) == [*expected, "learning_rate", "seconds"]
        assert all(row["seconds"] > 0 for row in outcome.history)
        assert outcome.history[-1]["val_loss"] < 0.7 * outcome.history[0]["val_loss"]

    def test_validation_is_what_scikit_learn_says(self, network, samples, held_out, flowers):
        X, targets = (part[100:] for part in flowers)
        row = fit(network, samples, held_out, max_epochs=1).history[0]
        y, predicted = targets.argmax(axis=1), network.predict([X])
        codes = predicted.argmax(axis=1)
        assert 0 < np.mean(codes != y) < 0.9
        assert row["val_loss"] == pytest.approx(log_loss(y, predicted), rel=1e-5)
        assert row["val_accuracy"] == pytest.approx(accuracy_score(y, codes), abs=1e-6)
        for name, score in (
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        ):
            expected = score(y, codes, average="macro", labels=[0, 1, 2], zero_division=0)
            assert row[f"val_{name}"] == pytest.approx(expected, abs=1e-6)

    def test_training_is_a_mean_over_the_epoch(self, network, samples, flowers):
        """At a learning rate near 0 it is the score of the network that was started from."""
        X, targets = (part[:96] for part in flowers)
        few = Samples(samples.weights[:96], samples.draw)
        plain = build(dropout=0.0)
        row = fit(plain, few, learning_rate=1e-12, max_epochs=2).history[1]
        y, predicted = targets.argmax(axis=1), plain.predict([X])
        assert row["loss"] == pytest.approx(log_loss(y, predicted), rel=1e-5)
        expected = f1_score(y, predicted.argmax(axis=1), average="macro")
        assert row["f1"] == pytest.approx(expected, abs=1e-6)

    def test_weights_count_in_losses_only(self, network, samples, held_out):
        weighted = replace(held_out, weights=np.linspace(0, 2, 50).astype(np.float32))
        network.reset({}, 0, learning_rate=0.01)
        plain, changed = network.validate(held_out), network.validate(weighted)
        y, predicted = held_out.targets, network.predict(held_out.inputs())
        each = -np.log(predicted[y == 1])
        assert changed.pop("val_loss") == pytest.approx((weighted.weights * each).mean(), rel=1e-5)
        assert plain.pop("val_loss") == pytest.approx(each.mean(), rel=1e-5)
        assert changed == plain

    def test_a_line_an_epoch_is_printed_on_request(self, network, samples, held_out, capsys):
        fit(network, samples, held_out, max_epochs=2)
        assert capsys.readouterr().out == ""
        outcome = fit(network, samples, held_out, max_epochs=2, verbose=1)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        loss = outcome.history[1]["val_loss"]
        assert lines[1].startswith("epoch 2: loss ")
        assert f", val_loss {loss:.4g}, " in lines[1]
        assert "learning_rate 0.01, seconds " in lines[1]


class TestEarlyStopping:
    def test_goes_back_to_the_best_epoch(self, network, samples, held_out, scripted):
        weights = scripted(0.9, 0.5, 0.7, 0.6, 0.8)
        outcome = fit(network, samples, held_out, patience=3)
        assert outcome.best_epoch == 2
        assert len(outcome.history) == 5
        assert difference(outcome.values, weights[1]) == 0
        assert difference(network.values(), weights[1]) == 0
        assert difference(outcome.values, weights[4]) > 0.01

    @pytest.mark.parametrize("patience", [1, 2, 4])
    def test_waits_for_patience_epochs(self, network, samples, held_out, scripted, patience):
        scripted(0.9, 0.5, 0.5, 0.6, 0.5, 0.5, 0.4)
        outcome = fit(network, samples, held_out, patience=patience, max_epochs=7)
        assert len(outcome.history) == 2 + patience
        assert outcome.best_epoch == 2

    def test_can_be_off(self, network, samples, held_out, scripted):
        weights = scripted(0.5, 0.6, 0.7, 0.8, 0.9)
        outcome = fit(network, samples, held_out, patience=1, early_stopping=False)
        assert len(outcome.history) == 5
        assert outcome.best_epoch == 1
        assert difference(outcome.values, weights[4]) == 0

    def test_watches_the_training_loss_where_nothing_is_held_out(self, network, samples):
        outcome = fit(network, samples, learning_rate=0.5, patience=2, max_epochs=30)
        losses = [row["loss"] for row in outcome.history]
        assert outcome.best_epoch == 1 + int(np.argmin(losses))
        assert len(losses) == outcome.best_epoch + 2 < 30
        assert "val_loss" not in outcome.history[0]

    def test_the_best_epoch_is_the_one_whose_loss_is_given(self, network, samples, held_out):
        outcome = fit(network, samples, held_out, learning_rate=0.3, patience=3, max_epochs=20)
        losses = [row["val_loss"] for row in outcome.history]
        assert outcome.best_epoch == 1 + int(np.argmin(losses)) < len(losses)
        network.assign(outcome.values)
        assert network.validate(held_out)["val_loss"] == pytest.approx(min(losses), rel=1e-6)


class TestSchedule:
    def rates(self, outcome):
        return [row["learning_rate"] for row in outcome.history]

    def test_cosine_falls_to_zero_over_all_epochs(self, network, samples):
        outcome = fit(network, samples, lr_schedule="cosine", max_epochs=5)
        expected = [0.01 * (1 + np.cos(np.pi * epoch / 5)) / 2 for epoch in range(5)]
        np.testing.assert_allclose(self.rates(outcome), expected, rtol=1e-5)
        np.testing.assert_allclose(expected[:2], [0.01, 0.009045], rtol=1e-3)

    def test_none_stays(self, network, samples):
        assert self.rates(fit(network, samples)) == pytest.approx([0.01] * 5)

    def test_plateau_takes_a_fifth_after_half_of_the_patience(
        self, network, samples, held_out, scripted
    ):
        scripted(0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8)
        outcome = fit(network, samples, held_out, lr_schedule="plateau", patience=4, max_epochs=8)
        expected = [0.01, 0.01, 0.01, 0.002, 0.002, 0.002, 0.0004, 0.0004]
        assert self.rates(outcome) == pytest.approx(expected)
        assert outcome.best_epoch == 4

    def test_plateau_falls_three_times_at_most(self, network, samples, held_out, scripted):
        scripted(*[0.9] * 8)
        outcome = fit(
            network,
            samples,
            held_out,
            lr_schedule="plateau",
            patience=2,
            max_epochs=8,
            early_stopping=False,
        )
        expected = [0.01, 0.01, 0.002, 0.0004, 0.00008, 0.00008, 0.00008, 0.00008]
        assert self.rates(outcome) == pytest.approx(expected)

    def test_a_loss_that_falls_slowly_is_no_plateau(self, network, samples, held_out, scripted):
        scripted(*np.linspace(1e-4, 0, 8))
        outcome = fit(network, samples, held_out, lr_schedule="plateau", patience=2, max_epochs=8)
        assert self.rates(outcome) == pytest.approx([0.01] * 8)

    def test_the_next_fit_starts_at_its_own_rate(self, network, samples):
        fit(network, samples, lr_schedule="cosine")
        assert self.rates(fit(network, samples, learning_rate=0.03)) == pytest.approx([0.03] * 5)


class TestSamples:
    @pytest.mark.parametrize(("n", "batch_size"), [(100, 16), (100, 100), (7, 32), (33, 32)])
    def test_are_used_equally_often_in_batches_of_one_size(
        self, network, samples, monkeypatch, n, batch_size
    ):
        used, sizes = Counter(), set()

        def draw(rows, rng):
            used.update(rows.tolist())
            sizes.add(len(rows))
            return samples.draw(rows, rng)

        fit(network, Samples(samples.weights[:n], draw), batch_size=batch_size, max_epochs=6)
        assert sizes == {min(n, batch_size)}
        assert set(used) == set(range(n))
        assert max(used.values()) - min(used.values()) <= 1
        assert sum(used.values()) == 6 * -(-n // batch_size) * min(n, batch_size)

    def test_weight_is_that_of_a_repeated_sample(self, samples):
        """With all samples in one step, a weight of 2 is the sample twice."""
        plain = build(dropout=0.0, optimizer="sgd")
        rows = np.r_[np.arange(40), np.arange(20)]
        weights = np.r_[np.full(20, 2.0), np.ones(20)].astype(np.float32)
        weighted = Samples(weights / weights.mean(), samples.draw)
        repeated = Samples(np.ones(60, np.float32), lambda r, rng: samples.draw(rows[r], rng))
        once, twice = (
            fit(plain, one, batch_size=60, learning_rate=0.1) for one in (weighted, repeated)
        )
        assert difference(once.values, twice.values) < 1e-6
        assert difference(once.values, plain._initial) > 0.01


class TestTrouble:
    def test_a_loss_that_is_no_number_says_what_to_do(self, network, samples):
        def draw(rows, rng):
            X, targets = samples.draw(rows, rng)
            return X, targets * np.nan

        message = r"the loss became nan in epoch 1 at learning_rate=0.01.*Lower learning_rate"
        with pytest.raises(DivergedError, match=message):
            fit(network, Samples(samples.weights, draw))

    def test_so_does_a_validation_loss(self, network, samples, held_out, scripted):
        scripted(0.9, np.nan)
        with pytest.raises(DivergedError, match="the validation loss became nan in epoch 2"):
            fit(network, samples, held_out)

    def test_keras_does_not_hide_predictions_that_are_no_numbers(self, network, held_out):
        """Its cross-entropy clips NaN to a small probability."""
        network.reset({"softmax/bias": np.float32([0, np.nan, 0])}, 0, learning_rate=0.01)
        assert np.isnan(network.validate(held_out)["val_loss"])

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    def test_relu_does_not_hide_weights_that_are_no_numbers(self, samples, held_out, optimizer):
        plain = build(dropout=0.0, optimizer=optimizer)
        for part in (held_out, None):
            with pytest.raises(DivergedError, match=r"became (nan|inf) in epoch 1 at .*=inf"):
                fit(plain, samples, part, learning_rate=1e39)

    def test_an_interrupt_leaves_the_best_weights_so_far(
        self, network, samples, held_out, scripted, monkeypatch
    ):
        weights = scripted(0.9, 0.4, 0.6)
        step, steps = network.step, []

        def interrupted(*batch):
            steps.append(1)
            if len(steps) == 3 * 7 + 4:  # in the fourth epoch
                raise KeyboardInterrupt
            return step(*batch)

        monkeypatch.setattr(network, "step", interrupted)
        outcome = fit(network, samples, held_out)
        assert outcome.interrupted
        assert len(outcome.history) == 3
        assert outcome.best_epoch == 2
        assert difference(outcome.values, weights[1]) == 0

    def test_an_interrupt_in_the_first_epoch_leaves_the_weights_of_the_moment(
        self, network, samples, monkeypatch
    ):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(network, "step", interrupted)
        outcome = fit(network, samples)
        assert outcome.interrupted
        assert outcome.history == []
        assert difference(outcome.values, network._initial) == 0

    def test_a_callback_may_stop(self, network, samples):
        network.reset({}, 0, learning_rate=0.01)
        begun, ended = [], []
        outcome = train(
            network,
            samples,
            None,
            PLAN,
            np.random.default_rng(0),
            before_epoch=begun.append,
            after_epoch=lambda row: ended.append(row) or len(ended) == 2,
        )
        assert begun == [1, 2]
        assert ended == outcome.history
        assert len(outcome.history) == 2
        assert not outcome.interrupted


class TestReset:
    def test_a_used_network_trains_like_a_new_one(self, network, samples, held_out):
        """Weights, optimizer, dropout and metrics: nothing of other fits is left."""
        fit(network, samples, held_out, seed=5, learning_rate=0.2, batch_size=9, max_epochs=3)
        values = {path: value + 0.1 for path, value in network._initial.items()}
        fit(network, samples, values=values, seed=6, lr_schedule="cosine")
        with pytest.raises(DivergedError):
            fit(network, samples, learning_rate=1e39)
        start = {path: np.full_like(v, 0.05) for path, v in network._initial.items()}
        used = fit(network, samples, held_out, values=start, seed=1)
        new = fit(build(), samples, held_out, values=start, seed=1)
        assert difference(used.values, new.values) <= 1e-6
        for used_row, new_row in zip(used.history, new.history, strict=True):
            for name in used_row.keys() - {"seconds"}:
                assert used_row[name] == pytest.approx(new_row[name], abs=1e-6)

    def test_dropout_is_drawn_by_the_seed(self, network, samples):
        one, same, other = (
            difference(fit(network, samples, seed=seed).values, network._initial)
            for seed in (0, 0, 1)
        )
        assert one == same != other

    def test_the_optimizer_goes_on_from_where_it_was(self, samples):
        """Four epochs in one go, or two and two with the optimizer's state handed on."""
        network = build(dropout=0.0)
        whole = {"batch_size": 100, "early_stopping": False}
        together = fit(network, samples, max_epochs=4, **whole)
        plan = replace(PLAN, max_epochs=2, **whole)
        differences = []
        for handed_on in (True, False):
            first = fit(network, samples, max_epochs=2, **whole)
            state = network.optimizer_values() if handed_on else None
            fit(network, samples, seed=9, learning_rate=0.5)
            network.reset(first.values, 0, learning_rate=0.01, optimizer_values=state)
            assert int(network.optimizer.iterations) == (2 if handed_on else 0)
            second = train(network, samples, None, plan, np.random.default_rng(1))
            differences.append(difference(second.values, together.values))
        assert differences[0] < 1e-5
        assert differences[1] > 1e-3

    def test_values_of_another_architecture_are_refused(self, network):
        for values in (
            {"hidden_9/kernel": np.zeros((2, 2))},
            {"hidden/kernel": np.zeros((4, 5))},
        ):
            with pytest.raises(ValueError, match=r"learned by a network of another architecture"):
                network.assign(values)

    def test_what_is_not_assigned_is_as_it_was_built(self, network, samples):
        fit(network, samples)
        network.assign({"softmax/bias": np.ones(3, np.float32)})
        changed = network._initial | {"softmax/bias": np.ones(3, np.float32)}
        assert difference(network.values(), changed) == 0

    def test_layers_of_one_name_are_refused(self):
        inputs = keras.Input((2,))
        inner = []
        for _ in range(2):
            x = keras.Input((2,))
            inner.append(keras.Model(x, keras.layers.Dense(2, name="one")(x)))
        with pytest.raises(ValueError, match="share a name"):
            TrainableNetwork(
                inputs,
                inner[1](inner[0](inputs)),
                loss=keras.losses.MeanSquaredError(),
                metrics=[],
                scores=classification_scores,
                optimizer="sgd",
            )


class TestPredict:
    @pytest.mark.parametrize("sizes", [[1], [4], [5], [32], [33], [1, 70, 3]])
    def test_batches_of_any_size_give_the_same_rows(self, network, flowers, sizes):
        network.reset({}, 0, learning_rate=0.01)
        X = flowers[0][: sum(sizes)]
        parts = np.split(X, np.cumsum(sizes)[:-1])
        expected = network.model(X, training=False).numpy()
        np.testing.assert_allclose(network.predict(parts), expected, atol=1e-6)


@pytest.fixture
def empty_pool(monkeypatch):
    monkeypatch.setattr(training, "_idle", [])
    monkeypatch.setattr(training, "_MOST_IDLE", 4)


class TestPool:
    """The pool lends whatever it is given; strings stand for networks here."""

    def lend(self, key, built):
        with lease(key, lambda: built.append(key) or f"network {len(built)}") as network:
            return network

    def test_a_network_is_built_once_a_key(self, empty_pool):
        built = []
        lent = [self.lend(key, built) for key in ("a", "b", "a", "b", "a")]
        assert built == ["a", "b"]
        assert lent == ["network 1", "network 2", "network 1", "network 2", "network 1"]

    def test_four_are_kept_the_latest_used(self, empty_pool):
        built = []
        for key in "abcdaef":
            self.lend(key, built)
        assert len(training._idle) == 4
        for key in "adef":
            self.lend(key, built)
        assert built == list("abcdef")
        self.lend("b", built)
        assert built == list("abcdefb")

    def test_one_that_is_lent_is_not_lent_again(self, empty_pool):
        built = []
        with (
            lease("a", lambda: built.append(1) or "first") as outer,
            lease("a", lambda: built.append(2) or "second") as inner,
        ):
            assert (outer, inner) == ("first", "second")
        assert built == [1, 2]
        with lease("a", None) as again, lease("a", None) as another:
            assert {again, another} == {"first", "second"}

    def test_one_comes_back_after_an_error(self, empty_pool):
        with pytest.raises(RuntimeError, match="half way"), lease("a", lambda: "the network"):
            raise RuntimeError("half way")
        with lease("a", None) as network:
            assert network == "the network"

    def test_what_cannot_be_built_leaves_nothing(self, empty_pool):
        def fail():
            raise ValueError("no such optimizer")

        with pytest.raises(ValueError, match="no such optimizer"), lease("a", fail):
            pass
        assert training._idle == []

    def test_another_number_of_threads_is_another_network(self, empty_pool, monkeypatch):
        built = []
        for threads in ("1", "2", "1"):
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
            self.lend("a", built)
        assert built == ["a", "a"]

    def test_threads_never_share_a_network(self, empty_pool):
        lent, clashes, numbers = set(), [], iter(range(100))

        def use():
            for _ in range(200):
                with lease("a", lambda: next(numbers)) as network:
                    clashes.extend([network] * (network in lent))
                    lent.add(network)
                    lent.discard(network)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not clashes
        assert next(numbers) <= 4 * 200
        assert len(training._idle) <= 4


@pytest.mark.parametrize("n_seen", [3, 2])
def test_scores_of_the_held_out_part_are_those_of_training(n_seen):
    """Of three classes, one of which may be absent."""
    rng = np.random.default_rng(0)
    truth = np.eye(3, dtype=np.float32)[rng.integers(0, n_seen, 40)]
    probabilities = rng.dirichlet([1, 1, 0.2], 40).astype(np.float32)
    scores = classification_scores(truth, probabilities)
    for metric in classification_metrics(3):
        metric.update_state(truth, probabilities)
        assert scores.pop(metric.name) == pytest.approx(float(metric.result()), rel=1e-6)
    assert not scores
