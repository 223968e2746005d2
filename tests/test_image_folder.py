"""Folders of class folders, and the package of data sets as it is imported."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import hybridus.datasets
from hybridus.datasets import load_image_folder
from hybridus.datasets.listing import natural_key

SIZE = (12, 9)  # width, height


def write(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", SIZE, 7).save(file)


@pytest.fixture
def animals(tmp_path):
    root = tmp_path / "my animals (all)"
    for file in (
        "dog 10/2.png",
        "dog 10/1.JPG",
        "dog 2/b/c/scan (10).tiff",
        "dog 2/b/scan 2.Png",
    ):
        write(root / file)
    (root / "dog 2" / ".hidden.png").write_bytes(b"x")
    (root / "dog 2" / "notes.txt").write_text("x")
    (root / ".cache").mkdir()
    (root / "__MACOSX").mkdir()
    return root


def test_class_folders_load_in_natural_order(animals):
    data = load_image_folder(animals)
    assert data.target_names == ["dog 2", "dog 10"]
    assert data.filenames == [
        "dog 2/b/c/scan (10).tiff",
        "dog 2/b/scan 2.Png",
        "dog 10/1.JPG",
        "dog 10/2.png",
    ]
    assert data.target.tolist() == [0, 0, 1, 1]
    assert data.images.dtype == object
    assert [np.asarray(Image.open(path)).shape[:2] for path in data.images] == [SIZE[::-1]] * 4
    assert data.groups is None
    assert "0  dog 2: 2\n1  dog 10: 2" in data.DESCR


def test_class_names_give_order_and_choice(animals):
    write(animals / "cat" / "1.webp")
    data = load_image_folder(str(animals), class_names=["dog 10", "cat"])
    assert data.target_names == ["dog 10", "cat"]
    assert data.target.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (["dog 2", "wolf"], r"\'wolf\', which are no class folders; there are 'dog 2', 'dog 10'"),
        (["dog 2", "dog 2"], r"has 'dog 2' more than once"),
        (["dog 2"], r"found 1 class folder.*expected two or more"),
        ("dog 2", r"class_names='dog 2' is one text"),
    ],
)
def test_wrong_class_names_are_refused(class_names, message, animals):
    with pytest.raises(ValueError, match=message):
        load_image_folder(animals, class_names=class_names)


def test_empty_class_folders_are_named_unless_left_out(animals):
    (animals / "wolf").mkdir()
    (animals / "fox").mkdir()
    with pytest.raises(ValueError, match=r"no image files in class folder\(s\) 'fox', 'wolf'"):
        load_image_folder(animals)
    assert len(load_image_folder(animals, class_names=["dog 2", "dog 10"]).target) == 4


def test_folder_without_class_folders_is_refused(tmp_path):
    write(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"found 0 class folder\(s\) \(none\)"):
        load_image_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected one sub-folder of images for each class"):
        load_image_folder(tmp_path / "nowhere")


def test_masks_among_the_images_warn(animals):
    write(animals / "dog 2" / "b" / "scan (2)_mask.png")
    write(animals / "dog 2" / "b" / "scan (2)_mask_1.png")
    with pytest.warns(UserWarning, match=r"2 of 6 files are named like masks"):
        load_image_folder(animals)


def test_linked_folders_are_followed_but_never_in_circles(animals, tmp_path):
    write(tmp_path / "elsewhere" / "1.png")
    (animals / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (animals / "dog 2" / "back").symlink_to(animals / "dog 2", target_is_directory=True)
    data = load_image_folder(animals)
    assert np.bincount(data.target).tolist() == [1, 2, 2]


def test_numbers_in_names_count_as_numbers():
    names = ["b 2", "a 10", "a 2", "a 02", "A 1", "a", "a 2/b 3", "²"]
    assert sorted(names, key=natural_key) == [
        "a",
        "A 1",
        "a 02",
        "a 2",
        "a 2/b 3",
        "a 10",
        "b 2",
        "²",
    ]


# The package


def test_the_package_loads_nothing_before_it_is_used():
    code = (
        "import sys, hybridus.datasets as d; "
        "assert not {'numpy', 'pandas', 'scipy', 'sklearn', 'PIL'} & set(sys.modules); "
        "assert set(d.__all__) <= set(dir(d)); d.load_image_folder; "
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="attribute '?load_mnist"):
        _ = hybridus.datasets.load_mnist
