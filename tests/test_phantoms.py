"""Simulated scans: reproducible in any split, physically right, with the signs of their class."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hybridus.datasets import make_breast_phantoms
from hybridus.datasets.phantoms.breast import _labels
from hybridus.datasets.phantoms.lesions import draw_benign, draw_malignant
from hybridus.datasets.phantoms.marks import Marks, write_marks
from hybridus.datasets.phantoms.physics import (
    Grid,
    Scanner,
    Tissue,
    beam_sigma_mm,
    scan,
    shadow_db,
    smooth_noise,
)

pytestmark = pytest.mark.slow

FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def phantoms():
    """300 scans of the usual size."""
    return make_breast_phantoms(300, random_state=0)


# What comes back


@pytest.mark.parametrize("size", [32, 50, 128, 256])
def test_images_masks_and_targets_fit_together_at_any_size(size):
    data = make_breast_phantoms(9, image_size=size, random_state=3)
    assert data.images.shape == data.masks.shape == (9, size, size)
    assert data.images.dtype == np.uint8
    assert data.masks.dtype == bool
    assert data.target.shape == (9,)
    assert np.array_equal(data.masks.any(axis=(1, 2)), data.target != 0)
    assert data.images.std(axis=(1, 2)).min() > 10


def test_every_lesion_has_a_mask_of_sensible_size(phantoms):
    area = phantoms.masks.mean(axis=(1, 2))
    assert np.all(area[phantoms.target == 0] == 0)
    assert area[phantoms.target != 0].min() > 0.003
    assert area.max() < 0.35


def test_parameters_stand_in_a_table_with_the_sample_as_index():
    data = make_breast_phantoms(12, image_size=32, start=5, random_state=1)
    table = data.lesions
    assert table.index.tolist() == list(range(5, 17))
    assert table["class"].tolist() == [data.target_names[k] for k in data.target]
    normal = data.target == 0
    assert table.loc[normal, "width_mm"].isna().all()
    assert table.loc[~normal, "width_mm"].notna().all()
    assert set(table.loc[normal, "kind"]) == {"none"}
    assert table.notna().all()["frequency_mhz"]
    assert list(make_breast_phantoms(1, image_size=32, random_state=2).lesions) == list(table)


def test_the_table_agrees_with_the_masks(phantoms):
    table = phantoms.lesions[phantoms.target == 2]
    pixel = table["field_mm"] / 128
    for mask, (_, row), mm in zip(
        phantoms.masks[phantoms.target == 2], table.iterrows(), pixel, strict=True
    ):
        z, x = (float(c + 0.5) * mm for c in ndimage.center_of_mass(mask))
        inside = row["width_mm"] / 2 < row["center_x_mm"] < row["field_mm"] - row["width_mm"] / 2
        if inside:
            assert abs(x - row["center_x_mm"]) < 0.1 * row["width_mm"]
            assert abs(z - row["center_z_mm"]) < 0.1 * row["height_mm"]
            ellipse = np.pi / 4 * row["width_mm"] * row["height_mm"]
            assert mask.sum() * mm**2 == pytest.approx(ellipse, rel=0.35)


def test_description_counts_the_classes():
    data = make_breast_phantoms(6, image_size=32, class_weights=[0, 1, 0], random_state=0)
    assert "1  malignant: 6" in data.DESCR
    assert "0  normal: 0" in data.DESCR


# Reproducible in any split


def test_any_split_into_batches_gives_the_same_samples():
    whole = make_breast_phantoms(10, image_size=64, random_state=0)
    for start, n in [(0, 3), (3, 1), (4, 4), (8, 2)]:
        part = make_breast_phantoms(n, image_size=64, start=start, random_state=0)
        rows = slice(start, start + n)
        assert np.array_equal(part.images, whole.images[rows])
        assert np.array_equal(part.masks, whole.masks[rows])
        assert np.array_equal(part.target, whole.target[rows])
        assert part.lesions.equals(whole.lesions.iloc[rows])


def test_a_seed_decides_everything_and_leaves_the_global_state_alone():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, other = (make_breast_phantoms(3, image_size=32, random_state=s) for s in (7, 7, 8))
    assert np.array_equal(a.images, b.images)
    assert not np.array_equal(a.images, other.images)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_generators_give_new_samples_at_each_call(make):
    state = make(1)
    first, second = (make_breast_phantoms(2, image_size=32, random_state=state) for _ in range(2))
    again = make_breast_phantoms(2, image_size=32, random_state=make(1))
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, second.images)


def test_no_sample_is_made_twice(phantoms):
    assert len({image.tobytes() for image in phantoms.images}) == 300


def test_one_seed_is_one_breast_at_every_size():
    large = make_breast_phantoms(12, image_size=128, random_state=4)
    small = make_breast_phantoms(12, image_size=64, random_state=4)
    assert np.array_equal(large.target, small.target)
    for a, b, mask_a, mask_b, marked in zip(
        large.images, small.images, large.masks, small.masks, large.lesions["calipers"], strict=True
    ):
        if not marked:
            halved = a.reshape(64, 2, 64, 2).mean(axis=(1, 3))
            assert np.corrcoef(halved.ravel(), b.ravel())[0, 1] > 0.85
        overlap = mask_a[::2, ::2] & mask_b
        assert overlap.sum() >= 0.8 * mask_b.sum()


def test_far_samples_cost_no_more_than_near_ones():
    far = make_breast_phantoms(2, image_size=32, start=10**9, random_state=0)
    assert far.lesions.index.tolist() == [10**9, 10**9 + 1]


# Classes


@pytest.mark.parametrize("weights", [None, [1, 1, 2], [0.2, 0.5, 0.3], [1, 0, 1]])
def test_every_run_of_samples_keeps_to_the_class_weights(weights):
    shares = np.ones(3) / 3 if weights is None else np.array(weights) / np.sum(weights)
    for seed in range(20):
        for start in (0, 17, 12345):
            for n in (3, 10, 100, 1000):
                counts = np.bincount(_labels(seed, start + np.arange(n), weights), minlength=3)
                assert counts.sum() == n
                assert np.abs(counts - n * shares).max() < 2.5
                assert np.all(counts[shares == 0] == 0)


def test_brightness_alone_does_not_tell_the_classes(phantoms):
    rows = np.column_stack([phantoms.images.mean(axis=(1, 2)), phantoms.images.std(axis=(1, 2))])
    for model in (
        LogisticRegression(),
        SVC(),
        RandomForestClassifier(100, random_state=0),
    ):
        pipe = make_pipeline(StandardScaler(), model)
        accuracy = cross_val_score(pipe, rows, phantoms.target, cv=FOLDS).mean()
        assert accuracy < 0.5


def test_the_shape_of_the_mask_tells_benign_from_malignant(phantoms):
    lesion = phantoms.target != 0
    rows = []
    for mask in phantoms.masks[lesion]:
        region = max(regionprops(label(mask)), key=lambda found: found.area)
        top, left, bottom, right = region.bbox
        rows.append([(bottom - top) / (right - left), region.solidity])
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    accuracy = cross_val_score(pipe, rows, phantoms.target[lesion], cv=FOLDS).mean()
    assert accuracy > 0.9


def test_marks_do_not_give_the_class_away(phantoms):
    table = phantoms.lesions
    for mark in (table["calipers"], table["ruler"], table["text"] != ""):
        shares = [mark[phantoms.target == k].mean() for k in range(3)]
        assert min(shares) > 0.15
        assert max(shares) < 0.36


# Signs


def test_benign_lesions_are_wider_than_tall_and_most_malignant_ones_taller(phantoms):
    table = phantoms.lesions
    taller = table["orientation"] == "not parallel"
    assert not taller[phantoms.target == 2].any()
    assert 0.65 < taller[phantoms.target == 1].mean() < 0.85


def test_margins_belong_to_their_class(phantoms):
    margins = phantoms.lesions.groupby("class")["margin"].unique()
    assert set(margins["benign"]) == {"circumscribed", "lobulated"}
    assert set(margins["malignant"]) == {"spiculated", "angular", "microlobulated"}


def brightness_below_and_beside(data, posterior):
    """Mean grey level below the lesions of a posterior sign, and at their sides at that depth."""
    below, beside = [], []
    for k in np.flatnonzero(data.lesions["posterior"] == posterior):
        rows, columns = np.nonzero(data.masks[k])
        bottom = rows.max() + 2
        middle, half = int(columns.mean()), max(2, np.ptp(columns) // 4)
        if data.lesions["class"].iloc[k] == "normal" or bottom > 110:
            continue
        band = data.images[k][bottom : bottom + 12]
        below.append(band[:, max(0, middle - half) : middle + half].mean())
        outside = np.delete(band, np.arange(columns.min(), columns.max() + 1), axis=1)
        beside.append(outside.mean())
    return np.array(below), np.array(beside)


def test_shadow_and_enhancement_are_seen_below_the_lesion(phantoms):
    below, beside = brightness_below_and_beside(phantoms, "shadowing")
    assert len(below) > 40
    assert np.mean(below - beside) < -20
    below, beside = brightness_below_and_beside(phantoms, "enhancement")
    assert len(below) > 40
    assert np.mean(below - beside) > 15


def contrast(image, mask):
    ring = ndimage.binary_dilation(mask, iterations=8) & ~ndimage.binary_dilation(mask)
    return image[ring].mean() - image[mask].mean()


def test_lesions_are_darker_than_what_surrounds_them(phantoms):
    lesions = np.flatnonzero(phantoms.target)
    values = np.array([contrast(phantoms.images[k], phantoms.masks[k]) for k in lesions])
    kinds = phantoms.lesions["kind"].iloc[lesions].to_numpy()
    means = {kind: values[kinds == kind].mean() for kind in set(kinds)}
    assert means["cyst"] > means["carcinoma"] > means["fibroadenoma"] > means["lipoma"] > 0
    assert np.mean(values > 10) > 0.9


def test_brightness_falls_with_depth_as_in_scans(phantoms):
    quarters = phantoms.images.reshape(300, 4, 32, 128).mean(axis=(0, 2, 3))
    assert np.all(np.diff(quarters) < -10)
    assert 110 < quarters[0] < 160


# Physics

SCANNER = Scanner(
    frequency_mhz=10,
    f_number=2,
    focus_mm=20,
    looks=1,
    smoothing_mm=0,
    gain_db=-60,
    dynamic_range_db=120,
    slope_db_per_mm=0,
    noise_db=-200,
)
GRID = Grid(field_mm=40, n=256)


def even_tissue(grid=GRID):
    return Tissue(*(np.zeros((grid.n, grid.n), dtype=np.float32) for _ in range(3)))


def envelope(grey, scanner=SCANNER):
    return 10 ** (((grey - 1) * scanner.dynamic_range_db - scanner.gain_db) / 20)


def test_even_tissue_gives_fully_developed_speckle():
    seen = envelope(scan(even_tissue(), SCANNER, GRID, np.random.default_rng(0)))
    # Rayleigh statistics: mean over standard deviation is 1.91 (Wagner et al. 1983).
    assert seen.mean() / seen.std() == pytest.approx(1.91, abs=0.04)
    assert np.mean(seen**2) == pytest.approx(1, abs=0.05)


def test_independent_looks_smooth_the_speckle():
    four = Scanner(**{**SCANNER.__dict__, "looks": 4})
    seen = envelope(scan(even_tissue(), four, GRID, np.random.default_rng(0)))
    assert seen.mean() / seen.std() == pytest.approx(2 * 1.91, abs=0.15)


def test_the_beam_is_narrowest_in_its_focus():
    sigma = beam_sigma_mm(SCANNER, np.array([5.0, 20.0, 35.0]))
    # Wavelength 0.154 mm times f-number 2 is the full width at half maximum.
    assert 2.355 * sigma[1] == pytest.approx(0.308)
    assert sigma[0] == sigma[2]
    assert sigma[0] > 2 * sigma[1]


def test_speckle_is_wider_away_from_the_focus():
    grain = []
    for part in (slice(112, 144), slice(224, 256)):
        seen = [
            envelope(scan(even_tissue(), SCANNER, GRID, np.random.default_rng(s)))[part]
            for s in range(3)
        ]
        flat = np.concatenate(seen) - np.mean(seen)
        grain.append(np.mean(flat[:, 2:] * flat[:, :-2]) / np.mean(flat**2))
    assert grain[0] < 0.4
    assert grain[1] > grain[0] + 0.25


def test_attenuation_counts_there_and_back():
    attenuation = np.zeros((GRID.n, GRID.n), dtype=np.float32)
    attenuation[64:128] = 1.0  # 10 mm of 1 dB/cm/MHz at 10 MHz
    loss = shadow_db(attenuation, SCANNER, GRID)
    assert np.allclose(loss[:64], 0)
    assert np.allclose(loss[128:], 20, atol=0.01)


def test_noise_of_the_electronics_shows_in_depth_only():
    silent = even_tissue()
    silent.backscatter_db[:] = -100
    noisy = Scanner(**{**SCANNER.__dict__, "noise_db": -60.0})
    seen = envelope(scan(silent, noisy, GRID, np.random.default_rng(0)))
    decibels = 20 * np.log10(np.sqrt(np.mean(seen**2, axis=1)))
    # The time gain lifts it by 1 dB/mm at 10 MHz.
    assert decibels[255] - decibels[0] == pytest.approx(40, abs=1.5)


def test_knots_make_one_anatomy_at_every_resolution():
    fine, coarse = (smooth_noise(np.random.default_rng(2), Grid(40, n), 3, 5) for n in (256, 128))
    assert np.abs(fine.reshape(128, 2, 128, 2).mean(axis=(1, 3)) - coarse).max() < 0.05
    many = [smooth_noise(np.random.default_rng(s), GRID, 3, 5) for s in range(40)]
    assert np.std(many) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("draw", [draw_benign, draw_malignant])
def test_lesions_stay_below_the_skin_and_inside_the_field(draw):
    rng = np.random.default_rng(0)
    for _ in range(300):
        field = rng.uniform(32, 52)
        lesion = draw(rng, field)
        assert lesion.center_z_mm - lesion.height_mm / 2 >= 2.5 - 1e-9
        assert lesion.center_z_mm + lesion.height_mm / 2 < field
        assert 0.25 * field <= lesion.center_x_mm <= 0.75 * field
        assert lesion.outline.min() > 0.3
        assert lesion.outline.max() < 2.6


def test_marks_beyond_the_edge_are_cut_off():
    image = np.zeros((64, 64), dtype=np.uint8)
    lesion = draw_benign(np.random.default_rng(0), 400)
    marks = Marks(calipers=True, dotted=True, ruler=True, text="RT 12H", text_at=(0.95, 0.97))
    write_marks(image, marks, lesion, field_mm=40)
    assert set(np.unique(image)) == {0, 235}
    assert np.count_nonzero(image[:, -2:]) >= 7 * 2


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples == 0, must be >= 1"),
        ({"n_samples": 2.5}, TypeError, "n_samples must be an instance of"),
        ({"image_size": 31}, ValueError, "image_size == 31, must be >= 32"),
        ({"image_size": (64, 64)}, TypeError, "image_size must be an instance of"),
        ({"difficulty": 1.1}, ValueError, "difficulty == 1.1, must be <= 1"),
        ({"start": -1}, ValueError, "start == -1, must be >= 0"),
        ({"random_state": -3}, ValueError, "random_state=-3"),
        ({"random_state": "seed"}, ValueError, "cannot be used to seed"),
        ({"class_weights": [1, 1]}, ValueError, r"class_weights=\[1, 1\]; expected three shares"),
        ({"class_weights": [1, -1, 1]}, ValueError, "expected three shares"),
        ({"class_weights": [0, 0, 0]}, ValueError, "not all 0"),
        ({"class_weights": [1, np.nan, 1]}, ValueError, "expected three shares"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        make_breast_phantoms(**{"n_samples": 1, **arguments})


# How difficult they are


def test_easy_cases_show_all_signs_of_their_class_in_lesions_that_are_well_seen():
    easy, hard = (
        make_breast_phantoms(24, image_size=32, difficulty=difficulty, random_state=0).lesions
        for difficulty in (0, 1)
    )
    assert hard["class"].tolist() == easy["class"].tolist()
    ill = easy[easy["class"] == "malignant"]
    assert (ill["orientation"] == "not parallel").all()
    assert (ill["rim_mm"] > 0).all()
    assert (ill["posterior_db"] > 0).all()
    axis = np.sqrt(easy["width_mm"] * easy["height_mm"]) / easy["field_mm"]
    assert axis.min() >= 0.25 - 1e-9
    for setting, middle in (("frequency_mhz", 10), ("dynamic_range_db", 70)):
        assert np.allclose(easy[setting] - middle, (hard[setting] - middle) / 2)
