"""The mask contract: every accepted form, every refused one, and the way to a network and back."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.exceptions import DataConversionWarning
from tiny_images import boxed

from hybridus.datasets import load_busi
from hybridus.inputs.images import as_images
from hybridus.inputs.masks import (
    Masks,
    as_masks,
    check_pair,
    check_pairs,
    read_mask,
    resize_mask,
    restore_mask,
)
from hybridus.inputs.resizing import resize_image

stacks = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)))
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def blob(height=24, width=32):
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 / 60 + (x - width / 2) ** 2 / 90 < 1


class TestArrays:
    @given(stacks)
    @settings(max_examples=60, deadline=None)
    def test_every_form_gives_the_same_masks(self, stack):
        routes = [
            stack,
            stack[..., None],
            stack.astype(np.uint8) * 255,
            stack.astype(np.int64) * 7,
            stack.astype(np.uint16) * 65535,
            stack.astype(np.float32),
            stack.astype(np.float16) * 255,
            np.asfortranarray(stack),
            stack.tolist(),
            list(stack),
            tuple(stack[..., None]),
            boxed(list(stack)),
            pd.Series(list(stack)),
            stack.astype(object),
            [Image.fromarray(mask) for mask in stack],
            [[mask] for mask in stack],
        ]
        for route in routes:
            masks = as_masks(route)
            assert isinstance(masks, Masks)
            assert masks.shape == stack.shape[1:]
            assert masks.paths is None
            assert all(mask.dtype == bool for mask in masks)
            np.testing.assert_array_equal(np.stack(list(masks)), stack)
        assert as_masks(masks) is masks

    def test_ragged_masks_keep_their_sizes(self):
        ragged = [np.zeros((4, 6), np.uint8), np.ones((5, 3, 1)), np.eye(7, dtype=bool)]
        for route in (ragged, boxed(ragged)):
            masks = as_masks(route)
            assert masks.shape is None
            assert masks.sizes == [(4, 6), (5, 3), (7, 7)]
            assert [int(mask.sum()) for mask in masks] == [0, 15, 7]

    def test_several_masks_of_one_image_are_joined(self):
        left, right = np.zeros((2, 4, 6), bool)
        left[:, :2], right[:, 5] = True, True
        masks = as_masks([[left, right.astype(np.uint8) * 255], left])
        np.testing.assert_array_equal(masks[0], left | right)
        np.testing.assert_array_equal(masks[1], left)
        with pytest.raises(ValueError, match=r"masks\[1\] is a list .* 6 x 4 and 4 x 6 pixels"):
            as_masks([left, [left, left.T]])

    def test_numbered_lesions_and_few_grey_levels_are_lesion_where_not_zero(self):
        numbered = np.zeros((1, 6, 6), int)
        numbered[0, ::2, ::2].flat = np.arange(1, 10)
        tissues = np.kron(np.array([[[0, 85, 170, 255]]], np.uint8), np.ones((1, 3, 3), np.uint8))
        assert as_masks(numbered)[0].sum() == 9
        assert as_masks(numbered.astype(float))[0].sum() == 9
        assert as_masks(tissues)[0][1].tolist() == [False] * 3 + [True] * 9

    def test_indexing_is_that_of_a_sequence(self):
        masks = as_masks(np.arange(3)[:, None, None] == np.ones((3, 2, 2)))
        assert masks[-2].all()
        assert [mask.any() for mask in masks[1:]] == [True, False]
        with pytest.raises(IndexError, match="mask 3 of 3"):
            masks[3]

    def test_the_callers_array_is_neither_written_to_nor_handed_out(self):
        stack = np.zeros((2, 3, 3), bool)
        for route in (stack, list(stack), [[mask] for mask in stack]):
            as_masks(route)[0][...] = True
            assert not stack.any()
        stack.setflags(write=False)
        assert as_masks(stack)[0].flags.writeable

    def test_grey_edges_and_probabilities_are_refused_with_advice(self):
        soft = np.asarray(Image.fromarray(blob().astype(np.uint8) * 255).resize((64, 48), 2))
        n_values = len(np.unique(soft)) - 1
        assert n_values > 8
        sharp = (soft >= 128) * np.uint8(255)
        for route in (np.stack([sharp, soft]), [sharp, soft], [sharp, [soft, sharp]]):
            with pytest.raises(ValueError, match=rf"masks\[1\].* holds {n_values} dist.* > 127"):
                as_masks(route)
        with pytest.raises(ValueError, match=r"masks\[1\] holds .* masks > 127"):
            as_masks([soft > 0, soft.astype(float)])
        with pytest.raises(ValueError, match=r"masks\[1\] holds .*fractions.* masks > 0\.5"):
            as_masks(np.stack([soft >= 128, soft / 255]))
        with pytest.raises(ValueError, match=r"masks\[0\] holds 1 distinct .* masks > 0\.5"):
            as_masks(np.full((2, 4, 4), 0.3))
        ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
        with pytest.raises(ValueError, match="holds 255 distinct values"):
            as_masks(ramp)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_non_finite_values_name_the_mask(self, bad):
        stack = np.zeros((5, 4, 4))
        stack[3, 1, 2] = bad
        for route in (stack, list(stack), stack[..., None]):
            with pytest.raises(ValueError, match=r"masks_pred\[3\] contains NaN or infinity"):
                as_masks(route, name="masks_pred")

    @pytest.mark.parametrize(
        ("masks", "message"),
        [
            (np.array([0, 1, 2]), r"masks expected, got labels: masks have shape \(3,\).*\[0, 1"),
            ([0.5, 1.0], "masks expected, got labels"),
            (pd.Series([0, 1, 2]), "masks expected, got labels"),
            (np.zeros((4, 4)), r"shape \(4, 4\), expected .* pass mask\[None\] for one mask"),
            ([[0, 1], [1, 0]], r"pass mask\[None\]"),
            (np.zeros((2, 4, 4, 3)), r"\(2, 4, 4, 3\).*masks.max\(axis=-1\)"),
            ([np.zeros((4, 4, 3))], r"masks\[0\] has shape \(4, 4, 3\).*mask.max\(axis=-1\)"),
            (np.zeros((0, 4, 4)), r"at least one mask .* shape \(0, 4, 4\)"),
            ([], "at least one mask"),
            ([np.zeros((4, 4)), np.zeros((0, 4))], r"masks\[1\] is empty"),
            ([np.zeros((4, 4)), None], r"masks\[1\] is NoneType None, expected .*np.zeros"),
            ([None, np.zeros((4, 4))], r"masks\[0\] is NoneType None"),
            ([np.zeros((4, 4)), []], r"masks\[1\] is list \[\]"),
            ([np.zeros((4, 4)), 1], r"masks\[1\] is int 1"),
            ([np.zeros((2, 2)), [[1, 0], [1]]], r"masks\[1\] cannot be read as an array"),
            (np.full((2, 3, 3), -1), r"masks\[0\] has negative values \(down to -1\)"),
            (np.full((2, 3, 3), -0.5), r"masks\[0\] has negative values .* logits"),
            (np.full((2, 3, 3), 1j), "Complex data not supported"),
            (np.full((2, 3, 3), "2020-01-01", "M8[D]"), "datetime64"),
            ([np.full((3, 3), "lesion")], r"masks\[0\] has type <U6"),
            (None, r"expected masks as an array of shape .* got NoneType None; "),
            ("mask.png", "got the single 'mask.png'; pass a list"),
        ],
    )
    def test_other_forms_are_refused(self, masks, message):
        with pytest.raises(ValueError, match=message):
            as_masks(masks)


class TestPairs:
    def test_numbers_and_sizes_must_be_those_of_the_images(self):
        images = as_images(np.zeros((3, 4, 6, 3)))
        assert as_masks(np.zeros((3, 4, 6)), images).shape == (4, 6)
        with pytest.raises(ValueError, match="got 2 masks for 3 images"):
            as_masks(np.zeros((2, 4, 6)), images)
        message = r"masks\[0\] is 4 x 6 pixels \(width x height\), but images\[0\] is 6 x 4"
        with pytest.raises(ValueError, match=message):
            as_masks(np.zeros((3, 6, 4)), images)
        ragged = as_images([np.zeros((4, 6)), np.zeros((5, 6))])
        assert len(as_masks([np.zeros((4, 6)), np.zeros((5, 6))], ragged)) == 2
        with pytest.raises(ValueError, match=r"masks\[1\] is 6 x 4 .* images\[1\] is 6 x 5"):
            check_pairs(ragged, as_masks(np.zeros((2, 4, 6))))

    def test_files_are_checked_when_they_are_read(self, tmp_path):
        paths = [tmp_path / "scan.png", tmp_path / "mask.png"]
        Image.new("L", (8, 6), 100).save(paths[0])
        Image.new("1", (8, 5), 1).save(paths[1])
        images = as_images(paths[:1])
        masks = as_masks(paths[1:], images)
        assert masks.sizes == [None]
        with pytest.raises(ValueError, match=r"masks\[0\] is 8 x 5 .* images\[0\] is 8 x 6"):
            check_pair(0, images[0], masks[0])
        check_pair(0, images[0], np.zeros((6, 8), bool))

    def test_flattened_rows_are_masks_where_the_images_have_a_shape(self):
        stack = np.random.default_rng(0).random((5, 6, 6)) > 0.5
        for images in (as_images(np.zeros((5, 36))), as_images(np.zeros((5, 108)))):
            masks = as_masks(stack.reshape(5, 36), images)
            np.testing.assert_array_equal(np.stack(list(masks)), stack)
        with pytest.raises(ValueError, match=r"rows of 30 values, but images of 6 x 6 .* need 36"):
            as_masks(np.zeros((5, 30)), images)
        with pytest.raises(ValueError, match=r"pass mask\[None\]"):
            as_masks(np.zeros((2, 36)), as_images(["a.png", "b.png"]))

    def test_one_value_an_image_is_a_constant_mask_only_where_that_is_allowed(self):
        images = as_images(np.zeros((3, 36)))
        with pytest.raises(ValueError, match="masks expected, got labels"):
            as_masks([0, 1, 2], images)
        masks = as_masks([0, 1, -2.5], images, constant_ok=True)
        assert masks.shape == (6, 6)
        assert [mask.mean() for mask in masks] == [0, 1, 1]
        with pytest.warns(DataConversionWarning, match="column-vector"):
            masks = as_masks(np.array([[0], [1], [1]]), images, constant_ok=True)
        assert [mask.mean() for mask in masks] == [0, 1, 1]
        with pytest.raises(ValueError, match="got 2 masks for 3 images"):
            as_masks([0, 1], images, constant_ok=True)
        with pytest.raises(ValueError, match="NaN, infinity or no numbers"):
            as_masks([0, 1, np.nan], images, constant_ok=True)
        with pytest.raises(ValueError, match="masks expected, got labels"):
            as_masks([0, 1], as_images(["a.png", "b.png"]), constant_ok=True)


class TestFiles:
    def test_every_kind_of_file_is_lesion_where_a_colour_is_not_zero(self, tmp_path):
        mask = blob()
        grey = mask * np.uint8(255)
        red = np.dstack([grey, grey * 0, grey * 0])
        opaque = np.full_like(grey, 255)
        made = {
            "one bit.png": Image.fromarray(mask),
            "zero one.png": Image.fromarray(mask.astype(np.uint8)),
            "grey.bmp": Image.fromarray(grey),
            "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
            "red.png": Image.fromarray(red),
            "alpha.png": Image.fromarray(np.dstack([red, opaque])),
            "clear.png": Image.fromarray(np.dstack([red, opaque * 0])),
            "grey alpha.png": Image.fromarray(np.dstack([grey, opaque]), "LA"),
            "palette.png": Image.fromarray(mask).convert("P"),
            "float.tif": Image.fromarray(mask.astype(np.float32)),
            "lossy.jpg": Image.fromarray(grey),
        }
        for name, picture in made.items():
            picture.save(tmp_path / name)
            np.testing.assert_array_equal(read_mask(tmp_path / name), mask, err_msg=name)
        assert len(np.unique(np.asarray(Image.open(tmp_path / "lossy.jpg")))) > 10

    def test_all_forms_of_path_lists_read_alike(self, tmp_path):
        stack = np.random.default_rng(0).random((2, 5, 7)) > 0.5
        for i, mask in enumerate(stack):
            Image.fromarray(mask).save(tmp_path / f"scan ({i})_mask.png")
        paths = sorted(tmp_path.glob("*.png"))
        texts = [str(path) for path in paths]
        for route in (
            paths,
            tuple(texts),
            np.array(texts),
            np.array(texts)[:, None],
            np.array(texts, dtype=object),
            pd.Series(texts),
            pd.Series(texts, dtype="string"),
            pd.DataFrame({"path": texts}),
            [text.encode() for text in texts],
        ):
            masks = as_masks(route)
            assert masks.paths == texts
            assert masks.shape is None
            np.testing.assert_array_equal(np.stack(list(masks)), stack)

    def test_files_and_arrays_of_one_image_are_joined(self, tmp_path):
        first, second = np.eye(4, 5, dtype=bool), np.eye(4, 5, 1, dtype=bool)
        path, narrow = tmp_path / "mask.png", tmp_path / "narrow.png"
        Image.fromarray(first).save(path)
        Image.fromarray(first[:, :3]).save(narrow)
        masks = as_masks([[path, second], path, second])
        assert masks.paths is None
        assert masks.sizes == [(4, 5), None, (4, 5)]
        np.testing.assert_array_equal(masks[0], first | second)
        masks = as_masks([path, [path, narrow]])
        with pytest.raises(ValueError, match=r"masks\[1\] is a list .* 5 x 4 and 3 x 4 pixels"):
            masks[1]

    def test_grey_edges_in_a_file_are_refused(self, tmp_path):
        soft = Image.fromarray(blob() * np.uint8(255)).resize((64, 48), Image.Resampling.BILINEAR)
        soft.save(tmp_path / "soft.png")
        masks = as_masks([tmp_path / "soft.png"])
        with pytest.raises(ValueError, match=r"masks\[0\]: '.*soft.png' holds .* grey edges"):
            masks[0]

    def test_unreadable_files_are_named_with_their_index(self, tmp_path):
        text = tmp_path / "text.png"
        text.write_text("not a picture")
        truncated = tmp_path / "truncated.png"
        Image.fromarray(blob(99, 99) * np.uint8(255)).save(truncated)
        truncated.write_bytes(truncated.read_bytes()[:-40])
        frames = [Image.new("L", (4, 4), grey) for grey in (0, 255)]
        frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
        for name, message in (
            ("text.png", "cannot be decoded as a mask"),
            ("truncated.png", "cannot be decoded as a mask"),
            ("absent.png", "does not exist"),
            ("", "is a folder"),
            ("two.tif", "holds 2 frames"),
        ):
            masks = as_masks([text, tmp_path / name])
            with pytest.raises(ValueError, match=rf"masks\[1\]: '.*{name}' {message}"):
                masks[1]

    def test_masks_are_turned_upright_as_images_are(self, tmp_path):
        picture = Image.fromarray(blob(8, 12) * np.uint8(255))
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(tmp_path / "turned.png", exif=exif)
        image = as_images([tmp_path / "turned.png"])[0]
        np.testing.assert_array_equal(read_mask(tmp_path / "turned.png"), image > 0)

    def test_real_masks_read_as_the_loader_reads_them(self, busi_folder):
        busi = load_busi(busi_folder)
        several = [
            i
            for i, path in enumerate(busi.images)
            if len(list(busi_folder.glob(path[len(str(busi_folder)) + 1 : -4] + "_mask*"))) > 1
        ]
        assert len(several) == 17
        chosen = [*several, *range(0, 780, 30)]
        files = [
            sorted(busi_folder.glob(busi.images[i][len(str(busi_folder)) + 1 : -4] + "_mask*"))
            for i in chosen
        ]
        images = as_images(busi.images[chosen])
        masks = as_masks(files, images)
        for i, mask in zip(chosen, masks, strict=True):
            np.testing.assert_array_equal(mask, busi.masks[i])
        loaded = as_masks(busi.masks, as_images(busi.images))
        assert len(loaded) == 780
        check_pair(several[0], images[0], loaded[several[0]])


class TestSizes:
    @given(sizes, sizes, st.sampled_from(["stretch", "pad"]))
    @settings(max_examples=80, deadline=None)
    def test_whole_and_empty_masks_stay_so_within_the_geometry_of_images(self, old, new, resize):
        white = resize_image(np.full(old, 255, np.uint8), new, resize=resize)
        np.testing.assert_array_equal(
            resize_mask(np.ones(old, bool), new, resize=resize), white > 0
        )
        assert not resize_mask(np.zeros(old, bool), new, resize=resize).any()

    @given(sizes, sizes, st.sampled_from(["stretch", "pad"]))
    @settings(max_examples=80, deadline=None)
    def test_restoring_undoes_the_padding(self, old, new, resize):
        lesion = resize_image(np.full(old, 255, np.uint8), new, resize=resize) / np.float32(255)
        restored = restore_mask(lesion, old, resize=resize)
        assert restored.shape == old
        assert restored.dtype == np.float32
        np.testing.assert_allclose(restored, 1, atol=1e-6)

    def test_a_mask_follows_its_image(self):
        mask = blob(90, 130)
        for resize in ("stretch", "pad"):
            image = resize_image(mask * np.float32(1), (64, 64), resize=resize)
            small = resize_mask(mask, (64, 64), resize=resize)
            np.testing.assert_array_equal(small, image >= 0.5 - 1e-6)

    @pytest.mark.parametrize("resize", ["stretch", "pad"])
    @pytest.mark.parametrize("size", [(90, 130), (130, 90), (256, 200), (128, 128)])
    def test_there_and_back_keeps_the_lesion(self, size, resize):
        mask = np.kron(blob(24, 32), np.ones((6, 6), bool))[: size[0], : size[1]]
        small = resize_mask(mask, (128, 128), resize=resize)
        back = restore_mask(small, mask.shape, resize=resize) >= 0.5
        common = 2 * (back & mask).sum() / (back.sum() + mask.sum())
        assert common > 0.97

    def test_the_same_size_changes_nothing(self):
        mask = blob()
        np.testing.assert_array_equal(resize_mask(mask, mask.shape), mask)
        probabilities = np.random.default_rng(0).random((24, 32)).astype(np.float32)
        for resize in ("stretch", "pad"):
            restored = restore_mask(probabilities, (24, 32), resize=resize)
            np.testing.assert_array_equal(restored, probabilities)

    def test_a_channel_axis_is_dropped_and_other_shapes_refused(self):
        assert resize_mask(np.ones((4, 4, 1), bool), (2, 2)).shape == (2, 2)
        assert restore_mask(np.ones((4, 4, 1)), (2, 3)).shape == (2, 3)
        with pytest.raises(ValueError, match=r"probabilities has shape \(4, 4, 2\)"):
            restore_mask(np.ones((4, 4, 2)), (2, 3))
