"""BreastMNIST: the official split, its duplicates, and archives that are none."""

import numpy as np
import pytest

from hybridus import load_breastmnist

PARTS = {"train": 4, "val": 2, "test": 3}


def archive(folder, **changes):
    arrays = {}
    for k, (part, count) in enumerate(PARTS.items()):
        arrays[f"{part}_images"] = np.full((count, 5, 5), k, np.uint8)
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    arrays |= changes
    np.savez(folder / "breastmnist.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder / "breastmnist.npz"


def table(folder, rows=None):
    places = [(part, k) for part, count in PARTS.items() for k in range(count)]
    rows = rows or [(part, k, "twin" if k == 0 else f"{part}{k}") for part, k in places]
    lines = [f"{part},{k},{group}" for part, k, group in rows]
    file = folder / "twins.csv"
    file.write_text("\n".join(["breastmnist_split,breastmnist_index,group", *lines]))
    return file


def test_parts_stand_one_after_another(tmp_path):
    found = load_breastmnist(archive(tmp_path))
    assert found.images.shape == (9, 5, 5)
    assert found.split.tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    assert found.target.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert found.images[found.split == "test"].max() == 2
    assert found.groups is None


def test_duplicates_are_told_by_the_place_in_the_split(tmp_path):
    found = load_breastmnist(archive(tmp_path), curation=table(tmp_path))
    assert [k for k, group in enumerate(found.groups) if group == "twin"] == [0, 4, 6]
    with pytest.raises(ValueError, match="no row for 8 of 9 images, the first of them 'train 1'"):
        load_breastmnist(
            tmp_path / "breastmnist.npz", curation=table(tmp_path, [("train", 0, "a")])
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": None}, "no archive of BreastMNIST"),
        ({"val_images": np.zeros((2, 5, 5))}, "val_images has shape .* type float64"),
        ({"val_images": np.zeros((1, 5, 5), np.uint8)}, "for 2 labels"),
        ({"test_labels": np.array([0, 1, 7])}, r"test_labels has the values \[0, 1, 7\]"),
        ({"val_images": np.array([None, 1])}, "no archive of BreastMNIST"),
    ],
)
def test_other_archives_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_breastmnist(archive(tmp_path, **changes))


def test_files_that_are_not_there_or_no_archives(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected breastmnist.npz"):
        load_breastmnist(tmp_path / "none.npz")
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no archive of BreastMNIST"):
        load_breastmnist(tmp_path / "no.npz")


def test_the_real_one_has_sixty_twins_across_its_split(shared, busi_curation):
    found = load_breastmnist(shared / "data" / "breastmnist.npz", curation=busi_curation)
    assert np.bincount(found.target).tolist() == [210, 570]
    train = set(found.groups[found.split == "train"])
    assert sum(group in train for group in found.groups[found.split == "test"]) == 60
