"""Model files of those who mean harm: all are refused, and nothing of them runs."""

import copy
import hashlib
import io
import json
import pickle
import struct
import zipfile

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from tiny_networks import TINY

import hybridus
from hybridus import DeepFeatureExtractor, load, read_card, save
from hybridus.estimators.scaler import FeatureScaler
from hybridus.exceptions import ModelFileError
from hybridus.persistence import contents
from hybridus.persistence.contents import check_contents

X = np.random.default_rng(0).normal(size=(20, 4))
Y = np.arange(20) % 2


class Bomb:
    """What a pickle can do: here it only leaves a file, by which it is seen."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Parts of a whole file, by name, and those of the file of skops inside."""
    model = make_pipeline(FeatureScaler(), LogisticRegression()).fit(X, Y)
    path = save(model, tmp_path_factory.mktemp("model") / "whole.hybridus")
    assert (load(path).predict(X) == model.predict(X)).all()
    with zipfile.ZipFile(path) as archive:
        outer = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(io.BytesIO(outer["model.skops"])) as archive:
        inner = {name: archive.read(name) for name in archive.namelist()}
    return outer, inner


@pytest.fixture
def ran(tmp_path):
    """A file that is there once code of a hostile file has run."""
    file = tmp_path / "ran"
    yield file
    assert not file.exists()


def zipped(parts, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return buffer.getvalue()


def packed(outer, model, **about):
    """A file with this model in it that says of itself what is right of it, but for `about`."""
    told = json.loads(outer["hybridus.json"])
    told |= {"sha256": hashlib.sha256(model).hexdigest(), **about}
    return zipped([("hybridus.json", json.dumps(told)), ("model.skops", model)])


def refused(tmp_path, content, match=None):
    path = tmp_path / "hostile (1).hybridus"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=match) as caught:
        load(path)
    assert "hostile (1).hybridus" in str(caught.value)


# Files that are something else.


def test_other_files_and_parts_of_files_are_refused(tmp_path, parts, ran):
    whole = zipped(list(parts[0].items()))
    for content in (
        b"",
        b"PK",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        pickle.dumps(Bomb(ran)),
        pickle.dumps([Bomb(ran)], protocol=0),
        zipped([("a.txt", b"hello")]),
        zipped([]),
        whole[:-30],
        whole[: len(whole) // 2],
        whole[200:],
        whole.replace(b"hybridus_model", b"hybridus_modem"),
        parts[0]["model.skops"],
    ):
        refused(tmp_path, content, "no model file|damaged")
    joblib.dump(Bomb(ran), tmp_path / "a.joblib")
    refused(tmp_path, (tmp_path / "a.joblib").read_bytes(), "joblib.load, which runs code")


def test_every_flipped_byte_is_told_or_does_no_harm(tmp_path, parts):
    whole = zipped(list(parts[0].items()))
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.hybridus"
    told = 0
    for place in rng.integers(0, len(whole), 60):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert load(path).predict(X).shape == (20,)  # a byte that says nothing, as of the date
        except ModelFileError:
            told += 1
    assert told > 40


def test_a_newer_format_says_so(tmp_path, parts):
    outer = parts[0]
    refused(tmp_path, packed(outer, outer["model.skops"], hybridus_model=2), "newer hybridus")
    for number in (None, "1", [1]):
        content = packed(outer, outer["model.skops"], hybridus_model=number)
        refused(tmp_path, content, "does not say what it is")


# Archives that are no archives of ours.


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "..\\evil", "a/b.npy", "x.pkl", "model.skops/", "évil", "a" * 999],
)
def test_other_names_are_refused_outside_and_inside(tmp_path, parts, name):
    outer, inner = parts
    refused(tmp_path, zipped([*outer.items(), (name, b"")]), "none of its parts")
    refused(tmp_path, packed(outer, zipped([*inner.items(), (name, b"")])), "none of its parts")


def test_archives_that_would_swell_are_refused(tmp_path, parts):
    outer, inner = parts
    zeros = bytes(50_000_000)
    swollen = zipped([*inner.items(), ("9.npy", zeros)], zipfile.ZIP_DEFLATED)
    assert len(swollen) < 100_000
    refused(tmp_path, packed(outer, swollen), "is compressed")
    refused(tmp_path, zipped(list(outer.items()), zipfile.ZIP_DEFLATED), "is compressed")


def test_parts_that_claim_a_size_or_lie_upon_one_another_are_refused(tmp_path, parts):
    outer, inner = parts
    whole = zipped(list(inner.items()))
    for size in (2**31, 2**32 - 1):
        claimed = bytearray(whole)
        place = claimed.rfind(b"PK\x01\x02")  # the last entry of the directory
        struct.pack_into("<II", claimed, place + 20, size, size)
        refused(tmp_path, packed(outer, bytes(claimed)))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped([*inner.items(), next(iter(inner.items()))])
    refused(tmp_path, packed(outer, twice), "two parts of one name")
    link = zipfile.ZipInfo("0.npy")
    link.external_attr = 0o120777 << 16
    refused(tmp_path, packed(outer, zipped([*inner.items(), (link, b"/etc/passwd")])), "a link")


def test_a_card_without_end_is_refused(tmp_path, parts):
    outer = parts[0]
    content = packed(outer, outer["model.skops"], card={"model": "x" * 5_000_000})
    refused(tmp_path, content, "card is too large")
    deep = zipped([("hybridus.json", b"[" * 200_000), ("model.skops", outer["model.skops"])])
    refused(tmp_path, deep)


@pytest.mark.parametrize("card", [{"evil": 1}, {"classes": "abc"}, {"scores": []}, 7, {"model": 3}])
def test_a_card_of_another_kind_is_refused(tmp_path, parts, card):
    path = tmp_path / "a.hybridus"
    path.write_bytes(packed(parts[0], parts[0]["model.skops"], card=card))
    with pytest.raises(ModelFileError, match="no card that can be read"):
        read_card(path)


# Types that are no part of a model.


def node(loader, module, name, **more):
    return {"__loader__": loader, "__module__": module, "__class__": name, **more}


def text(value):
    return node("JsonNode", "builtins", "str", content=json.dumps(value), is_json=True)


def listed(*nodes):
    return node("TupleNode", "builtins", "tuple", content=list(nodes))


def hostile_nodes():
    nothing = node("DictNode", "builtins", "dict", content={}, key_types=listed())
    system = node("FunctionNode", "os", "system")
    return {
        "os.system": system,
        "posix.system": node("FunctionNode", "posix", "system"),
        "eval": node("FunctionNode", "builtins", "eval"),
        "exec as a type": node("TypeNode", "builtins", "exec"),
        "Popen": node("ObjectNode", "subprocess", "Popen", content=nothing),
        "Popen by its constructor": node(
            "ConstructorFromReduceNode", "subprocess", "Popen", content=listed(text("id"))
        ),
        "Path": node(
            "ConstructorFromReduceNode", "pathlib", "PosixPath", content=listed(text("/"))
        ),
        "partial": node(
            "PartialNode",
            "functools",
            "partial",
            content={"func": system, "args": listed(), "kwds": nothing, "namespace": nothing},
        ),
        "a method": node(
            "MethodNode", "builtins", "str", content={"func": "format", "obj": text("{}")}
        ),
        "methodcaller": node(
            "OperatorFuncNode", "operator", "methodcaller", attrs=listed(text("x"))
        ),
        "attrgetter": node("OperatorFuncNode", "operator", "attrgetter", attrs=listed(text("x"))),
        "a ufunc": node("FunctionNode", "numpy", "add"),
        "numpy.load": node("FunctionNode", "numpy", "load"),
        "joblib.load": node("FunctionNode", "joblib", "load"),
        "a list of another kind": node("ListNode", "os", "system", content=[]),
        "a dict of another kind": node("DictNode", "os", "environ", content={}, key_types=listed()),
        "a tuple of another kind": node("TupleNode", "os", "terminal_size", content=[]),
        "a defaultdict": node("DefaultDictNode", "collections", "defaultdict", content={}),
        "an array of another kind": node("NdArrayNode", "os", "system", type="numpy", file="1.npy"),
        "a matrix of another kind": node("SparseMatrixNode", "os", "system", type="scipy"),
        "a tree of another kind": node("TreeNode", "os", "system", content={}),
        "a loss of another kind": node("LossNode", "os", "system", content={}),
        "a quantile forest": node("QuantileForestNode", "quantile_forest", "Forest", content={}),
        "a kind that nobody knows": node("EvilNode", "builtins", "str"),
        "a kind that is no text": node(["ListNode"], "builtins", "list", content=[]),
        "a file's handle": node("ObjectNode", "io", "FileIO", content=nothing),
        "a lambda": node("FunctionNode", "__main__", "<lambda>"),
        "hybridus' own store": node("ObjectNode", "hybridus.store.rows", "FeatureStore"),
        "hybridus' own function": node("FunctionNode", "hybridus.inputs.files", "dump_atomically"),
        "a network in training": node("ObjectNode", "hybridus.training.loop", "TrainableNetwork"),
        "an engine": node("ObjectNode", "hybridus.encoders.engine", "OpenVINOEngine"),
        "a study": node("ObjectNode", "hybridus.protocol.study", "Study"),
        "an estimator of a test": node("ObjectNode", "cli_estimators", "BrightClassifier"),
        "a Keras layer": node("ObjectNode", "keras.layers", "Lambda"),
        "gradient boosting's predictor": node(
            "ObjectNode", "sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"
        ),
        "a type as a class": node("ObjectNode", "builtins", "type"),
        "a masked array": node("MaskedArrayNode", "numpy.ma", "MaskedArray", content={}),
    }


def changed(parts, change):
    """The file of skops with another schema."""
    inner = dict(parts[1])
    schema = copy.deepcopy(json.loads(inner["schema.json"]))
    other = change(schema)
    schema = schema if other is None else other
    inner["schema.json"] = json.dumps(schema).encode()
    return packed(parts[0], zipped(list(inner.items())))


@pytest.mark.parametrize("name", hostile_nodes())
def test_types_that_are_no_part_of_a_model_are_refused(tmp_path, parts, name):
    hostile = hostile_nodes()[name]

    def hide(schema):  # deep inside, as a parameter
        schema["content"]["content"]["verbose"] = hostile

    refused(tmp_path, changed(parts, hide), "no part of a model")

    def whole(schema):
        return {**hostile, "protocol": schema["protocol"]}

    refused(tmp_path, changed(parts, whole))


def test_schemas_that_are_none_are_refused(tmp_path, parts):
    for schema in ([], 7, {"protocol": 2}, {"protocol": 99}, {"protocol": float("nan")}):
        refused(tmp_path, changed(parts, lambda _, schema=schema: schema))
    inner = dict(parts[1])
    inner["schema.json"] = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    refused(tmp_path, packed(parts[0], zipped(list(inner.items()))))
    refused(tmp_path, changed(parts, lambda schema: {**text("x"), "protocol": schema["protocol"]}))
    del inner["schema.json"]
    refused(tmp_path, packed(parts[0], zipped(list(inner.items()))))


# Arrays that are not what they say.


def npy(shape, descr="<f8", data=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    "array",
    [
        npy((10**15,)),
        npy((2, 4), data=bytes(63)),
        npy((-1,), data=bytes(8)),
        npy((1,), "|O", pickle.dumps([1])),
        npy((1,), [("a", "|O")], bytes(8)),
        npy("evil"),
        b"\x93NUMPY\x09\x00" + bytes(100),
        pickle.dumps(1),
        b"",
    ],
    ids=range(9),
)
def test_arrays_that_are_not_what_they_say_are_refused(tmp_path, parts, array):
    inner = dict(parts[1])
    inner[next(name for name in inner if name.endswith(".npy"))] = array
    refused(tmp_path, packed(parts[0], zipped(list(inner.items()))))


def test_arrays_with_the_longer_header_are_read_as_they_are(tmp_path, parts):
    inner = dict(parts[1])
    name = next(name for name in inner if name.endswith(".npy"))
    array = np.load(io.BytesIO(inner[name]), allow_pickle=False)
    written = io.BytesIO()
    np.lib.format.write_array(written, array, version=(2, 0), allow_pickle=False)
    inner[name] = written.getvalue()
    check_contents(zipped(list(inner.items())))
    inner[name] = written.getvalue() + b"\0"
    with pytest.raises(ValueError, match="array"):
        check_contents(zipped(list(inner.items())))


def test_a_schema_without_end_is_refused(parts, monkeypatch):
    monkeypatch.setattr(contents, "MOST_NODES", 2)
    with pytest.raises(ValueError, match="no end"):
        check_contents(zipped(list(dict(parts[1]).items())))


def test_an_array_that_was_changed_is_refused(tmp_path, parts):
    outer = dict(parts[0])
    outer["model.skops"] = outer["model.skops"].replace(b"\x93NUMPY", b"\x93NUMPZ", 1)
    refused(tmp_path, zipped(list(outer.items())), "does not hold what was written")
    other = save(FeatureScaler().fit(X), tmp_path / "other.hybridus")
    with zipfile.ZipFile(other) as archive:
        outer["model.skops"] = archive.read("model.skops")
    refused(tmp_path, zipped(list(outer.items())), "does not hold what was written")


# Estimators that would do harm once they are asked.


def resaved(tmp_path, model, change):
    """Save a model whose fitted state someone has changed."""
    change(model)
    path = save(model, tmp_path / "hostile (1).hybridus", include_weights=False)
    return path.read_bytes()


def test_support_vectors_that_do_not_fit_are_refused(tmp_path):
    def fewer(model):
        model.support_vectors_ = model.support_vectors_[:2]

    def more_classes(model):
        model._n_support = np.array([900_000, 900_000], dtype=np.int32)

    def other_coefficients(model):
        model._dual_coef_ = model._dual_coef_[:, :1]

    for change in (fewer, more_classes, other_coefficients):
        content = resaved(tmp_path, SVC().fit(X, Y), change)
        refused(tmp_path, content, "not as many as it says")


def test_a_tree_that_leads_outside_itself_is_refused(tmp_path):
    for name, value in (("left_child", 2**40), ("left_child", -7), ("feature", 99)):
        forest = RandomForestClassifier(1, random_state=0).fit(X, Y)
        tree = forest.estimators_[0].tree_
        state = tree.__getstate__()
        nodes = state["nodes"].copy()
        nodes[name][0] = value
        tree.__setstate__({**state, "nodes": nodes})
        refused(tmp_path, resaved(tmp_path, forest, lambda model: None), "branches")


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        ("os.system", {}),
        ("subprocess.check_output", {}),
        ("keras.models.load_model", {}),
        ("keras.applications.MobileNetV2", {"weights": "/etc/passwd"}),
        ("keras.applications.MobileNetV2", {"weights": "imagenet"}),
        ("keras.applications.VGG16", {"include_top": {"a": 1}, "weights": None}),
    ],
)
def test_a_builder_that_is_not_known_here_is_refused(tmp_path, builder, options):
    extractor = DeepFeatureExtractor(TINY, weights="random").fit(np.zeros((1, 8, 8)))

    def change(model):
        spec = copy.copy(model.frozen_.spec)
        object.__setattr__(spec, "builder", "keras.applications.Tiny")
        object.__setattr__(spec, "options", {})
        object.__setattr__(model.frozen_, "spec", spec)
        model.encoder = spec
        model._fitted_with = {**model._fitted_with, "encoder": spec}

    change(extractor)
    path = save(extractor, tmp_path / "hostile (1).hybridus", include_weights=False)
    with zipfile.ZipFile(path) as archive:
        outer = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(io.BytesIO(outer["model.skops"])) as archive:
        inner = {name: archive.read(name) for name in archive.namelist()}
    before = json.dumps(json.dumps("keras.applications.Tiny"))
    schema = inner["schema.json"].decode()
    assert before in schema
    inner["schema.json"] = schema.replace(before, json.dumps(json.dumps(builder))).encode()
    if options:
        import skops.io

        written = skops.io.dumps(options)
        with zipfile.ZipFile(io.BytesIO(written)) as archive:
            node_of_options = json.loads(archive.read("schema.json"))
        found = json.loads(inner["schema.json"])

        def put(value):
            if isinstance(value, dict):
                if "options" in value and isinstance(value["options"], dict):
                    value["options"] = {**node_of_options, "__id__": 1}
                for one in value.values():
                    put(one)
            elif isinstance(value, list):
                for one in value:
                    put(one)

        put(found)
        inner["schema.json"] = json.dumps(found).encode()
    refused(tmp_path, packed(outer, zipped(list(inner.items()))), "has the builder")


def test_a_network_that_is_none_is_told(tmp_path):
    from hybridus.encoders.carried import CarriedNetwork

    extractor = DeepFeatureExtractor(TINY, weights="random").fit(np.zeros((1, 8, 8)))
    extractor.network_ = CarriedNetwork.of({"xml": b"<net name='evil'/>", "bin": b""})
    again = load(save(extractor, tmp_path / "a.hybridus"))
    with pytest.raises(ValueError, match="network that travels with this model cannot be read"):
        again.transform(np.zeros((1, 8, 8)))


def test_rows_of_a_network_that_claims_to_be_another_are_never_mixed(tmp_path):
    """A file says which encoder it holds: what it holds decides where its rows are kept."""
    images = np.random.default_rng(1).random((2, 8, 8))
    extractor = DeepFeatureExtractor(TINY, weights="random").fit(images)
    before = extractor.transform(images)
    again = load(save(extractor, tmp_path / "a.hybridus"))
    assert again._frozen().fingerprint != extractor._frozen().fingerprint
    other = DeepFeatureExtractor(TINY, weights="random", pooling="max").fit(images)
    again.network_ = other._carry()
    assert np.abs(again.transform(images) - before).max() > 1e-3
    np.testing.assert_array_equal(extractor.transform(images), before)


def test_what_is_not_ours_is_refused_before_it_is_written(tmp_path):
    class Strange(FeatureScaler):
        pass

    for model in (
        make_pipeline(FunctionTransformer(np.square), LogisticRegression()),
        make_pipeline(Strange(), LogisticRegression()),
    ):
        with pytest.raises(TypeError, match=r"cannot be written to a model file .*joblib"):
            save(model.fit(X, Y), tmp_path / "a.hybridus")
    assert not (tmp_path / "a.hybridus").exists()
    assert hybridus.load is load
