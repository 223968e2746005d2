"""BUSI in every layout it is spread in, with its traps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hybridus.datasets import load_busi
from hybridus.datasets.listing import natural_key

SIZE = (12, 9)  # width, height


def write(file, values=0, mode="L", size=SIZE, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(values, np.ndarray):
        image = Image.fromarray(values)
    else:
        image = Image.new(mode, size, values)
    image.save(file, **options)


def lesion(rows=slice(2, 5), columns=slice(3, 7)):
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[rows, columns] = True
    return mask


def original(root, name, kind, number):
    suffix = {"image": "", "mask": "_mask", "second mask": "_mask_1"}[kind]
    return root / name / f"{name} ({number}){suffix}.png"


def images_and_mask(root, name, kind, number):
    if kind == "image":
        return root / "images" / f"{name} ({number}).png"
    suffix = "_mask_1" if kind == "second mask" else ""
    return root / "mask" / f"{name} ({number}){suffix}.png"


def images_and_masks_with_suffix(root, name, kind, number):
    folder = "images" if kind == "image" else "masks"
    return root / folder / original(root, name, kind, number).name


def class_below_images(root, name, kind, number):
    folder = "Images" if kind == "image" else "Masks"
    suffix = "_mask_1" if kind == "second mask" else ""
    return root / folder / name.capitalize() / f"{number}{suffix}.png"


def images_below_class(root, name, kind, number):
    folder = "images" if kind == "image" else "masks"
    suffix = "_mask_1" if kind == "second mask" else ""
    return root / "data set (v1)" / name / folder / f"{number}{suffix}.png"


LAYOUTS = [
    original,
    images_and_mask,
    images_and_masks_with_suffix,
    class_below_images,
    images_below_class,
]


@pytest.fixture
def small_busi(tmp_path):
    """Folder with two scans of each class in the original layout, in a path with spaces."""
    root = tmp_path / "BUSI (copy of 2020)"
    for name in ("benign", "malignant", "normal"):
        for number in (2, 10):
            write(original(root, name, "image", number), 90)
            write(original(root, name, "mask", number), lesion() & (name != "normal"))
    return root


def curate(tmp_path, rows, header="busi_file,group,objection,annotation"):
    file = tmp_path / "curation table.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


ROWS = [
    "benign (2),g1,,text",
    "benign (10),g1,axilla&needle,",
    "malignant (2),g2,,",
    "malignant (10),g5,multiclass,doppler&text",
    "normal (2),n2,,",
    "normal (10),n10,,",
]


# The real scans


@pytest.fixture(scope="module")
def real(busi_folder, busi_curation):
    return load_busi(busi_folder, curation=busi_curation)


def test_real_busi_has_the_published_counts(real):
    assert np.bincount(real.target).tolist() == [133, 210, 437]
    assert real.target_names == ["normal", "malignant", "benign"]
    assert real.images.shape == real.masks.shape == real.groups.shape == (780,)
    assert len(set(real.groups)) == 587
    crossing = [g for g in set(real.groups) if len(set(real.target[real.groups == g])) > 1]
    assert len(crossing) == 8


def test_real_masks_are_boolean_and_as_large_as_their_images(real):
    for image, mask, label in zip(real.images, real.masks, real.target, strict=True):
        with Image.open(image) as header:
            assert mask.shape == header.size[::-1]
        assert mask.dtype == bool
        assert mask.any() == (label != 0)


def test_masks_of_one_real_image_are_ored(real, busi_folder):
    several = [
        f for f in real.filenames if (busi_folder / f.replace(".png", "_mask_1.png")).exists()
    ]
    assert len(several) == 17
    for file in several:
        parts = sorted((busi_folder / file).parent.glob(f"{Path(file).stem}_mask*.png"))
        assert len(parts) in (2, 3)
        # The colours of RGBA masks are grey, so that a conversion to grey keeps what is nonzero.
        union = np.logical_or.reduce(
            [np.asarray(Image.open(part).convert("RGB").convert("L")) > 0 for part in parts]
        )
        mask = real.masks[real.filenames.index(file)]
        assert np.array_equal(mask, union)
        assert 0 < mask.mean() < 0.6


def test_the_same_picture_in_two_classes_is_one_group(real):
    twins = [
        real.filenames.index(f"{n.split()[0]}/{n}.png") for n in ("benign (433)", "malignant (145)")
    ]
    assert real.groups[twins[0]] == real.groups[twins[1]]
    assert set(real.objections[twins]) == {"multiclass"}


def test_objections_of_real_scans_can_be_excluded(real, busi_folder, busi_curation):
    kept = load_busi(busi_folder, curation=busi_curation, exclude=("multiclass",))
    assert len(kept.target) == 780 - len(kept.excluded) == 780 - 19
    assert np.bincount(kept.target).tolist() == [131, 203, 427]
    assert "multiclass" not in kept.objections
    rows = [real.filenames.index(file) for file in kept.filenames]
    assert np.array_equal(kept.groups, real.groups[rows])
    fewer = load_busi(busi_folder, curation=busi_curation, exclude=["axilla", "needle"])
    assert len(fewer.target) == 780 - 70 - 7


# Layouts and pairing


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_bunch(layout, tmp_path):
    other = lesion(slice(6, 8), slice(0, 2))
    for name in ("benign", "malignant", "normal"):
        for number in (10, 2):
            write(layout(tmp_path, name, "image", number), 90)
            write(layout(tmp_path, name, "mask", number), lesion() & (name != "normal"))
    write(layout(tmp_path, "malignant", "second mask", 10), other)
    busi = load_busi(tmp_path)
    assert busi.target.tolist() == [0, 0, 1, 1, 2, 2]
    assert [natural_key(Path(f).stem)[0][1] for f in busi.filenames] == [2, 10] * 3
    empty = np.zeros_like(other)
    expected = [empty, empty, lesion(), lesion() | other, lesion(), lesion()]
    assert all(np.array_equal(a, b) for a, b in zip(busi.masks, expected, strict=True))
    assert [str(tmp_path / file) for file in busi.filenames] == busi.images.tolist()
    assert busi.groups is busi.objections is busi.annotations is None


def test_masks_of_equal_size_stay_an_object_array(small_busi):
    busi = load_busi(small_busi)
    assert busi.masks.shape == (6,)
    assert busi.masks.dtype == busi.images.dtype == object
    assert all(type(path) is str for path in busi.images)


def test_normals_need_no_mask(small_busi):
    original(small_busi, "normal", "mask", 2).unlink()
    busi = load_busi(small_busi)
    assert busi.masks[0].shape == SIZE[::-1]
    assert not busi.masks[0].any()


def test_junk_of_file_managers_is_passed_over(small_busi):
    (small_busi / "benign" / "._benign (2).png").write_bytes(b"\0\5\26\7")
    (small_busi / "benign" / ".DS_Store").write_bytes(b"x")
    (small_busi / "benign" / "Thumbs.db").write_bytes(b"x")
    (small_busi / "__MACOSX" / "benign").mkdir(parents=True)
    (small_busi / "__MACOSX" / "benign" / "benign (9).png").write_bytes(b"x")
    (small_busi / ".ipynb_checkpoints").mkdir()
    (small_busi / ".ipynb_checkpoints" / "benign (2).png").write_bytes(b"x")
    (small_busi / "README.txt").write_text("benign")
    assert len(load_busi(small_busi).target) == 6


def test_images_without_a_class_are_reported(small_busi):
    write(small_busi / "overview.png")
    with pytest.warns(UserWarning, match=r"passed over 1 image.*overview\.png"):
        busi = load_busi(small_busi)
    assert len(busi.target) == 6


def test_class_names_in_the_path_to_the_folder_do_not_count(tmp_path):
    root = tmp_path / "normal" / "masks"
    write(root / "benign (1).png")
    write(root / "benign (1)_mask.png", lesion())
    assert load_busi(root).target.tolist() == [2]


# Formats of masks


def red_and_blue():
    pixels = np.zeros((*SIZE[::-1], 3), dtype=np.uint8)
    pixels[2:5, 3:5, 0] = 1
    pixels[2:5, 5:7, 2] = 200
    return Image.fromarray(pixels)


def opaque_everywhere():
    pixels = np.zeros((*SIZE[::-1], 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[lesion(), :3] = 255
    return Image.fromarray(pixels)


def transparent_lesion():
    pixels = np.full((*SIZE[::-1], 4), 255, dtype=np.uint8)
    pixels[~lesion(), :3] = 0
    pixels[lesion(), 3] = 0
    return Image.fromarray(pixels)


MASKS = {
    "1-bit": Image.fromarray(lesion()),
    "grey, weak": Image.fromarray(lesion().astype(np.uint8)),
    "16-bit": Image.fromarray(lesion().astype(np.uint16) * 300),
    "RGB": red_and_blue(),
    "RGBA, opaque": opaque_everywhere(),
    "RGBA, transparent": transparent_lesion(),
    "grey with alpha": opaque_everywhere().convert("LA"),
}


@pytest.mark.parametrize("kind", MASKS)
def test_nonzero_in_any_colour_channel_is_lesion(kind, tmp_path):
    write(tmp_path / "benign (1).png")
    MASKS[kind].save(tmp_path / "benign (1)_mask.png")
    assert np.array_equal(load_busi(tmp_path).masks[0], lesion())


def test_noise_of_jpeg_masks_is_not_lesion(tmp_path):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:41, 17:44] = 255
    write(tmp_path / "images" / "benign (1).jpg", size=(64, 64))
    write(tmp_path / "mask" / "benign (1).jpg", mask, quality=80)
    noisy = np.asarray(Image.open(tmp_path / "mask" / "benign (1).jpg"))
    assert np.count_nonzero(noisy) > np.count_nonzero(mask)
    assert np.array_equal(load_busi(tmp_path).masks[0], mask > 0)


# What is refused


def test_absent_folder_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; expected the scans"):
        load_busi(tmp_path / "nowhere")
    file = tmp_path / "file.zip"
    file.write_bytes(b"x")
    with pytest.raises(NotADirectoryError, match=r"file\.zip: not a folder; expected the scans"):
        load_busi(file)


def test_folder_without_scans_says_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match=r"no images found .* 'benign/benign \(1\)_mask.png'"):
        load_busi(tmp_path)
    write(tmp_path / "cat.png")
    with pytest.raises(ValueError, match="no images found"):
        load_busi(tmp_path)


def test_mask_without_image_is_named(small_busi):
    original(small_busi, "benign", "image", 10).unlink()
    with pytest.raises(ValueError, match=r"'benign/benign \(10\)_mask.png' has no image"):
        load_busi(small_busi)


def test_lesion_without_mask_is_named(small_busi):
    original(small_busi, "malignant", "mask", 2).unlink()
    with pytest.raises(ValueError, match=r"'malignant/malignant \(2\).png' has no mask"):
        load_busi(small_busi)


def test_mask_of_another_size_is_named_with_both_sizes(small_busi):
    write(original(small_busi, "benign", "second mask", 2), size=(5, 4))
    message = r"'benign/benign \(2\).png' is 12 x 9 .*'benign/benign \(2\)_mask_1.png' is 5 x 4"
    with pytest.raises(ValueError, match=message):
        load_busi(small_busi)


def test_normal_scan_whose_mask_marks_a_lesion_is_refused(small_busi):
    write(original(small_busi, "normal", "mask", 2), lesion())
    with pytest.raises(ValueError, match=r"'normal/normal \(2\).png' .* marks 12 pixels"):
        load_busi(small_busi)


def test_empty_mask_of_a_lesion_warns(small_busi):
    write(original(small_busi, "benign", "mask", 2), ~lesion() & False)
    with pytest.warns(
        UserWarning, match=r"benign image 'benign/benign \(2\).png' are empty \(1 lesion\(s\)"
    ):
        load_busi(small_busi)


def test_one_name_twice_is_refused(small_busi):
    write(small_busi / "extra" / "benign (2).jpg")
    with pytest.raises(ValueError, match=r"'benign/benign \(2\).png' and 'extra/benign \(2\).jpg'"):
        load_busi(small_busi)


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_file_that_is_no_image_is_named(kind, small_busi):
    original(small_busi, "benign", kind, 2).write_bytes(b"not an image")
    with pytest.raises(ValueError, match=rf"benign \(2\).*cannot be decoded as an? {kind}:"):
        load_busi(small_busi)


def test_truncated_mask_is_named(small_busi):
    file = original(small_busi, "benign", "mask", 2)
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    write(file, noise)
    write(original(small_busi, "benign", "image", 2), size=(200, 200))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"benign \(2\)_mask.png' cannot be decoded as a mask"):
        load_busi(small_busi)


# The curation table


def test_curation_gives_groups_objections_and_annotations(small_busi, tmp_path):
    busi = load_busi(small_busi, curation=curate(tmp_path, ROWS))
    assert busi.groups.tolist() == ["n2", "n10", "g2", "g5", "g1", "g1"]
    assert busi.objections.tolist() == ["", "", "", "multiclass", "", "axilla&needle"]
    assert busi.annotations.tolist() == ["", "", "", "doppler&text", "text", ""]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ((), 6),
        (("multiclass",), 5),
        ("multiclass", 5),
        (["needle"], 5),
        ({"axilla", "multiclass"}, 4),
    ],
)
def test_excluded_objections_leave(exclude, left, small_busi, tmp_path):
    busi = load_busi(small_busi, curation=curate(tmp_path, ROWS), exclude=exclude)
    assert len(busi.images) == len(busi.masks) == len(busi.groups) == len(busi.target) == left
    assert len(busi.filenames) == len(busi.objections) == len(busi.annotations) == left


def test_objection_that_only_other_images_have_is_known(small_busi, tmp_path):
    rows = [*ROWS, "benign (99),g9,Doubtful & other,"]
    busi = load_busi(small_busi, curation=curate(tmp_path, rows), exclude=["doubtful"])
    assert len(busi.target) == 6


def test_unknown_objection_lists_the_known_ones(small_busi, tmp_path):
    with pytest.raises(ValueError, match=r"\['blurred'\].*\['axilla', 'multiclass', 'needle'\]"):
        load_busi(small_busi, curation=curate(tmp_path, ROWS), exclude=["blurred", "needle"])


def test_exclude_without_curation_is_refused(small_busi):
    with pytest.raises(ValueError, match=r"exclude=\['multiclass'\] needs curation="):
        load_busi(small_busi, exclude=("multiclass",))


def test_absent_curation_table_is_named(small_busi, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file"):
        load_busi(small_busi, curation=tmp_path / "none.csv")


def test_curation_without_columns_names_them(small_busi, tmp_path):
    file = curate(tmp_path, ["benign (2),g1"], header="busi_file,cluster")
    with pytest.raises(ValueError, match=r"objection and annotation, found .*'cluster'"):
        load_busi(small_busi, curation=file)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:4], r"no row for 2 of 6 images, the first of them 'normal \(2\)'"),
        ([*ROWS, ROWS[0]], r"'benign \(2\)' has more than one row"),
        (["benign (2),,,", *ROWS[1:]], r"'benign \(2\)' has no group"),
    ],
)
def test_incomplete_curation_names_the_image(rows, message, small_busi, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_busi(small_busi, curation=curate(tmp_path, rows))


def test_published_objections_that_no_image_has_leave_nothing_out(small_busi, tmp_path):
    rows = [row.replace("multiclass", "") for row in ROWS]
    busi = load_busi(small_busi, curation=curate(tmp_path, rows), exclude=["multiclass"])
    assert (len(busi.target), busi.excluded) == (6, [])


def test_the_description_tells_how_many_groups_there_are(small_busi, tmp_path):
    busi = load_busi(small_busi, curation=curate(tmp_path, ROWS))
    assert "5 groups of 6 images (1 to 2 in each, 4 of them alone)" in busi.DESCR


# Together with scikit-learn


def brightness(paths):
    return np.array([[np.asarray(Image.open(path).convert("L")).mean()] for path in paths])


def test_a_grid_search_takes_the_bunch_as_it_is(tmp_path):
    for k in range(6):
        write(original(tmp_path, "normal", "image", k), 40 + k)
        write(original(tmp_path, "benign", "image", k), 200 + k)
        write(original(tmp_path, "benign", "mask", k), lesion())
    rows = [f"{name} ({k}),{name}{k // 2},," for name in ("normal", "benign") for k in range(6)]
    busi = load_busi(tmp_path, curation=curate(tmp_path, rows))
    pipe = make_pipeline(FunctionTransformer(brightness), LogisticRegression())
    search = GridSearchCV(pipe, {"logisticregression__C": [0.1, 1]}, cv=StratifiedGroupKFold(3))
    search.fit(busi.images, busi.target, groups=busi.groups)
    assert search.best_score_ == 1.0


def test_the_layout_of_busi_is_listed_without_reading_masks(tmp_path):
    from hybridus.datasets.recognition import list_folder

    for label, name in enumerate(("normal", "malignant", "benign")):
        (tmp_path / name).mkdir()
        for k in (1, 2):
            drawn = np.zeros(SIZE[::-1], np.uint8)
            drawn[2:5, 3:7] = 255 * (label > 0)
            write(tmp_path / name / f"{name} ({k}).png", 40 * k)
            Image.fromarray(drawn).save(tmp_path / name / f"{name} ({k})_mask.png")
    listed = list_folder(tmp_path)
    loaded = load_busi(tmp_path)
    assert listed.filenames == list(loaded.filenames)
    assert listed.target.tolist() == loaded.target.tolist()
    assert list(listed.target_names) == list(loaded.target_names)
    assert [mask.any() for mask in listed.masks] == [mask.any() for mask in loaded.masks]
    with pytest.raises(ValueError, match="leave crop out"):
        list_folder(tmp_path, crop="ultrasound")
