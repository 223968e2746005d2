"""Digests of folds: what decides a result changes them, and nothing else does."""

import dataclasses
import functools
import os
import subprocess
import sys
import types
from collections import UserList

import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from hybridus import FineTunedClassifier, make_hybrid_classifier
from hybridus.encoders import registry
from hybridus.estimators.segmenters import PixelSegmenter, VotingSegmenter
from hybridus.inputs.images import Images
from hybridus.protocol import digests
from hybridus.protocol.digests import digest_of, digest_of_data, versions


def script(text, name="by_the_user"):
    """Functions and classes of a user's own module; each text gives new ones of the same names."""
    module = types.ModuleType("__main__")
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)
    return module


SCRIPT = """
import numpy as np
from sklearn.svm import SVC
SIZES = {"coarse": 3}

def smooth(x):
    return x / SIZES["coarse"]  # of neighbours

def clean(x, level=2):
    return [smooth(one) for one in x if one > level and one not in {"a", "b", "c", "d"}]

class Own(SVC):
    shift = 1

    @property
    def twice(self):
        return 2 * self.shift

    def predict(self, X):
        return clean(super().predict(X))

def scaled(by):
    return lambda x: by * np.mean(x)
"""


def test_equal_things_have_equal_digests_wherever_they_are_made():
    images = np.arange(24.0).reshape(2, 3, 4)
    assert digest_of(images) == digest_of(np.asfortranarray(images)) == digest_of(images[:])
    assert digest_of(images) != digest_of(images.astype("f4"))
    assert digest_of(images) != digest_of(images.reshape(2, 4, 3))
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    assert digest_of(frame) == digest_of(frame.copy()) != digest_of(frame[["y", "x"]])


@pytest.mark.slow
def test_digests_are_the_same_in_every_process():
    code = f"""
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer
from hybridus import make_hybrid_classifier, make_preset
from hybridus.protocol.digests import digest_of
{SCRIPT}
things = [Own(), FunctionTransformer(clean), scaled(2), {{"x", "y", "z"}}, make_preset("unet")]
things += [GridSearchCV(make_hybrid_classifier("vgg16", weights="random"), {{"head__C": [1, 2]}})]
print(*map(digest_of, things))
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(set(told[0].split())) == 6


def test_parameters_at_any_depth_count_and_idle_ones_do_not():
    def search(C=1.0, **parameters):
        return GridSearchCV(make_pipeline(SVC(C=C)), {"svc__gamma": [1, 2]}, **parameters)

    base = digest_of(search())
    assert base == digest_of(search(n_jobs=2, verbose=1))
    for other in (search(C=2.0), search(cv=3), search(refit=False)):
        assert digest_of(other) != base
    fitted = search(cv=2).fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    assert digest_of(fitted) == digest_of(search(cv=2))


def test_what_is_not_cloned_counts_with_what_it_has_learned():
    X = [[0.0], [1.0]]
    one, same, other = (
        FrozenEstimator(SVC().fit(X, y)) for y in ([0, 1], [0, 1], ["benign", "malignant"])
    )
    assert digest_of(one) == digest_of(same) != digest_of(other)


CHANGES = {
    "a call": ("level=2", "level=3"),
    "an instruction": ("one > level", "one >= level"),
    "a constant": ('"d"}', '"e"}'),
    "a function that is called": ("return x /", "return x *"),
    "a value that is named": ('"coarse": 3', '"coarse": 4'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_code_of_the_user_counts_whatever_its_name(change):
    before, after = script(SCRIPT), script(SCRIPT.replace(*change))
    for name in ("clean", "Own"):
        assert digest_of(getattr(before, name)) != digest_of(getattr(after, name))
    assert digest_of(FunctionTransformer(before.clean)) != digest_of(
        FunctionTransformer(after.clean)
    )
    assert digest_of(make_scorer(before.clean)) != digest_of(make_scorer(after.clean))
    assert digest_of(before.Own()) != digest_of(after.Own())


def test_classes_count_with_their_attributes_properties_and_bases():
    before = digest_of(script(SCRIPT).Own())
    for change in (("shift = 1", "shift = 2"), ("2 * self", "3 * self"), ("Own(SVC)", "Own(list)")):
        assert digest_of(script(SCRIPT.replace(*change)).Own) != digest_of(script(SCRIPT).Own)
    moved = "# a comment\n\n" + SCRIPT.replace("# of neighbours", "")
    assert digest_of(script(moved).Own()) == before


def test_closures_and_partial_arguments_count():
    own = script(SCRIPT)
    assert digest_of(own.scaled(2)) == digest_of(own.scaled(2)) != digest_of(own.scaled(3))
    twos = [digest_of(functools.partial(own.clean, level=level)) for level in (2, 2, 3)]
    assert twos[0] == twos[1] != twos[2]


def test_functions_behind_a_cache_are_told_by_what_they_do():
    text = """
from functools import lru_cache
@lru_cache
def slow(n):
    return n + 1
"""
    before = digest_of(script(text).slow)
    assert before == digest_of(script(text).slow)
    assert before != digest_of(script(text.replace("n + 1", "n + 2")).slow)


def test_functions_that_call_each_other_are_told():
    text = """
def even(n):
    return n == 0 or odd(n - 1)
def odd(n):
    return n != 0 and even(n - 1)
"""
    assert digest_of(script(text).even) == digest_of(script(text).even)
    assert digest_of(script(text).even) != digest_of(script(text.replace("n != 0", "n > 0")).even)


def test_what_cannot_be_told_is_an_error():
    with (
        open(__file__) as file,
        pytest.raises(TypeError, match="cannot be told by its content"),
    ):
        digest_of(FunctionTransformer(kw_args={"file": file}))


# Encoders.


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDUS_WEIGHTS", str(tmp_path))
    (tmp_path / "vgg16.safetensors").write_bytes(b"trained")
    return tmp_path / "vgg16.safetensors"


@pytest.mark.parametrize(
    "model",
    [
        make_hybrid_classifier("vgg16"),
        FineTunedClassifier("vgg16"),
        VotingSegmenter([("pixels", PixelSegmenter(encoder="vgg16"))]),
        GridSearchCV(make_hybrid_classifier(), {"features__encoder": ["mobilenet_v2", "vgg16"]}),
    ],
    ids=["features", "trained", "inside an ensemble", "a candidate"],
)
def test_other_weights_under_the_same_name_are_another_model(weights, model, monkeypatch):
    if not isinstance(model, GridSearchCV):
        assert digest_of(model) != digest_of(model.__class__)
    before = digest_of(model)
    assert digest_of(model) == before
    weights.write_bytes(b"trained again")
    assert digest_of(model) != before
    weights.write_bytes(b"trained")
    assert digest_of(model) == before
    other = registry.Preprocessing(scale=(2.0, 2.0, 2.0))
    changed = dataclasses.replace(registry.get_encoder("vgg16"), preprocessing=other)
    monkeypatch.setitem(registry._REGISTRY, "vgg16", changed)
    assert digest_of(model) != before


def test_weights_files_count_by_their_content(tmp_path):
    def model(file):
        return make_hybrid_classifier("vgg16", weights=str(file))

    one, copy, other = (tmp_path / f"{name}.safetensors" for name in ("one", "copy", "other"))
    for file, content in ((one, b"1"), (copy, b"1"), (other, b"2")):
        file.write_bytes(content)
    assert digest_of(model(one)) == digest_of(model(copy)) != digest_of(model(other))


# Samples.


def digest(X, y=(0, 1), groups=None, *, classes=True):
    return digest_of_data(X, np.asarray(y) if classes else y, groups, classes=classes)


def test_files_count_by_their_content_in_any_form(tmp_path):
    names = [tmp_path / "scan.png", tmp_path / "other.png"]
    for level, name in enumerate(names):
        Image.fromarray(np.full((4, 5), 9 * level, np.uint8)).save(name)
    texts = [str(name) for name in names]
    forms = [names, texts, np.array(texts), np.array(names, dtype=object), pd.Series(texts)]
    forms += [tuple(names), UserList(texts)]
    assert len({digest(form) for form in forms}) == 1
    assert digest(texts) != digest(texts[::-1])
    moved = [name.rename(tmp_path / f"moved {i}.png") for i, name in enumerate(names)]
    assert digest(moved) == digest([*moved])
    before = digest(moved)
    moved[0].write_bytes(moved[1].read_bytes())
    assert digest(moved) != before
    masks = [[texts[0], moved[1]], moved[1]]
    assert digest(moved, masks, classes=False) != digest(moved, moved, classes=False)


def test_names_of_classes_and_groups_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.zeros((2, 3))
    before = digest(X, ["benign.txt", "normal.txt"])
    (tmp_path / "benign.txt").write_text("something")
    assert digest(X, ["benign.txt", "normal.txt"]) == before
    assert digest(X, ["1", "2"]) != digest(X, [1, 2])
    groups = np.array(["a", "b"])
    assert len({digest(X), digest(X, groups=groups), digest(X, groups=groups[::-1])}) == 3


def test_versions_are_those_of_what_computes():
    known = versions()
    assert known["scikit-learn"] == sklearn.__version__
    assert {"hybridus", "numpy", "keras", "openvino"} <= known.keys()
    assert digest_of(GaussianNB) != digest_of(SVC)


class TestWhatCodeNames:
    """Members, methods and values that a user's own code reaches for."""

    def digest(self, text):
        return digest_of(FunctionTransformer(script(text).made))

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("@staticmethod\n    def half(x): return x / 2", "x / 3"),
            ("@classmethod\n    def half(cls, x): return x / 2", "x / 3"),
            ("@functools.cached_property\n    def half(self): return 1 / 2", "1 / 3"),
        ],
    )
    def test_every_kind_of_member_counts(self, before, after):
        text = f"import functools\nclass Own:\n    {before}\ndef made(x): return Own\n"
        changed = text.replace("x / 2", after).replace("1 / 2", after)
        assert self.digest(text) == self.digest(text)
        assert self.digest(text) != self.digest(changed)

    def test_a_bound_method_counts_with_what_it_is_bound_to(self):
        text = (
            "class Own:\n    def __init__(self, by): self.by = by\n    def made(self, x): return x"
        )
        own = script(text).Own
        bound = [digest_of(FunctionTransformer(own(by).made)) for by in (1, 1, 2)]
        assert bound[0] == bound[1] != bound[2]

    def test_what_cannot_be_told_by_its_content_counts_by_its_kind(self):
        text = "import threading\nLOCK = threading.Lock()\ndef made(x): return LOCK and x"
        assert self.digest(text) == self.digest(text)
        assert self.digest(text) != self.digest(text.replace("Lock()", "Event()"))

    def test_a_name_that_is_not_bound_yet_is_told(self):
        text = (
            "def outer():\n    def made(x): return later\n    held = made\n"
            "    if False: later = 1\n    return held\nmade = outer()"
        )
        assert self.digest(text) == self.digest(text)


def test_weights_that_cannot_be_had_and_builders_that_fail_are_left_to_the_fit(monkeypatch):
    def broken(input_shape):
        raise RuntimeError("no network today")

    spec = registry.EncoderSpec("broken", broken)
    net = FineTunedClassifier(spec, weights="nowhere.h5")
    assert digest_of(net) == digest_of(net) != digest_of(FineTunedClassifier(spec))


def test_images_that_are_open_already_count_by_their_pixels():
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    found = [
        digest_of_data(Images(given.__getitem__, 2), [0, 1], None, classes=True)
        for given in (pixels, pixels.copy(), 255 - pixels)
    ]
    assert found[0] == found[1] != found[2]
    seven, eight = (digest_of_data(one, [0, 1], None, classes=True) for one in (7, 8))
    assert seven != eight


def test_a_package_that_is_absent_has_no_version(monkeypatch):
    monkeypatch.setattr(digests, "_PACKAGES", ("no-such-package",))
    assert versions()["no-such-package"] is None
