"""Images with masks in folders of any name: whose mask is whose, and what is said of others."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridus.datasets import load_segmentation_folder
from hybridus.inputs.masks import read_mask

SIZE = (24, 18)  # width, height


def image(file, size=SIZE):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(file)


def mask(file, column=3, size=SIZE):
    """A mask with a lesion of ten pixels in one column."""
    lesion = np.zeros(size[::-1], np.uint8)
    lesion[4:14, column] = 255
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(lesion).save(file)


def load(root, images="scans", masks="lesions", **how):
    return load_segmentation_folder(str(root / images), root / masks, **how)


def columns(data):
    return [sorted(set(np.nonzero(each)[1].tolist())) for each in data.masks]


@pytest.mark.parametrize(
    ("names", "masks", "pattern"),
    [
        (["1.jpg", "2.jpg", "10.jpg"], ["1.png", "2.png", "10.png"], None),
        (["1.png", "2.png", "10.png"], ["1_mask.png", "2-seg.png", "10_Segmentation.png"], None),
        (
            ["a 1.png", "a 2.png", "A 10.png"],
            ["A 1.png", "a 2_Mask.png", "a 10_mask1.png"],
            None,
        ),
        (["1.png", "2.png", "10.png"], ["1_HC.png", "2_HC.png", "10_HC.png"], "{name}_HC"),
        (["1.png", "2.png", "10.png"], ["m-1.png", "m-2.png", "m-10.png"], "m-{name}"),
        (["1.png", "2.png", "10.png"], ["1x.png", "2y.png", "10z.png"], "{name}*"),
        (["1.png", "2.png", "10.png"], ["x-1 b.png", "y-2.png", "z-10.png"], "*-{name}*"),
        (["s1.png", "s2.png", "s10.png"], ["m1.png", "m2.png", "m10.png"], ("s{name}", "m{name}")),
        (["1.jpg", "2.jpg", "10.jpg"], ["1.gif", "2.gif", "10.gif"], "{name}.GIF"),
    ],
)
def test_masks_are_found_by_their_names(names, masks, pattern, tmp_path):
    for k, (name, of) in enumerate(zip(names, masks, strict=True)):
        image(tmp_path / "scans" / name)
        mask(tmp_path / "lesions" / of, k)
    data = load(tmp_path, pattern=pattern)
    assert data.filenames == names
    assert data.images.tolist() == [str(tmp_path / "scans" / name) for name in names]
    assert data.images.dtype == data.masks.dtype == object
    assert columns(data) == [[0], [1], [2]]
    assert all(each.dtype == bool and each.shape == SIZE[::-1] for each in data.masks)
    assert data.target is data.target_names is data.groups is None
    assert "3 images" in data.DESCR


@pytest.mark.parametrize(
    ("masks", "pattern"),
    [("{}_mask.png", None), ("{} annotation 1.png", None), ("{}_HC.png", "{name}_HC")],
)
def test_images_and_masks_may_share_a_folder(masks, pattern, tmp_path):
    for k, name in enumerate(["scan (1)", "scan (1)b", "scan (12)"]):
        image(tmp_path / "all" / f"{name}.png")
        mask(tmp_path / "all" / masks.format(name), k)
    data = load(tmp_path, "all", "all", pattern=pattern)
    assert data.filenames == ["scan (1).png", "scan (1)b.png", "scan (12).png"]
    assert columns(data) == [[0], [1], [2]]


def test_a_suffix_tells_masks_of_the_same_name_in_one_folder(tmp_path):
    for k in range(2):
        image(tmp_path / f"{k}.jpg")
        mask(tmp_path / f"{k}.png", k)
    data = load(tmp_path, ".", ".", pattern="{name}.png")
    assert (data.filenames, columns(data)) == (["0.jpg", "1.jpg"], [[0], [1]])
    with pytest.raises(ValueError, match=r"no masks found"):
        load(tmp_path, ".", ".")


def test_one_folder_may_lie_in_the_other(tmp_path):
    for k in range(2):
        image(tmp_path / f"{k}.png")
        mask(tmp_path / "lesions" / f"{k}.png", k)
    assert load(tmp_path, ".").filenames == ["0.png", "1.png"]
    mask(tmp_path / "5.png")
    (tmp_path / "0.png").rename(tmp_path / "lesions" / "0b.png")
    with pytest.raises(ValueError, match="masks belong to no image"):
        load(tmp_path, "lesions", ".")


def test_several_masks_of_one_image_are_joined(tmp_path):
    image(tmp_path / "scans" / "1.png")
    for k, name in enumerate(["1_mask.png", "1_mask_1.png", "1_mask_2.tif"]):
        mask(tmp_path / "lesions" / name, k)
    assert columns(load(tmp_path)) == columns(load(tmp_path, pattern="{name}_mask*")) == [[0, 1, 2]]


def test_sub_folders_are_the_classes_where_all_images_lie_in_them(tmp_path):
    for k, name in enumerate(["left/1", "left/2", "right/1"]):
        image(tmp_path / "scans" / f"{name}.png")
        mask(tmp_path / "lesions" / f"{name}.png", k)
    data = load(tmp_path)
    assert data.target_names == ["left", "right"]
    assert data.target.tolist() == [0, 0, 1]
    assert "0  left: 2\n1  right: 1" in data.DESCR
    assert columns(data) == [[0], [1], [2]]
    image(tmp_path / "scans" / "3.png")
    mask(tmp_path / "lesions" / "3.png")
    assert load(tmp_path).target is None


def test_parts_of_a_split_are_no_classes(tmp_path):
    for name in ("train/1", "test/2"):
        image(tmp_path / "scans" / f"{name}.png")
        mask(tmp_path / "lesions" / f"{name}.png")
    with pytest.raises(ValueError, match=r"'test', 'train' are the parts of a split; .*/train'"):
        load(tmp_path)
    assert load(tmp_path, "scans/train", "lesions/train").filenames == ["1.png"]


def test_decomposed_accents_do_not_part_mask_and_image(tmp_path):
    image(tmp_path / "scans" / unicodedata.normalize("NFD", "Zoë.png"))
    mask(tmp_path / "lesions" / unicodedata.normalize("NFC", "Zoë_mask.png"), 5)
    assert columns(load(tmp_path)) == [[5]]


class TestRefused:
    def test_an_image_without_mask_unless_it_is_said_to_be_without_lesion(self, tmp_path):
        for name in ("1", "2"):
            image(tmp_path / "scans" / f"{name}.png")
        mask(tmp_path / "lesions" / "1.png")
        with pytest.raises(ValueError, match=r"1 of 2 images have no mask .* '2\.png'; .*'empty'"):
            load(tmp_path)
        data = load(tmp_path, without_mask="empty")
        assert [int(each.sum()) for each in data.masks] == [10, 0]
        assert "1 of them without lesion" in data.DESCR
        with pytest.raises(ValueError, match="without_mask='skip': expected 'error' or 'empty'"):
            load(tmp_path, without_mask="skip")

    def test_a_mask_without_image_with_a_pattern_that_may_fit(self, tmp_path):
        image(tmp_path / "scans" / "ISIC_1.png")
        mask(tmp_path / "lesions" / "ISIC_1_lesion.png")
        message = r"1 of 1 masks belong to no image .*Does pattern='\{name\}_lesion' fit\?"
        with pytest.raises(ValueError, match=message):
            load(tmp_path)
        assert columns(load(tmp_path, pattern="{name}_lesion")) == [[3]]

    def test_a_number_is_never_cut_in_two(self, tmp_path):
        for name in ("1", "2"):
            image(tmp_path / "scans" / f"{name}.png")
        mask(tmp_path / "lesions" / "12.png")
        for pattern in ("{name}*", "*{name}"):
            with pytest.raises(ValueError, match=r"belong to no image of .*first '12\.png'"):
                load(tmp_path, pattern=pattern)

    @pytest.mark.parametrize("pattern", [None, "{name}_mask"])
    def test_a_mask_whose_image_is_gone_from_a_shared_folder(self, pattern, tmp_path):
        image(tmp_path / "1.png")
        mask(tmp_path / "1_mask.png")
        mask(tmp_path / "2_mask.png")
        with pytest.raises(ValueError, match=r"1 of 2 masks belong to no image .* '2_mask\.png'"):
            load(tmp_path, ".", ".", pattern=pattern, without_mask="empty")

    def test_two_images_of_one_name(self, tmp_path):
        for suffix in ("png", "jpg"):
            image(tmp_path / "scans" / f"1.{suffix}")
        mask(tmp_path / "lesions" / "1.png")
        with pytest.raises(ValueError, match=r"'1\.jpg' and '1\.png' have one name"):
            load(tmp_path)

    def test_another_size(self, tmp_path):
        image(tmp_path / "scans" / "1.png")
        mask(tmp_path / "lesions" / "1.png", size=SIZE[::-1])
        message = r"'1\.png' is 24 x 18 pixels .* 18 x 24; .*\(does one of them carry an EXIF"
        with pytest.raises(ValueError, match=message):
            load(tmp_path)

    def test_images_and_masks_changed_over(self, tmp_path):
        scan = np.random.default_rng(0).integers(0, 200, SIZE[::-1], dtype=np.uint8)
        (tmp_path / "scans").mkdir()
        Image.fromarray(scan).save(tmp_path / "scans" / "1.png")
        mask(tmp_path / "lesions" / "1.png")
        with pytest.raises(ValueError, match=r"scans/1\.png' holds .* pictures do"):
            load(tmp_path, "lesions", "scans")

    @pytest.mark.parametrize("pattern", ["mask", "{name}{name}", ("{name}", "x"), ("{name}",) * 3])
    def test_a_pattern_without_name(self, pattern, tmp_path):
        with pytest.raises(ValueError, match=r"pattern=.*: expected a text with \{name\} once"):
            load(tmp_path, pattern=pattern)

    def test_an_image_that_the_pattern_does_not_know(self, tmp_path):
        image(tmp_path / "scans" / "title.png")
        mask(tmp_path / "lesions" / "m1.png")
        with pytest.raises(ValueError, match=r"'title\.png' is not named like an image, 's\{name"):
            load(tmp_path, pattern=("s{name}", "m{name}"))

    def test_folders_that_are_not_there_or_empty(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="scans: no such folder; expected a folder of"):
            load(tmp_path)
        image(tmp_path / "scans" / "1.png")
        (tmp_path / "lesions").mkdir()
        with pytest.raises(ValueError, match="lesions: no masks found"):
            load(tmp_path)
        with pytest.raises(ValueError, match="the path is empty: expected a folder of images"):
            load_segmentation_folder("", "")


def test_odd_masks_are_warned_of_once_for_all(tmp_path):
    for k in range(3):
        image(tmp_path / "scans" / f"{k}.png")
        (tmp_path / "lesions").mkdir(exist_ok=True)
        Image.new("1", SIZE, int(k > 0)).save(tmp_path / "lesions" / f"{k}.png")
    with pytest.warns(UserWarning, match=r"2 mask\(s\) \(first: .*1\.png'\): each is lesion in"):
        data = load(tmp_path)
    assert [each.all() for each in data.masks] == [False, True, True]


def test_real_scans_load_by_the_names_of_their_masks(busi_folder):
    folder = busi_folder / "malignant"
    data = load_segmentation_folder(folder, folder)
    assert len(data.filenames) == 210
    for name, lesion in list(zip(data.filenames, data.masks, strict=True))[::10]:
        files = sorted(folder.glob(f"{Path(name).stem}_mask*"))
        joined = np.logical_or.reduce([read_mask(file) for file in files])
        np.testing.assert_array_equal(lesion, joined)
