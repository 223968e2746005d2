"""What estimators once answered wrongly, or refused in words of another library."""

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import Pipeline
from tiny_images import boxed, discs
from tiny_networks import TINY, textures

from hybridus import (
    ContrastEqualizer,
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    PixelSegmenter,
    UNetSegmenter,
    VotingSegmenter,
)
from hybridus.inputs.images import as_images
from hybridus.training.batches import PixelBatches
from hybridus.training.loop import TrainableNetwork

pytestmark = pytest.mark.slow

PIXELS = PixelSegmenter(LogisticRegression(), "basic", mask_size=16, sigma_max=2, random_state=0)
UNET = UNetSegmenter(
    1,
    2,
    batch_norm=False,
    deep_supervision=False,
    image_size=8,
    augmentation=None,
    max_epochs=3,
    random_state=0,
)
CLASSIFIER = FineTunedClassifier(
    TINY,
    weights="random",
    hidden_layer_sizes=(),
    augmentation=None,
    max_epochs=3,
    random_state=0,
)


@pytest.fixture(scope="module")
def ragged():
    """Four images of one size and two of another: each test fold sees one size."""
    parts = [discs(4, size=16, seed=0), discs(2, size=16, width=24, seed=1)]
    images = [image for part in parts for image in part[0]]
    return images, [mask for part in parts for mask in part[1]]


class TestRaggedImages:
    @pytest.mark.parametrize("form", [list, boxed, tuple])
    def test_all_folds_answer_in_one_form(self, ragged, form):
        images, masks = ragged
        found = cross_val_predict(PIXELS, form(images), masks, cv=KFold(3))
        assert found.dtype == object
        assert [each.shape for each in found] == [(*image.shape, 1) for image in images]
        train, test = np.arange(4), [4, 5]
        fitted = clone(PIXELS).fit([images[i] for i in train], [masks[i] for i in train])
        expected = fitted.predict([images[i] for i in test])
        for i, answer in zip(test, expected, strict=True):
            np.testing.assert_array_equal(found[i], answer)

    def test_the_form_depends_on_that_of_the_images_alone(self, ragged, tmp_path):
        from PIL import Image

        same = ragged[0][:3]
        fitted = clone(PIXELS).fit(np.array(same), np.array(ragged[1][:3]))
        array = fitted.predict(np.array(same))
        assert array.shape == (3, 16, 16, 1)
        paths = [tmp_path / f"{i}.png" for i in range(3)]
        for path, image in zip(paths, same, strict=True):
            Image.fromarray(image).save(path)
        for listed in (same, boxed(same), paths, np.array([str(path) for path in paths])):
            found = fitted.predict(listed)
            assert found.dtype == object
            assert found.shape == (3,)
            np.testing.assert_array_equal(np.stack(found), array)
        rows = np.array(same).reshape(3, -1)
        for several in (rows, rows.tolist(), np.array(same).tolist()):
            assert fitted.predict(several).shape == (3, 16, 16, 1)
        assert fitted.set_params(output_size="network").predict(same).shape == (3, 16, 16, 1)


class TestInterrupts:
    """Ctrl-C ends all the work, unless a user's own code waits for this one fit."""

    @pytest.fixture(autouse=True)
    def interrupted(self, monkeypatch):
        """Ctrl-C in the second epoch of the first fit; later fits would go through."""
        step, steps = TrainableNetwork.step, []

        def interrupt(*arguments):
            steps.append(1)
            if len(steps) == 2:
                raise KeyboardInterrupt
            return step(*arguments)

        monkeypatch.setattr(TrainableNetwork, "step", interrupt)
        return steps

    def test_a_users_own_fit_keeps_its_weights(self):
        images, y = textures(12)
        with pytest.warns(UserWarning, match="interrupted after 1 of 3 epochs"):
            net = clone(CLASSIFIER).fit(images, y)
        assert net.n_iter_ == 1
        assert len(net.predict(images)) == 12

    def test_so_does_a_pipelines(self):
        images, y = textures(12)
        model = Pipeline([("contrast", ContrastEqualizer()), ("net", clone(CLASSIFIER))])
        with pytest.warns(UserWarning, match="interrupted after 1 of 3 epochs"):
            model.fit(images, y)
        assert len(model.predict(images)) == 12

    def test_searches_end(self, interrupted):
        images, y = textures(12)
        model = Pipeline([("contrast", ContrastEqualizer()), ("net", clone(CLASSIFIER))])
        with pytest.raises(KeyboardInterrupt):
            GridSearchCV(model, {"net__learning_rate": [1e-3, 1e-2]}, cv=2).fit(images, y)
        assert len(interrupted) == 2

    def test_work_that_joblib_hands_out_ends(self, interrupted):
        images, y = textures(12)
        with pytest.raises(KeyboardInterrupt):
            Parallel(n_jobs=1)(delayed(clone(CLASSIFIER).fit)(images, y) for _ in range(2))
        assert len(interrupted) == 2

    def test_ensembles_end(self, interrupted):
        images, masks = discs(8, size=8)
        ensemble = VotingSegmenter([("a", clone(UNET)), ("b", clone(UNET))])
        with pytest.raises(KeyboardInterrupt):
            ensemble.fit(images, masks)
        assert len(interrupted) == 2
        assert not hasattr(ensemble, "estimators_")

    def test_comparisons_end(self, interrupted):
        from hybridus import compare

        images, y = textures(12)
        with pytest.raises(KeyboardInterrupt):
            compare(
                {"a": CLASSIFIER, "b": CLASSIFIER},
                images,
                y,
                groups=np.arange(12),
                n_splits=2,
                n_repeats=1,
            )
        assert len(interrupted) == 2


class TestOptimizerOfPartialFit:
    def test_another_optimizer_is_refused(self):
        images, y = textures(12)
        net = clone(CLASSIFIER).partial_fit(images, y, classes=[0, 1])
        before = net.predict_proba(images)
        message = (
            "optimizer='sgd': the last partial_fit used 'adam', .* change it back, or call fit"
        )
        with pytest.raises(ValueError, match=message):
            net.set_params(optimizer="sgd").partial_fit(images, y)
        np.testing.assert_array_equal(net.predict_proba(images), before)
        net.set_params(optimizer="adam").partial_fit(images, y)
        assert net.n_iter_ == 2

    def test_another_part_to_train_is_refused(self):
        images, y = textures(12)
        net = clone(CLASSIFIER).set_params(trainable="conv2").partial_fit(images, y, classes=[0, 1])
        with pytest.raises(ValueError, match="the state of the optimizer was learned by a network"):
            net.set_params(trainable="all").partial_fit(images, y)


class TestRoomForPixels:
    """The limit counts bytes, of the type that pixels are kept in."""

    @pytest.mark.parametrize(
        ("images", "needed"),
        [
            (np.zeros((4, 8, 8), np.uint8), 4 * 64),
            (np.full((4, 8, 8), 0.123), 4 * 64 * 4),
            (np.stack([np.full((8, 8), i / 4) for i in (0, 1, 2.1)])[..., None], 3 * 64 * 4),
            (65535 - np.arange(768, dtype=np.uint16).reshape(4, 8, 8, 3), 4 * 64 * 3 * 4),
        ],
    )
    def test_kept_where_they_fit(self, images, needed, monkeypatch):
        expected = PixelBatches(as_images(images), (8, 8)).plain(range(len(images)))
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", str((needed + 0.5) / 2**30))
        assert PixelBatches(as_images(images), (8, 8))._kept.nbytes == needed
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", str((needed - 0.5) / 2**30))
        batches = PixelBatches(as_images(images), (8, 8))
        assert batches._kept is None
        np.testing.assert_array_equal(batches.plain(range(len(images))), expected)


@pytest.mark.parametrize(
    ("segmenter", "message"),
    [
        (clone(PIXELS).set_params(sigma_max=1e9), r"'sigma_max' .* range \[1.0, 256.0\]. Got 1000"),
        (clone(PIXELS).set_params(mask_size=1), "mask_size=1: expected masks of 2 pixels or more"),
        (clone(PIXELS).set_params(estimator=UNET), "expected a classifier of rows of numbers"),
        (UNetSegmenter(1, 2, image_size=(1, 8)), r"image_size=\(1, 8\): expected masks of 2"),
        (DnCNNSegmenter(2, 2, image_size=1), "image_size=1: expected masks of 2 pixels or more"),
        (EncoderUNetSegmenter(TINY, weights="random", mask_size=1), "mask_size=1: expected masks"),
    ],
)
def test_sizes_and_parts_that_cannot_be(segmenter, message):
    images, masks = discs(4, size=8)
    with pytest.raises(ValueError, match=message):
        segmenter.fit(images, masks)
    with pytest.raises(ValueError, match=message):
        segmenter.preflight(images)
