"""Folders that people really have: what is no class, no scan or no name is told, not loaded."""

import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

from hybridus.datasets import load_busi, load_image_folder, make_breast_phantoms, read_groups
from hybridus.datasets.busi import looks_like_busi
from hybridus.datasets.recognition import load_folder
from hybridus.inputs.images import as_images

SIZE = (24, 18)  # width, height


def write(root, *files, value=0):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", SIZE, value).save(root / file)


class TestPartsOfASplit:
    def test_they_are_no_classes_and_the_message_loads_them(self, tmp_path):
        parts = ("train", "val", "test")
        write(tmp_path, *(f"{part}/{name}/1.png" for part in parts for name in "ab"))
        message = r"'test', 'train', 'val' are the parts of a split, not classes; .* split='val'"
        with pytest.raises(ValueError, match=message):
            load_image_folder(tmp_path)
        data = load_image_folder(tmp_path, split="train")
        assert data.filenames == ["train/a/1.png", "train/b/1.png"]
        assert data.target_names == ["a", "b"]
        assert data.images[0] == str(tmp_path / "train/a/1.png")

    def test_in_each_class_folder_they_are_found_as_well(self, tmp_path):
        write(tmp_path, *(f"{name}/{part}/1.png" for part in ("Train", "Test") for name in "ab"))
        with pytest.raises(ValueError, match=r"'a' holds the parts of a split .* split='Train'"):
            load_image_folder(tmp_path)
        data = load_image_folder(tmp_path, split="Train", class_names=["b", "a"])
        assert data.filenames == ["b/Train/1.png", "a/Train/1.png"]
        assert data.target.tolist() == [0, 1]

    def test_an_absent_part_is_named(self, tmp_path):
        write(tmp_path, "train/a/1.png", "train/b/1.png")
        for split in ("test", ""):
            with pytest.raises(ValueError, match=rf"split='{split}' is neither .*\('train'\)"):
                load_image_folder(tmp_path, split=split)

    def test_classes_may_have_such_names(self, tmp_path):
        write(tmp_path, "bus/1.png", "train/1.png", "test/1.png")
        with pytest.raises(ValueError, match="or name them in class_names if they are classes"):
            load_image_folder(tmp_path)
        assert load_image_folder(tmp_path, class_names=["train", "test"]).target.tolist() == [0, 1]
        assert load_image_folder(tmp_path, class_names=["bus", "train"]).target.tolist() == [0, 1]

    def test_busi_in_parts_is_loaded_whole_but_not_in_silence(self, tmp_path):
        write(tmp_path, "train/normal/normal (1).png", "test/normal/normal (2).png")
        with pytest.warns(UserWarning, match="'test', 'train' look like the parts of a split"):
            assert len(load_busi(tmp_path).target) == 2


class TestOtherLayouts:
    def test_images_and_masks_are_no_classes(self, tmp_path):
        write(tmp_path, "Images/1.png", "Masks/1.png")
        message = (
            r"hold images and their masks.*load_segmentation_folder\(images='.*Images', masks="
        )
        with pytest.raises(ValueError, match=message):
            load_image_folder(tmp_path)

    def test_images_and_masks_in_class_folders_are_told(self, tmp_path):
        write(tmp_path, *(f"{name}/{part}/1.png" for part in ("images", "masks") for name in "ab"))
        with pytest.raises(ValueError, match=r"'a' holds images and their masks .*a/images', m"):
            load_image_folder(tmp_path)

    def test_a_class_in_another_class_is_refused(self, tmp_path):
        write(tmp_path, "benign/1.png", "malignant/1.png", "benign/Malignant/2.png")
        with pytest.raises(ValueError, match=r"'benign' holds the folder of another.*'malignant'"):
            load_image_folder(tmp_path)

    def test_a_class_in_itself_is_what_an_archive_leaves(self, tmp_path):
        write(tmp_path, "benign/benign/1.png", "malignant/malignant/1.png")
        assert load_image_folder(tmp_path).target.tolist() == [0, 1]

    def test_folders_beside_the_images_of_a_class_warn(self, tmp_path):
        write(tmp_path, "a/1.png", "a/cysts/2.png", "b/1.png")
        with pytest.warns(UserWarning, match=r"'a' holds images and, beside them, 'cysts'; the"):
            assert load_image_folder(tmp_path).target.tolist() == [0, 0, 1]

    def test_the_same_folders_in_every_class_warn(self, tmp_path):
        write(tmp_path, *(f"{site}/{name}/1.png" for site in ("x", "y") for name in "ab"))
        with pytest.warns(UserWarning, match="every class folder holds 'a', 'b'; .*classes them"):
            assert load_image_folder(tmp_path).target_names == ["x", "y"]

    def test_a_folder_of_each_patient_is_nothing_odd(self, tmp_path):
        write(tmp_path, "a/p1/1.png", "a/p2/1.png", "b/p3/1.png", "b/p4/1.png")
        assert load_image_folder(tmp_path).target.tolist() == [0, 0, 1, 1]

    def test_one_folder_around_the_classes_is_named(self, tmp_path):
        write(tmp_path, "data/a/1.png", "data/b/1.png")
        with pytest.raises(ValueError, match=r"1 class folder.*data' holds 'a', 'b': load that\?"):
            load_image_folder(tmp_path)

    def test_images_beside_the_class_folders_warn(self, tmp_path):
        write(tmp_path, "a/1.png", "b/1.png", "title 10.png", "title 2.png")
        with pytest.warns(UserWarning, match=r"passed over 2 image\(s\) beside .*'title 2\.png'"):
            assert len(load_image_folder(tmp_path).target) == 2


class TestEndings:
    @pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".jp2", ".tga", ".apng"])
    def test_all_that_can_be_read_is_loaded(self, suffix, tmp_path):
        write(tmp_path, "a/1.png", f"b/1{suffix}")
        data = load_image_folder(tmp_path)
        assert data.filenames == ["a/1.png", f"b/1{suffix}"]
        assert as_images(data.images)[1].shape == SIZE[::-1]

    @pytest.mark.parametrize("name", ["1.mha", "1.nii.gz", "scans.ZIP", "1.heic"])
    def test_what_cannot_be_read_is_told(self, name, tmp_path):
        write(tmp_path, "a/1.png", "b/1.png")
        (tmp_path / "b" / name).write_bytes(b"x")
        with pytest.warns(UserWarning, match=rf"b: passed over 1 file\(s\) .*first: '{name}'"):
            assert len(load_image_folder(tmp_path).target) == 2

    def test_texts_and_tables_are_passed_over(self, tmp_path):
        write(tmp_path, "a/1.png", "b/1.png")
        for name in ("notes.txt", "labels.csv", "LICENSE"):
            (tmp_path / "b" / name).write_text("x")
        assert len(load_image_folder(tmp_path).target) == 2


class TestNames:
    @pytest.mark.parametrize("load", [load_busi, load_image_folder])
    def test_an_empty_path_is_not_the_current_folder(self, load):
        with pytest.raises(ValueError, match=r"the path is empty: expected .*'\.' is the current"):
            load("")

    def test_an_empty_table_is_not_the_current_folder(self, tmp_path):
        write(tmp_path, "normal (1).png")
        with pytest.raises(ValueError, match="the path is empty: expected the curation table"):
            load_busi(tmp_path, curation="")
        with pytest.raises(ValueError, match="the path is empty: expected a CSV table"):
            read_groups("", ["1.png"])

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems keep names as Unicode")
    @pytest.mark.parametrize("name", [b"caf\xe9", b"a/caf\xe9.png"])
    def test_names_that_are_not_utf8_are_refused(self, name, tmp_path):
        write(tmp_path, "a/1.png", "b/1.png")
        path = os.path.join(os.fsencode(tmp_path), name)
        try:
            os.mkdir(path)
        except OSError:
            pytest.skip("this file system takes no such names")
        if name.endswith(b".png"):
            os.rmdir(path)
            os.rename(tmp_path / "a" / "1.png", path)
        with pytest.raises(ValueError, match=r"the name of b'.*caf\\xe9.*' is not UTF-8.*rename"):
            load_image_folder(tmp_path)


class TestNamesOfBusi:
    @pytest.mark.parametrize("name", ["normal (1)_masks.png", "normal (1)_mask (1).png"])
    def test_masks_of_other_names_are_masks(self, name, tmp_path):
        write(tmp_path, "normal/normal (1).png", f"normal/{name}")
        busi = load_busi(tmp_path)
        assert busi.filenames == ["normal/normal (1).png"]
        write(tmp_path, f"normal/{name}", value=255)
        with (
            pytest.raises(ValueError, match=rf"marks 432 pixels .*{re.escape(name)}"),
            pytest.warns(UserWarning, match="lesion in every pixel"),
        ):
            load_busi(tmp_path)

    @pytest.mark.parametrize(
        "name",
        [
            "normal (1) - Copy.png",
            "normal (1) - Copy (2).png",
            "Copy of normal (1).png",
            "normal (1)_mask - Kopie.png",
            "normal (1)_seg.png",
            "mask of normal (1).png",
        ],
    )
    def test_copies_and_masks_of_unknown_names_are_no_scans(self, name, tmp_path):
        write(tmp_path, "normal/normal (1).png", f"normal/{name}")
        with pytest.raises(ValueError, match=r"is named neither like a scan nor like a mask"):
            load_busi(tmp_path)

    def test_masks_with_an_orientation_are_turned_as_their_images(self, tmp_path):
        lesion = np.zeros((18, 24), np.uint8)
        lesion[2:6, 3:5] = 255
        picture = Image.fromarray(lesion)
        for orientation in (1, 3, 6):
            exif = picture.getexif()
            exif[0x0112] = orientation
            for name in ("benign (1).png", "benign (1)_mask.png"):
                picture.save(tmp_path / name, exif=exif)
            busi = load_busi(tmp_path)
            np.testing.assert_array_equal(busi.masks[0], as_images(busi.images)[0] > 0)

    def test_a_bomb_is_refused_with_its_name(self, tmp_path, monkeypatch):
        write(tmp_path, "benign (1).png", "benign (1)_mask.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(ValueError, match=r"benign \(1\)\.png' is of more than 100 pixels"):
            load_busi(tmp_path)

    def test_only_folders_of_its_classes_look_like_busi(self, tmp_path):
        write(tmp_path / "own", "images/1.png", "masks/1.png")
        assert not looks_like_busi(tmp_path / "own")
        write(tmp_path / "busi", "images/benign (1).png", "mask/benign (1).png")
        assert looks_like_busi(tmp_path / "busi")
        write(tmp_path / "old", "normal/1.png", "benign/1.png", "malignant/1.png")
        assert not looks_like_busi(tmp_path / "old")
        write(tmp_path / "old", "malignant/1_mask.png")
        assert looks_like_busi(str(tmp_path / "old"))
        assert not looks_like_busi(tmp_path / "nowhere")


class TestRecognition:
    def test_each_layout_gets_its_loader(self, tmp_path):
        write(tmp_path / "classes", "a/1.png", "b/1.png")
        data = load_folder(tmp_path / "classes")
        assert (data.target_names, data.get("masks")) == (["a", "b"], None)
        write(tmp_path / "busi", "images/benign (1).png", "mask/benign (1).png")
        with pytest.warns(UserWarning, match="empty"):
            assert load_folder(tmp_path / "busi").target_names == ["normal", "malignant", "benign"]
        write(tmp_path / "beside", "x/1.png", "x/1_mask.png", "y/2.png", "y/2_mask.png")
        data = load_folder(tmp_path / "beside")
        assert (data.target_names, data.filenames) == (["x", "y"], ["x/1.png", "y/2.png"])

    def test_masks_without_classes_tell_those_with_a_lesion(self, tmp_path):
        write(tmp_path, "Images/1.png", "Images/2.png", "Labels/2.png")
        Image.fromarray(np.eye(18, 24, dtype=bool)).save(tmp_path / "Labels" / "1.png")
        data = load_folder(str(tmp_path))
        assert data.target.tolist() == [1, 0]
        assert data.target_names == ["no lesion", "lesion"]

    def test_images_in_two_classes_are_left_out(self, tmp_path):
        write(tmp_path, "normal (1).png", "normal (2).png")
        table = tmp_path / "table.csv"
        rows = [
            "busi_file,group,objection,annotation",
            "normal (1),a,,",
            "normal (2),b,multiclass,",
        ]
        table.write_text("\n".join(rows))
        data = load_folder(tmp_path, curation=table)
        assert (data.filenames, data.excluded) == (["normal (1).png"], ["normal (2).png"])


def test_phantoms_are_a_bunch_like_busi():
    phantoms = make_breast_phantoms(3, image_size=32, start=4, random_state=0)
    assert phantoms.groups.tolist() == ["phantom 4", "phantom 5", "phantom 6"]
    assert phantoms.groups.dtype == object
    names = [phantoms.target_names[label] for label in phantoms.target]
    assert phantoms.filenames == [f"{name} ({k}).png" for k, name in enumerate(names, 4)]
