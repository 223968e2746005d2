"""An audit: what is wrong is told, with the images meant, and nothing where all is well."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hybridus import audit, compare, make_breast_phantoms
from hybridus.datasets.recognition import list_folder
from hybridus.inputs.images import as_images
from hybridus.protocol.auditing.findings import of_duplicates, of_labels
from hybridus.protocol.auditing.label_errors import suspect_labels
from hybridus.protocol.auditing.looks import look_at
from hybridus.protocol.auditing.shortcuts import find_shortcuts

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_trees")]


@pytest.fixture(scope="module")
def phantoms():
    return make_breast_phantoms(90, image_size=96, random_state=11)


@pytest.fixture(scope="module")
def clean(phantoms):
    return audit(
        phantoms.images,
        phantoms.target,
        phantoms.masks,
        model=None,
        class_names=phantoms.target_names,
    )


def of_kind(found, kind):
    rows = found.findings[found.findings["kind"] == kind]
    assert len(rows) == 1, found
    return rows.iloc[0]


def test_clean_phantoms_raise_nothing(clean):
    assert clean.alarms == []
    assert set(clean.findings["severity"]) <= {"note"}
    assert clean.groups.tolist() == list(range(90))
    assert clean.label_errors is None
    assert str(clean) == "90 images of 90 scans: no alarms"


def test_planted_duplicates_contradictions_and_a_mark_raise_all_three_alarms(phantoms):
    images, target = phantoms.images.copy(), phantoms.target.copy()
    images[target == 1, 4:8, 4:16] = 230  # a bar in the corner of malignant scans
    copies = [images[2][:, ::-1], images[3][8:90, 5:], images[4] // 2, images[6]]
    labels = np.concatenate([target, target[[2, 3, 4]], [(target[6] + 1) % 3]])
    found = audit([*images, *copies], labels, model=None)
    assert list(dict.fromkeys(found.alarms)) == ["duplicates", "contradictions", "shortcut"]
    assert of_kind(found, "duplicates")["samples"] == ["2", "3", "4", "6", "90", "91", "92", "93"]
    assert of_kind(found, "contradictions")["samples"] == ["6", "93"]
    assert of_kind(found, "exact copies")["samples"] == ["6", "93"]
    assert found.groups[90:].tolist() == [2, 3, 4, 6]
    told = found.shortcuts.set_index("shortcut")
    assert told["is_clear"].to_dict()["marks"]
    assert not told.loc["size", "is_clear"]
    contradiction = found.pairs.set_index(["first", "second"]).loc[(6, 93)]
    assert contradiction["first_label"] != contradiction["second_label"]


def test_two_duplicates_of_ten_have_the_share_of_twins_that_counting_gives(phantoms):
    images = [*phantoms.images[:8], *phantoms.images[:2]]
    # Of 10 images 4 have one twin, which trains in four of five folds: 0.4 * 0.8.
    assert "32 % of the test images" in of_kind(audit(images), "duplicates")["what"]


@pytest.fixture
def folder(phantoms, tmp_path):
    """Class folders with one fault of each kind."""
    for i in range(40):
        name = f"{('left', 'right')[i % 2]}/{i}.png"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(phantoms.images[i]).save(tmp_path / name)
    (tmp_path / "left/broken.png").write_bytes(b"no picture at all")
    Image.new("L", (96, 96), 40).save(tmp_path / "left/blank.png")
    Image.fromarray(phantoms.images[50]).resize((20, 20)).save(tmp_path / "left/icon.png")
    Image.fromarray(phantoms.images[51]).resize((400, 90)).save(tmp_path / "left/wide.png")
    coloured = np.stack([phantoms.images[52], phantoms.images[52] // 2, phantoms.images[52]], -1)
    Image.fromarray(coloured).save(tmp_path / "left/colour.png")
    bright = 255 - phantoms.images[53] // 16
    Image.fromarray(bright).save(tmp_path / "left/inverted.png")
    return tmp_path


def test_broken_and_odd_files_are_listed_and_do_not_end_the_audit(folder):
    listed = list_folder(folder)
    found = audit(listed.images, listed.target, names=listed.filenames, model=None)
    kinds = {"unreadable": "broken", "blank": "blank", "tiny": "icon", "odd size": "wide"}
    kinds |= {"odd colours": "colour", "odd values": "inverted"}
    assert {kind: of_kind(found, kind)["samples"] for kind in kinds} == {
        kind: [f"left/{name}.png"] for kind, name in kinds.items()
    }
    assert found.alarms == ["unreadable"]
    assert "broken.png' cannot be decoded" in of_kind(found, "unreadable")["what"]
    with pytest.raises(ValueError, match=r"none of 1 images can be read; .*broken.png"):
        audit([folder / "left/broken.png"])


def test_masks_that_do_not_fit_are_listed_beside_those_that_are_empty_or_full(phantoms):
    masks = [mask.astype("uint8") for mask in phantoms.masks[:30]]
    lesions = np.flatnonzero(phantoms.target[:30] > 0)
    wrong, empty, full = lesions[:3].tolist()
    masks[wrong] = masks[wrong][:50]
    masks[empty] = np.zeros((96, 96), "uint8")
    masks[full] = np.ones((96, 96), "uint8")
    found = audit(phantoms.images[:30], phantoms.target[:30], masks, model=None)
    assert of_kind(found, "masks that do not fit")["samples"] == [str(wrong)]
    message = rf"masks[{wrong}] is 96 x 50 pixels (width x height), its image 96 x 96"
    assert message in of_kind(found, "masks that do not fit")["what"]
    assert of_kind(found, "empty masks")["samples"] == [str(empty)]
    assert of_kind(found, "full masks")["samples"] == [str(full)]
    assert found.samples["mask_share"][full] == 1
    assert found.samples["mask_error"].ne("").sum() == 1
    with pytest.raises(ValueError, match="got 2 masks for 30 images"):
        audit(phantoms.images[:30], masks=masks[:2])


def test_masks_of_a_folder_are_read_one_by_one(phantoms, tmp_path):
    for i in range(3):
        Image.fromarray(phantoms.images[i]).save(tmp_path / f"{i}.png")
        Image.fromarray(phantoms.masks[i]).save(tmp_path / f"{i}_mask.png")
    Image.new("L", (50, 40)).save(tmp_path / "1_mask.png")
    (tmp_path / "2_mask.png").write_bytes(b"no mask")
    listed = list_folder(tmp_path)
    found = audit(listed.images, masks=listed.masks, names=listed.filenames)
    assert of_kind(found, "masks that do not fit")["samples"] == ["1.png", "2.png"]
    assert found.samples["mask_share"][0] == phantoms.masks[0].mean()


def brightness(X):
    return np.asarray(X, dtype=float).mean(axis=(1, 2))[:, None]


def test_suspected_labels_are_those_that_were_exchanged(phantoms):
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    noise = random.normal(size=(80, 32, 32)) * 20
    images = np.clip(80 + 90 * y[:, None, None] + noise, 0, 255).astype("uint8")
    labels = y.copy()
    labels[[5, 61]] = 1 - y[[5, 61]]
    model = make_pipeline(FunctionTransformer(brightness), GaussianNB())
    found = audit(images, labels, model=model, class_names=["dark", "bright"])
    assert sorted(found.label_errors["sample"]) == [5, 61]
    assert found.label_errors["name"].tolist() == found.label_errors["sample"].map(str).tolist()
    assert sorted(of_kind(found, "suspected labels")["samples"]) == ["5", "61"]
    assert "classes can be told by brightness alone" in of_kind(found, "shortcut")["what"]
    with pytest.raises(ValueError, match="has no predict_proba"):
        audit(images, labels, model=FunctionTransformer())
    with pytest.raises(ValueError, match="expected a classifier, 'bundled' or None"):
        audit(images, labels, model="resnet50")


def test_the_rule_of_confident_learning_by_hand():
    y = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    # Thresholds are the means of a class's own probability: 2/3 for 0, 0.6 for 1.
    found = suspect_labels(y, p, np.array([0, 1]))
    assert found[["sample", "label", "suggested"]].to_numpy().tolist() == [[2, 0, 1]]
    assert found["margin"].tolist() == pytest.approx([0.4])


def test_shortcuts_count_groups_and_not_copies():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 20)
    y = (np.arange(12) % 2)[groups]
    # Each group has a value of its own, which tells its copies but no other group.
    traits = pd.DataFrame({"value": random.normal(size=12)[groups]})
    told = find_shortcuts({"size": traits}, y, groups)
    assert told["n_groups"].tolist() == [12]
    assert not told["is_clear"].any()
    each_alone = find_shortcuts({"size": traits}, y, np.arange(240))
    assert each_alone["is_clear"].all()
    assert each_alone["p_value"].iloc[0] == pytest.approx(1 / 2000)


def test_noise_is_no_shortcut():
    random = np.random.default_rng(1)
    y = random.integers(2, size=120)
    families = {name: pd.DataFrame(random.normal(size=(120, 5))) for name in "abc"}
    told = find_shortcuts(families, y, np.arange(120))
    assert len(told) == 3
    assert (told["p_value"] > 0.01).all()
    assert told["chance"].to_numpy() == pytest.approx(0.5, abs=0.02)


def test_groups_that_were_given_are_joined_with_those_found(phantoms):
    images = [*phantoms.images[:5], phantoms.images[0][:, ::-1]]
    found = audit(images, groups=["ann", "bea", "bea", "cid", "dan", "eve"])
    assert found.groups.tolist() == [0, 1, 1, 2, 3, 0]
    assert of_kind(found, "across groups")["samples"] == ["0", "5"]
    assert found.alarms == ["duplicates", "across groups"]


def test_tables_and_sheet_are_written_and_read_again(phantoms, tmp_path):
    images = [*phantoms.images[:20], phantoms.images[3][:, ::-1], phantoms.images[4][:80]]
    target = [*phantoms.target[:20], *phantoms.target[3:5]]
    found = audit(images, target, model=None)
    files = found.to_csv(tmp_path / "new")
    assert [file.name for file in files] == [
        "audit.csv",
        "audit_pairs.csv",
        "audit_groups.csv",
        "audit_samples.csv",
        "audit_shortcuts.csv",
    ]
    pairs = pd.read_csv(files[1])
    assert sorted(zip(pairs["first"], pairs["second"], strict=True)) == [(3, 20), (4, 21)]
    assert pd.read_csv(files[0])["samples"][0] == "3; 4; 20; 21"
    groups = pd.read_csv(files[2])
    assert groups["group"].tolist() == found.groups.tolist()
    sheet = found.contact_sheet(tmp_path / "pairs.png", most=1)
    with Image.open(sheet) as picture:
        assert picture.size == (2 * 150 + 20, 182)
    with pytest.raises(ValueError, match="unknown file extension"):
        found.contact_sheet(tmp_path / "pairs.nothing")
    sheet.unlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new"]
    assert "<table" in found._repr_html_()


def test_without_pairs_there_is_no_sheet(clean, tmp_path):
    assert clean.contact_sheet(tmp_path / "pairs.png") is None
    assert list(tmp_path.iterdir()) == []


def test_compare_takes_the_groups(phantoms):
    images = np.concatenate([phantoms.images[:30], phantoms.images[:10]])
    y = np.concatenate([phantoms.target[:30], phantoms.target[:10]])
    found = audit(images, y, model=None)
    model = make_pipeline(FunctionTransformer(brightness), GaussianNB())
    study = compare({"bayes": model}, images, y, groups=found.groups, n_splits=3)
    assert study.split == "StratifiedGroupKFold, groups kept whole"


def test_lengths_must_agree(phantoms):
    with pytest.raises(ValueError, match="y has 3 values for 4 images"):
        audit(phantoms.images[:4], [0, 1, 0])
    with pytest.raises(ValueError, match="names has 2 values for 4 images"):
        audit(phantoms.images[:4], names=["a", "b"])


def test_looks_see_size_borders_and_marks():
    plain = np.random.default_rng(0).integers(40, 60, (100, 120)).astype("uint8")
    marked = plain.copy()
    marked[10:12, 100:115] = 220
    coloured = np.stack([plain, plain, plain], -1)
    coloured[50:60, 50:60, 0] = 200
    framed = np.pad(plain, 25)
    looks = look_at(as_images([plain, marked, coloured, framed]))
    marks = [look.traits["marks"] for look in looks]
    assert marks[0]["drawn_0_2"] == 0 < marks[1]["drawn_0_2"]
    assert [look.is_colour for look in looks] == [False, False, True, False]
    assert marks[2]["coloured"] > 4 > marks[0]["coloured"] == 0
    assert looks[3].traits["borders"]["border_rows"] == pytest.approx(50 / 150)
    assert looks[3].traits["size"] == {"height": 150, "width": 170, "aspect": 170 / 150}


class TestFindings:
    def test_copies_in_two_classes_are_an_alarm(self):
        pairs = pd.DataFrame(
            {"first": [0, 2], "second": [1, 3], "exact": [True, False], "correlation": [1.0, 0.9]}
        )
        groups, y = np.array([0, 0, 2, 2, 4]), np.array([0, 1, 1, 1, 0])
        found = {one.kind: one for one in of_duplicates(pairs, groups, y, None)}
        assert found["contradictions"].severity == "alarm"
        assert "1 scan stands in two classes" in found["contradictions"].what
        assert found["contradictions"].samples == [0, 1]
        assert "1 image is equal to another one" in found["exact copies"].what
        apart = {one.kind: one for one in of_duplicates(pairs, np.arange(5), y, groups)}
        assert "2 pairs are somewhat alike" in apart["unsure duplicates"].what

    def test_a_large_group_is_one_to_look_at(self):
        groups = np.array([0] * 60 + list(range(1, 101)))
        pairs = pd.DataFrame({"first": [0], "second": [1], "exact": [False], "correlation": [0.9]})
        found = {one.kind: one for one in of_duplicates(pairs, groups, None, None)}
        assert "1 group holds up to 60 images" in found["large group"].what
        assert found["large group"].samples == list(range(60))

    def test_uneven_classes_and_few_scans_are_told(self):
        y = np.array([0] * 60 + [1] * 4)
        found = {one.kind: one for one in of_labels(y, np.arange(64), {1: "rare"}, None)}
        assert "classes are uneven: 0 60, rare 4" in found["class balance"].what
        assert "rare 4" in found["few scans"].what


def test_names_that_are_no_text_are_written_by_their_code():
    """Tables of pandas with pyarrow hold nothing else: they ended the audit."""
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8)
    images[1] = images[0]
    names = [f"caf\udce9 ({i})" for i in range(4)]
    found = audit(images, [0, 1, 0, 1], names=names, class_names=["b\udcf6se", "gut"])
    assert found.samples["name"].tolist() == [rf"caf\udce9 ({i})" for i in range(4)]
    assert r"caf\udce9 (0)" in found.findings["samples"][0]
    assert r"b\udcf6se" in found.findings["what"].str.cat()
