"""Classes and groups: one for each sample, none missing, all of one kind, or a clear error."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from sklearn.exceptions import DataConversionWarning

from hybridus import DeepFeatureExtractor, FineTunedClassifier, make_hybrid_classifier
from hybridus.inputs.groups import check_groups
from hybridus.inputs.labels import check_labels
from hybridus.protocol.compare import compare
from hybridus.protocol.folds import repeated_folds
from hybridus.training.held_out import split_validation

NOTHING = [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT")]


def masked(values, i):
    return np.ma.masked_array(values, mask=np.arange(len(values)) == i)


BAD_COLUMNS = [
    *[
        (["a", "b", nothing, "b"], r"\[2\] is missing \((None|nan|<NA>|NaT)\)")
        for nothing in NOTHING
    ],
    ([0, None, 1, 0], r"\[1\] is missing \(None\)"),
    (np.array([0, np.nan, 1, 0]), r"\[1\] is missing \(nan\)"),
    (np.array(["a", None, "b", "a"], dtype=object), r"\[1\] is missing \(None\)"),
    (pd.Series(["a", None, "b", "a"], dtype="string"), r"\[1\] is missing \(<NA>\)"),
    (pd.Series([1, None, 2, 1], dtype="Int64"), r"\[1\] is missing \(<NA>\)"),
    (pd.Series(["a", None, "b", "a"], dtype="category"), r"\[1\] is missing \(nan\)"),
    (masked([0, 1, 1, 0], 2), r"\[2\] is missing \(masked\)"),
    (masked(["a", "b", "b", "a"], 2), r"\[2\] is missing \(masked\)"),
    (np.array(["a", np.nan, "b", "a"]), r"\[1\] is the text 'nan', which stands for a missing"),
    (pd.Series(["a", None, "b", "a"]).astype(str), r"\[1\] is (the text 'None'|missing \(nan\))"),
    (["a", "", "b", " "], r"\[1\] is the text ''"),
    ([0, "1", 0, "1"], r"\[0\] is 0 and \w+\[1\] is '1': expected values of one kind, all numbers"),
    (["1", "0", 1, "0"], r"\[0\] is '1' and \w+\[2\] is 1: expected values of one kind"),
    (["a", "b ", "b", "a"], r" has both 'b ' and 'b', which differ by spaces"),
]


@pytest.mark.parametrize(("column", "message"), BAD_COLUMNS)
class TestRefused:
    def test_as_labels(self, column, message):
        with pytest.raises(ValueError, match="y" + message.replace(r"\w+", "y")):
            check_labels(column)

    def test_as_groups(self, column, message):
        with pytest.raises(ValueError, match="groups" + message.replace(r"\w+", "groups")):
            check_groups(column, 4)


IMAGES = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
LABELS = [
    ["a", None, "b", "a"],
    ["a", float("nan"), "b", "a"],
    ["a", pd.NA, "b", "a"],
    [0, "1"] * 2,
]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    "fit",
    [
        lambda X, y: FineTunedClassifier(weights="random").fit(X, y),
        lambda X, y: FineTunedClassifier(weights="random").partial_fit(X, y, classes=["a", "b"]),
        lambda X, y: make_hybrid_classifier(weights="random").fit(X, y),
        lambda X, y: DeepFeatureExtractor(weights="random").fit(X, pd.Series(y)),
        lambda X, y: repeated_folds(y, n_splits=2),
        lambda X, y: compare({"m": FineTunedClassifier()}, X, y, groups="independent", n_splits=2),
    ],
    ids=["network", "network, part by part", "hybrid", "extractor", "folds", "comparison"],
)
def test_every_door_refuses_labels_alike(fit, labels):
    with pytest.raises(ValueError, match=r"y\[1\] is missing|y\[0\] is 0 and y\[1\] is '1'"):
        fit(IMAGES, labels)


BAD_GROUPS = [
    ([None, "a", "b", None] * 3, r"groups\[0\] is missing \(None\): a sample without duplicates"),
    (np.array([1.0, np.nan, 2.0] * 4), r"groups\[1\] is missing \(nan\)"),
    (pd.Series([1, pd.NA, 2] * 4, dtype="Int64"), r"groups\[1\] is missing \(<NA>\)"),
    (np.arange(12).reshape(12, 1), r"groups has shape \(12, 1\): expected \(12,\)"),
    (np.arange(24).reshape(12, 2), r"groups has shape \(12, 2\): expected \(12,\)"),
    (np.arange(11), r"groups has shape \(11,\): expected \(12,\)"),
    ("patients", r"groups='patients': expected \(12,\), a group for each sample, or 'independent'"),
    ({1, 2}, r"groups has shape \(\)"),
]


@pytest.mark.parametrize(("groups", "message"), BAD_GROUPS)
@pytest.mark.parametrize(
    "split",
    [
        lambda groups: repeated_folds([0, 1] * 6, groups, n_splits=2),
        lambda groups: split_validation(np.array([0, 1] * 6), groups, 0.2, seed=0),
        lambda groups: FineTunedClassifier(weights="random")._hold_out(
            np.array([0, 1] * 6), np.arange(6), groups, seed=0
        ),
    ],
    ids=["folds", "validation part", "network"],
)
def test_every_split_refuses_groups_alike(split, groups, message):
    with pytest.raises(ValueError, match=message):
        split(groups)


def test_groups_are_numbered_in_the_order_of_their_names():
    assert check_groups([10, 9, 10, 100], 4).tolist() == [1, 0, 1, 2]
    assert check_groups(np.array([2.0, 1, 2], dtype=object), 3).tolist() == [1, 0, 1]
    assert check_groups(pd.Series(["b", "a"], dtype="category", index=[7, 8]), 2).tolist() == [1, 0]
    assert check_groups("independent", 3) is None
    assert check_groups(None, 3) is None


def test_labels_keep_their_values():
    assert check_labels(["b", "a"]).tolist() == ["b", "a"]
    assert check_labels(np.array([1, 0], dtype=object)).dtype.kind == "i"
    assert check_labels(pd.Series([True, False])).tolist() == [True, False]
    assert check_labels(pd.Series([3, 1], dtype="Int64")).tolist() == [3, 1]
    with pytest.warns(DataConversionWarning, match="column-vector"):
        assert check_labels([["b"], ["a"]]).tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0, 1]] * 3, r"y has shape \(3, 2\): expected one class per sample"),
        ("benign", r"y has shape \(\)"),
        ([0.5, 0.7, 1.2], "Unknown label type: continuous"),
        ([0.0, np.inf], "infinity"),
        (None, "the target y is None"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_labels(y)


def test_measured_values_and_masks_pass_the_extractor():
    extractor = DeepFeatureExtractor("mobilenet_v2_0.35", weights="random", image_size=32)
    for y in (
        [0.5, np.nan, 1.2, 3.0],
        np.zeros((4, 8, 8)),
        [np.zeros((2, 2)), np.ones((3, 2))] * 2,
    ):
        assert extractor.fit(IMAGES, y) is extractor


def test_a_column_of_labels_is_compared_as_estimators_take_it():
    from sklearn.dummy import DummyClassifier

    column = pd.DataFrame({"class": ["a", "b"] * 6})
    with pytest.warns(DataConversionWarning, match="column-vector"):
        folds = repeated_folds(column, n_splits=2)
    X = np.zeros((12, 2))
    with pytest.warns(DataConversionWarning, match="column-vector"):
        found = compare({"m": DummyClassifier()}, X, column, groups="independent", n_splits=2)
    assert found.table.loc["m", "accuracy_mean"] == 0.5
    assert [len(test) for _, test in folds] == [6, 6]


@given(
    st.lists(
        st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["0", "1", "nan", ""])),
        min_size=1,
        max_size=8,
    )
)
def test_groups_are_equal_where_their_names_are_or_refused(names):
    try:
        codes = check_groups(names, len(names))
    except ValueError:
        kinds = {type(name) for name in names}
        assert len(kinds) > 1 or kinds == {type(None)} or {"", "nan"} & set(names)
        return
    for i, name in enumerate(names):
        assert [names[j] == name for j in range(len(names))] == (codes == codes[i]).tolist()
