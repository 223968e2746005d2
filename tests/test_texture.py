"""Texture features: their values, their names, and that they are computed once."""

import numpy as np
import pytest
from skimage.filters import gabor

from hybridus import TextureFeatures, load, make_hybrid_classifier, save
from hybridus.estimators import texture

X = np.random.default_rng(0).integers(0, 256, (4, 60, 80), dtype=np.uint8)
KINDS = ["intensity", "glcm", "lbp", "hog", "gabor"]


def of(kind, images=X):
    features = TextureFeatures(kinds=[kind], cache=False).fit(images)
    return dict(zip(features.get_feature_names_out(), features.transform(images).T, strict=True))


def test_rows_have_names_and_are_kept(tmp_path, monkeypatch):
    features = TextureFeatures(cache=str(tmp_path)).fit(X)
    rows = features.transform(X)
    names = features.get_feature_names_out()
    assert rows.shape == (4, len(names)) == (4, len(set(names)))
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    parts = [TextureFeatures(kinds=[kind], cache=False).fit_transform(X) for kind in KINDS]
    np.testing.assert_array_equal(rows, np.concatenate(parts, axis=1))
    monkeypatch.setitem(texture._MEASURES, "hog", None)
    np.testing.assert_array_equal(features.transform(X), rows)


def test_grey_levels_are_summed_up():
    image = np.zeros((1, 128, 128), np.uint8)
    image[0, :, 64:] = 255
    found = of("intensity", image)
    assert found["intensity_mean"] == 0.5
    assert found["intensity_deviation"] == 0.5
    assert found["intensity_skewness"] == 0
    assert found["intensity_kurtosis"] == 1
    assert found["intensity_entropy"] == 1
    assert found["intensity_percentile_5"] == 0
    assert found["intensity_percentile_95"] == 1


def test_gabor_responses_are_those_of_scikit_image():
    found = of("gabor")
    plane = texture._plane(X[0]) / 255
    for frequency, k in ((0.1, 0), (0.2, 1), (0.35, 3)):
        response = np.hypot(*gabor(plane, frequency, theta=k * np.pi / 4, mode="reflect"))
        name = f"gabor_{frequency:g}_{45 * k}"
        assert found[f"{name}_mean"][0] == pytest.approx(response.mean(), rel=0.05)
        assert found[f"{name}_deviation"][0] == pytest.approx(response.std(), rel=0.05)


def test_gradients_and_patterns_tell_directions_apart():
    stripes = np.zeros((2, 128, 128), np.uint8)
    stripes[0, ::8] = stripes[0, 1::8] = stripes[0, 2::8] = 200
    stripes[1] = stripes[0].T
    gradients = TextureFeatures(kinds=["hog"], cache=False).fit_transform(stripes)
    assert np.abs(gradients[0] - gradients[1]).max() > 0.1
    patterns = TextureFeatures(kinds=["lbp", "glcm"], cache=False).fit_transform(stripes)
    np.testing.assert_allclose(patterns[0], patterns[1], rtol=0.05, atol=0.02)  # by direction


@pytest.mark.parametrize("kinds", [[], ["lbp", "lbp"], ["haralick"]])
def test_other_kinds_are_refused(kinds):
    with pytest.raises(ValueError, match="expected one or more different ones of intensity"):
        TextureFeatures(kinds=kinds).fit(X)


def test_in_a_pipeline_and_a_model_file(tmp_path):
    pipe = make_hybrid_classifier("mobilenet_v2_0.35", "svm", weights="bundled")
    pipe.set_params(features=TextureFeatures(kinds=["lbp"], cache=False))
    pipe.fit(X, [0, 1, 0, 1])
    assert (load(save(pipe, tmp_path / "t.hybridus")).predict(X) == pipe.predict(X)).all()


def test_colour_and_grey_of_the_same_brightness_are_alike():
    colour = np.repeat(X[..., np.newaxis], 3, axis=-1)
    features = TextureFeatures(kinds=["lbp", "intensity"], cache=False)
    np.testing.assert_allclose(
        features.fit_transform(colour), features.fit_transform(X), rtol=0.02, atol=0.02
    )
