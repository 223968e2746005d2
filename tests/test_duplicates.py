"""Duplicates of scans: found through what people do to pictures, and nothing else is."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from hybridus import make_breast_phantoms, near_duplicate_groups
from hybridus.protocol.auditing.candidates import find_candidates
from hybridus.protocol.auditing.registration import compose, invert, register
from hybridus.protocol.auditing.thumbnails import make_thumbnail
from hybridus.protocol.duplicates import _join, near_duplicate_pairs

pytestmark = pytest.mark.slow


def _resized(scan, height, width):
    return np.asarray(Image.fromarray(scan).resize((width, height), Image.Resampling.BICUBIC))


def _marked(scan):
    picture = Image.fromarray(scan)
    draw = ImageDraw.Draw(picture)
    for x, y in ((40, 50), (90, 70)):
        draw.line((x - 4, y, x + 4, y), fill=255)
        draw.line((x, y - 4, x, y + 4), fill=255)
    draw.text((10, 110), "LT BREAST 2:00", fill=255)
    return np.asarray(picture)


def _as_jpeg(scan):
    file = io.BytesIO()
    Image.fromarray(scan).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


SAVED_AGAIN = {
    "resized": lambda scan: _resized(scan, 64, 64),
    "stretched": lambda scan: _resized(scan, 90, 160),
    "cropped": lambda scan: scan[10:100, 25:],
    "cropped to 0.6": lambda scan: scan[30:108, 40:118],
    "mirrored": lambda scan: scan[:, ::-1],
    "brightened": lambda scan: np.clip(scan * 1.3 + 10, 0, 255).astype("uint8"),
    "gamma": lambda scan: (255 * (scan / 255) ** 1.6).astype("uint8"),
    "with calipers and text": _marked,
    "on black": lambda scan: np.pad(scan, ((5, 30), (40, 10))),
    "as JPEG": _as_jpeg,
    "in colour": lambda scan: np.stack([scan, scan // 2, scan // 3], axis=-1),
    "all at once": lambda scan: _as_jpeg(_marked(_resized(scan[10:110, 110:5:-1], 130, 140))),
}


@pytest.fixture(scope="module")
def scans():
    return make_breast_phantoms(24, random_state=5).images


def test_a_scan_is_found_in_each_way_that_it_was_saved_again(scans):
    copies = [save(scan) for save, scan in zip(SAVED_AGAIN.values(), scans, strict=False)]
    groups = near_duplicate_groups([*scans, *copies])
    assert groups[:24].tolist() == list(range(24))
    found = dict(zip(SAVED_AGAIN, (groups[24:] == range(len(copies))).tolist(), strict=True))
    assert found == dict.fromkeys(SAVED_AGAIN, True)


def test_pairs_tell_how_alike_how_much_and_whether_mirrored(scans):
    cropped, mirrored = scans[2][:, 32:], scans[7][:, ::-1]
    pairs = near_duplicate_pairs([*scans[:10], cropped, mirrored, scans[4]])
    rows = pairs.set_index(["first", "second"])
    assert rows.index.tolist()[0] == (4, 12)
    assert rows.loc[(4, 12), ["similarity", "overlap"]].tolist() == [1, 1]
    assert rows["exact"].to_dict() == {(4, 12): True, (2, 10): False, (7, 11): False}
    assert rows["mirrored"].to_dict() == {(4, 12): False, (2, 10): False, (7, 11): True}
    assert (rows["similarity"] > 0.95).all()


def test_unrelated_scans_are_alone_and_so_are_images_without_structure(scans):
    assert near_duplicate_groups(scans).tolist() == list(range(24))
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (20, 24, 24)).astype("uint8")
    assert len(set(near_duplicate_groups(noise))) == 20
    smooth = gaussian_filter(random.normal(size=(30, 64, 64)), (0, 6, 6))
    smooth -= smooth.min(axis=(1, 2), keepdims=True)
    smooth /= smooth.max(axis=(1, 2), keepdims=True)
    # Four bumps can always be laid on four others: at 0.65 many would be duplicates.
    assert len(near_duplicate_pairs(smooth, threshold=0.65)) > 30
    assert len(set(near_duplicate_groups(smooth))) == 30


def test_blank_images_are_nobodys_duplicates(scans):
    blank = np.full((128, 128), 9, "uint8")
    faint = blank + np.arange(128, dtype="uint8") % 3
    assert near_duplicate_groups([blank, scans[0], blank, faint, faint]).tolist() == [0, 1, 2, 3, 4]
    assert near_duplicate_groups([blank, blank]).tolist() == [0, 1]
    assert near_duplicate_groups([scans[0]]).tolist() == [0]
    assert list(near_duplicate_pairs([blank])) == list(near_duplicate_pairs(list(scans[:2])))


def test_copies_of_copies_stand_in_one_group_and_each_pair_is_listed(scans):
    copies = [scans[3], scans[3][:, 20:], scans[3][:108], scans[3][:, :100], scans[3][20:]]
    pairs = near_duplicate_pairs([*copies, *scans[4:20]])
    assert sorted(zip(pairs["first"], pairs["second"], strict=True)) == [
        (i, j) for i in range(5) for j in range(i + 1, 5)
    ]


def test_exact_copies_are_found_in_any_form_and_listed_beside_the_first(scans, tmp_path):
    Image.fromarray(scans[0]).save(tmp_path / "a.png")
    Image.fromarray(scans[0]).save(tmp_path / "b.bmp")
    Image.fromarray(scans[1]).convert("RGB").save(tmp_path / "c.png")
    files = [tmp_path / name for name in ("a.png", "c.png", "b.bmp", "a.png")]
    pairs = near_duplicate_pairs(files)
    assert pairs[["first", "second", "exact"]].to_numpy().tolist() == [[0, 2, True], [0, 3, True]]
    assert near_duplicate_groups(pd.Series(map(str, files))).tolist() == [0, 1, 0, 0]


def test_images_are_not_written_to_and_groups_are_the_same_each_time(scans):
    images = np.concatenate([scans[:6], scans[:2, :, ::-1]])
    images.setflags(write=False)
    before = near_duplicate_groups(images)
    assert (before == near_duplicate_groups(images)).all()
    assert (near_duplicate_groups(images / np.float32(255)) == before).all()
    assert before.dtype == np.intp


def test_what_cannot_be_read_is_named(scans, tmp_path):
    Image.fromarray(scans[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"images\[1\]: .*b.png.* cannot be decoded"):
        near_duplicate_groups([tmp_path / "a.png", tmp_path / "b.png"])


@pytest.mark.parametrize("threshold", [0, 1.5, -1])
def test_a_threshold_lies_above_0_and_up_to_1(scans, threshold):
    with pytest.raises(ValueError, match="threshold =="):
        near_duplicate_groups(scans[:2], threshold=threshold)
    with pytest.raises(TypeError, match="threshold"):
        near_duplicate_groups(scans[:2], threshold="high")


def _links(*rows):
    return pd.DataFrame(rows, columns=["first", "second", "similarity"])


def test_one_weak_link_does_not_join_two_groups():
    inside = [(0, 1, 0.95), (2, 3, 0.9)]
    apart, together = [0, 0, 1, 1], [0, 0, 0, 0]

    def groups(*more):
        return pd.factorize(_join(_links(*inside, *more), 4))[0].tolist()

    assert groups((1, 2, 0.7)) == apart
    assert groups((1, 2, 0.85)) == together
    assert groups((1, 2, 0.7), (0, 3, 0.66)) == together
    # A single image joins by a weak link.
    assert pd.factorize(_join(_links((0, 1, 0.95), (1, 2, 0.7)), 3))[0].tolist() == [0, 0, 0]


def test_registration_finds_where_a_crop_was_cut_from(scans):
    crop = scans[0][12:116, 20:108][:, ::-1]
    thumbnails = np.stack([make_thumbnail(image).pixels for image in (crop, *scans[:12])])
    candidates = find_candidates(thumbnails)
    of_crop = (candidates.first == 0) & (candidates.second == 1)
    assert of_crop.sum() == 1
    at = np.flatnonzero(of_crop)
    found = register(thumbnails, *(column[at] for column in candidates))
    wanted = [12 / 128, 108 / 128, 104 / 128, -88 / 128]
    np.testing.assert_allclose(found.placement[0], wanted, atol=0.01)
    assert found.similarity[0] > 0.97
    assert found.overlap[0] == 1


def test_placements_compose_and_invert():
    one, then = np.array([[0.1, 0.9, 0.8, -0.7]]), np.array([[-0.2, 0.3, 1.1, 0.9]])
    np.testing.assert_allclose(compose(one, invert(one)), [[0, 0, 1, 1]], atol=1e-12)
    point = np.array([0.3, 0.6])
    step = one[0, :2] + one[0, 2:] * point
    step = then[0, :2] + then[0, 2:] * step
    both = compose(one, then)[0]
    np.testing.assert_allclose(both[:2] + both[2:] * point, step)


def test_duplicates_of_busi_are_those_that_were_published(busi_folder, busi_curation):
    from hybridus import load_busi

    busi = load_busi(busi_folder, curation=busi_curation)
    some = np.flatnonzero(busi.target == 1)[:120]  # malignant
    found, known = near_duplicate_groups(busi.images[some]), busi.groups[some]
    same = np.triu(found[:, None] == found, 1)
    published = np.triu(known[:, None] == known, 1)
    assert (same & published).sum() / published.sum() > 0.95
    assert (same & published).sum() / same.sum() > 0.95
