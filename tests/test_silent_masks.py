"""Masks that people really have: each is read as what was meant, questioned, or refused."""

import io
import warnings
from collections import deque

import numpy as np
import pytest
from PIL import Image

from hybridus.inputs.images import as_images
from hybridus.inputs.masks import as_masks, read_mask

H, W = 48, 64


def disc(rows=H, columns=W, radius=12):
    y, x = np.mgrid[:rows, :columns]
    return (y - rows // 2) ** 2 + (x - columns // 2) ** 2 < radius**2


def grey(mask=None, value=255):
    return (disc() if mask is None else mask) * np.uint8(value)


def resized(method, size=(2 * W, 2 * H)):
    return np.asarray(Image.fromarray(grey()).resize(size, method))


def speckle(levels, dark=0):
    """A scan with every level between `dark` and `levels`."""
    random = np.random.default_rng(0)
    scan = random.integers(dark, levels + 1, (H, W)).astype(np.uint8)
    scan.flat[: levels + 1 - dark] = np.arange(dark, levels + 1)
    return scan


def outlined():
    """Kinds of tissue as areas, each of a grey level."""
    y, x = np.mgrid[:H, :W]
    distance = np.hypot(y - H / 2, x - W / 2)
    return np.select([distance < 8, distance < 14, distance < 20], [255, 170, 85], 0)


VALUES = {
    "lesion 1": (grey(value=1), None),
    "lesion 7": (grey(value=7), None),
    "65535": (disc() * np.uint16(65535), None),
    "empty": (grey(value=0), None),
    "tissues": (outlined().astype(np.uint8), None),
    "labels with gaps": (np.where(outlined() == 255, 4, outlined() // 85).astype(int), None),
    "-1 outside": (disc().astype(np.int16) * 2 - 1, r"negative values \(down to -1\)"),
    "-1 to ignore": (disc() - np.int8(1) * disc(radius=3) * 2, "pixels to ignore"),
    "1 and 2": (disc() + 1, r"has no zero: it holds 2 .* 1 to 2, .* pass masks > 1"),
    "1, 2 and 3": (np.where(disc(radius=15), 2, 1) + disc(), "has no zero: it holds 3"),
    "100 and 200": (disc() * 100.0 + 100, "has no zero: it holds 2"),
    "255 to ignore": (grey(value=1) + 254 * disc(radius=3).astype(int), r"\(255 beside 1, as pix"),
    "65535 to ignore": (disc() + disc(radius=3) * np.uint16(65534), r"\(65535 beside 1, as pix"),
    "probabilities": (np.hypot(*np.mgrid[:H, :W]) / 99, r"fractions.* masks > 0\.5"),
    "probabilities of 255": (speckle(255), "holds 255 distinct values"),
    "a scan without bright pixels": (speckle(200), "holds 200 distinct values .* pictures do"),
    "a scan of few levels": (speckle(5) * 40, "holds 5 distinct values .* pictures do"),
    "a scan without black": (speckle(200, dark=3), "has no zero"),
    "smooth edges": (resized(Image.Resampling.BILINEAR), "distinct values .* grey edges"),
    "smooth edges of few levels": (resized(Image.Resampling.BOX, (W // 2, H // 2)), "grey edges"),
    "noise of compression": (grey() - disc(radius=4) * 1 + ~disc() * 2, "has no zero"),
    "a little noise": (np.where(disc(radius=14) & ~disc(), 2, grey()), "noise of compression"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_nonzero_is_lesion_or_refused(kind):
    values, message = VALUES[kind]
    if message is None:
        np.testing.assert_array_equal(as_masks(values[None])[0], values != 0)
        return
    routes = [[values], values[None], [[values]]]
    if values.dtype == np.uint8:
        routes.append([Image.fromarray(values)])
    for route in routes:
        with pytest.raises(ValueError, match=rf"masks\[0\].*{message}"):
            as_masks(route)


def test_numbered_lesions_are_told_from_a_picture_of_as_many_levels():
    lesions = np.zeros((H, W), np.uint8)
    for number in range(40):
        y, x = divmod(number, 8)
        lesions[9 * y + 1 : 9 * y + 8, 8 * x : 8 * x + 7] = number + 1
    assert as_masks([lesions])[0].sum() == 40 * 49
    touching = np.arange(1, 41, dtype=np.uint8).reshape(5, 8).repeat(9, 0).repeat(8, 1)
    touching[0] = 0
    assert as_masks([touching])[0].sum() == touching.size - touching.shape[1]


def test_masked_values_are_refused():
    values = np.ma.masked_array(grey(), mask=disc(radius=4))
    for route in ([values], np.ma.stack([values, values])):
        with pytest.raises(ValueError, match=r"masked array .* masks\.filled\(0\)"):
            as_masks(route)
    assert as_masks([np.ma.masked_array(grey())])[0].sum() == disc().sum()


def test_what_has_no_order_or_no_second_pass_is_refused_by_its_type():
    paths = {"a.png": 0, "b.png": 0}
    for form in (set(paths), paths, paths.keys(), iter(paths), map(str, paths), io.BytesIO(b"x")):
        with pytest.raises(ValueError, match=f"got {type(form).__name__} .* make a list"):
            as_masks(form)
    assert as_masks(deque(paths)).paths == list(paths)


class TestDoubts:
    def test_lesion_in_every_pixel_warns_once_for_all_arrays(self):
        full = np.full((H, W), 255, np.uint8)
        for route in (np.stack([grey(), full, full]), [grey(), full, [grey(), full]]):
            match = r"masks\[1\] is lesion in every pixel; .* \(2 of 3 masks look odd"
            with pytest.warns(UserWarning, match=match) as caught:
                masks = as_masks(route, as_images(np.zeros((3, H, W))))
            assert len(caught) == 1
            assert masks[1].all()

    def test_inverted_masks_warn(self):
        with pytest.warns(UserWarning, match=r"masks\[0\] is lesion along the whole border but"):
            masks = as_masks([grey(~disc())], as_images(np.zeros((1, H, W))))
        np.testing.assert_array_equal(masks[0], ~disc())

    def test_bool_masks_and_masks_without_images_are_not_questioned(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            as_masks(np.ones((2, H, W), bool), as_images(np.zeros((2, H, W))))
            as_masks([~disc()], as_images(np.zeros((1, H, W))))
            as_masks([grey(~disc()), np.ones((H, W))])  # predictions are what they are

    @pytest.mark.parametrize("mode", ["1", "L", "RGB"])
    def test_files_warn_with_their_name(self, mode, tmp_path):
        file = tmp_path / "full.png"
        Image.new(mode, (W, H), "white").save(file)
        with pytest.warns(UserWarning, match=r"mask: '.*full\.png' is lesion in every pixel"):
            assert read_mask(file).all()


def saved(tmp_path, picture, name="mask.png", **how):
    file = tmp_path / name
    picture.save(file, **how)
    return file


def palette(numbers, colours):
    picture = Image.fromarray(numbers.astype(np.uint8), "P")
    picture.putpalette([value for colour in colours for value in colour])
    return picture


BLACK, WHITE, GREEN, PURPLE = (0, 0, 0), (255, 255, 255), (0, 128, 0), (68, 1, 84)


class TestPalettes:
    def test_colours_that_agree_with_numbers_are_read(self, tmp_path):
        numbers = disc() + disc(radius=5)
        file = saved(tmp_path, palette(numbers, [BLACK, GREEN, WHITE]))
        np.testing.assert_array_equal(read_mask(file), disc())

    def test_colours_count_where_numbers_say_the_opposite_but_not_in_silence(self, tmp_path):
        for lesion, how in ((~disc(), {}), (~disc(), {"transparency": 0})):
            file = saved(tmp_path, palette(lesion, [WHITE, BLACK]), **how)
            with pytest.warns(UserWarning, match=r"mask\.png' is stored with a palette whose col"):
                np.testing.assert_array_equal(read_mask(file), disc())

    def test_the_advice_gives_the_numbers(self, tmp_path):
        file = saved(tmp_path, palette(disc(), [WHITE, BLACK]))
        with pytest.warns(UserWarning, match=r"Image\.fromarray\(np\.asarray\(Image\.open"):
            np.testing.assert_array_equal(read_mask(file), ~disc())
        with Image.open(file) as opened:
            Image.fromarray(np.asarray(opened)).save(file)
        np.testing.assert_array_equal(read_mask(file), disc())

    def test_a_background_that_is_not_black_is_refused(self, tmp_path):
        file = saved(tmp_path, palette(disc(), [PURPLE, WHITE]))
        with pytest.raises(ValueError, match=r"mask\.png' has no black pixel.*\(68, 1, 84\)"):
            read_mask(file)
        with Image.open(file) as opened:
            saved(tmp_path, opened.convert("RGB"), "colours.png")
        with pytest.raises(ValueError, match="has no zero|has no black"):
            read_mask(tmp_path / "colours.png")

    def test_a_background_alone_that_is_not_black_warns(self, tmp_path):
        file = saved(tmp_path, palette(disc() & False, [PURPLE, WHITE]))
        with pytest.warns(UserWarning, match="stored with a palette whose colours say another"):
            assert read_mask(file).all()

    def test_a_missing_or_short_palette_is_refused(self, tmp_path):
        picture = palette(disc() * 2, [BLACK, GREEN, WHITE])
        data = saved(tmp_path, picture).read_bytes()
        start = data.index(b"PLTE") - 4
        rest = start + int.from_bytes(data[start : start + 4], "big") + 12
        (tmp_path / "without.png").write_bytes(data[:start] + data[rest:])
        with pytest.raises(ValueError, match=r"without\.png' .* numbers up to 2, .* has 0 colours"):
            read_mask(tmp_path / "without.png")
        picture.putpalette([*BLACK, *GREEN])
        with pytest.raises(ValueError, match=r"masks\[0\] is a palette .* has 2 colours"):
            as_masks([picture])


class TestTransparency:
    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    @pytest.mark.parametrize("colour", ["black", "white"])
    def test_a_shape_that_alpha_alone_carries_is_refused(self, mode, colour, tmp_path):
        picture = Image.new(mode, (W, H), colour)
        picture.putalpha(Image.fromarray(grey()))
        file = saved(tmp_path, picture)
        with pytest.raises(ValueError, match=r"mask\.png' has one colour .*getchannel\('A'\)"):
            read_mask(file)
        with Image.open(file) as opened:
            alpha = saved(tmp_path, opened.convert("RGBA").getchannel("A"), "alpha.png")
        np.testing.assert_array_equal(read_mask(alpha), disc())

    @pytest.mark.parametrize("alpha", [255, 0, 128])
    def test_the_same_alpha_everywhere_does_not_count(self, alpha, tmp_path):
        picture = Image.fromarray(grey()).convert("RGBA")
        picture.putalpha(alpha)
        np.testing.assert_array_equal(read_mask(saved(tmp_path, picture)), disc())

    def test_alpha_that_repeats_the_shape_does_not_count(self, tmp_path):
        for alpha in (grey(), grey(~disc())):
            picture = Image.fromarray(grey()).convert("LA")
            picture.putalpha(Image.fromarray(alpha))
            np.testing.assert_array_equal(read_mask(saved(tmp_path, picture)), disc())

    def test_a_lesion_that_is_partly_transparent_is_refused(self, tmp_path):
        picture = Image.fromarray(grey(disc(radius=15))).convert("RGBA")
        picture.putalpha(Image.fromarray(grey(disc(radius=9))))
        file = saved(tmp_path, picture)
        with pytest.raises(ValueError, match="a lesion of which a part is transparent"):
            read_mask(file)
        black = Image.new("RGBA", picture.size, "black")
        seen = Image.alpha_composite(black, picture.convert("RGBA")).convert("L")
        np.testing.assert_array_equal(read_mask(saved(tmp_path, seen)), disc(radius=9))


class TestColours:
    def test_each_colour_is_checked_by_itself(self, tmp_path):
        left, right = disc(), disc()
        left[:, W // 2 :] = right[:, : W // 2] = False
        pixels = np.dstack([left * 1, right * 200, left * 0]).astype(np.uint8)
        file = saved(tmp_path, Image.fromarray(pixels))
        np.testing.assert_array_equal(read_mask(file), disc())
        pixels[..., 1] = resized(Image.Resampling.BOX, (W // 2, H // 2)).repeat(2, 0).repeat(2, 1)
        pixels[..., 1] |= speckle(3)
        with pytest.raises(ValueError, match="distinct values"):
            read_mask(saved(tmp_path, Image.fromarray(pixels)))

    def test_colours_that_cannot_be_converted_are_refused_with_the_name(self):
        with pytest.raises(ValueError, match=r"masks\[0\]: cannot be read as a mask \(.*La"):
            as_masks([Image.new("La", (W, H))])


LOSSY = [("JPEG", 75), ("JPEG", 20), ("WEBP", 75), ("WEBP", 20)]


class TestLossyFiles:
    @pytest.mark.parametrize(("format_", "quality"), LOSSY)
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_lesion_is_the_bright_half(self, format_, quality, mode, tmp_path):
        for mask in (disc(), disc(radius=3), disc(radius=20)):
            picture = Image.fromarray(grey(mask)).convert(mode)
            file = saved(tmp_path, picture, "mask", format=format_, quality=quality)
            read = read_mask(file)
            assert (read != mask).sum() <= 0.1 * mask.sum()

    @pytest.mark.parametrize(("format_", "quality"), LOSSY)
    def test_an_empty_mask_stays_empty(self, format_, quality, tmp_path):
        picture = Image.new("L", (W, H))
        file = saved(tmp_path, picture, "mask", format=format_, quality=quality)
        with warnings.catch_warnings():
            # WebP may leave 1, which cannot be told from lesions numbered 1.
            warnings.simplefilter("ignore" if format_ == "WEBP" else "error")
            assert not read_mask(file).any()

    @pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
    def test_the_number_1_for_lesion_is_not_lost_in_silence(self, format_, tmp_path):
        file = saved(tmp_path, Image.fromarray(grey(value=1)), "mask", format=format_, quality=80)
        with pytest.warns(UserWarning, match="nearly black .*save masks as PNG"):
            assert not read_mask(file).any()
        saved(tmp_path, Image.fromarray(grey(value=60)), "mask", format=format_, quality=80)
        with pytest.raises(ValueError, match=r"mask' is lossily compressed and dark, .* as PNG"):
            read_mask(file)

    @pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
    def test_a_picture_given_as_a_mask_is_refused(self, format_, tmp_path):
        for scan in (speckle(255), speckle(160), np.minimum(speckle(255), speckle(255)[::-1])):
            file = saved(tmp_path, Image.fromarray(scan), "scan", format=format_, quality=90)
            with pytest.raises(ValueError, match=r"scan' is lossily compressed and \d+% of its"):
                read_mask(file)

    def test_webp_without_loss_is_exact(self, tmp_path):
        file = saved(tmp_path, Image.fromarray(grey(value=1)), "mask.webp", lossless=True)
        np.testing.assert_array_equal(read_mask(file), disc())

    def test_opened_pictures_are_read_as_their_files_are(self, tmp_path):
        file = saved(tmp_path, Image.fromarray(grey()), "mask.jpg", quality=60)
        with Image.open(file) as opened:
            np.testing.assert_array_equal(as_masks([opened])[0], read_mask(file))


class TestFrames:
    def test_an_animation_is_refused(self, tmp_path):
        frames = [Image.fromarray(grey(disc(radius=r))) for r in (4, 8)]
        file = saved(tmp_path, frames[0], "mask.gif", save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match=r"mask\.gif' holds 2 frames"):
            read_mask(file)
        with Image.open(file) as opened:
            with pytest.raises(
                ValueError, match=r"masks\[0\] holds 2 frames, expected one picture"
            ):
                as_masks([opened])
            np.testing.assert_array_equal(as_masks([opened.copy()])[0], disc(radius=4))

    def test_opened_pictures_stand_upright(self):
        picture, buffer = Image.fromarray(grey(disc() & (np.arange(W) < W // 2))), io.BytesIO()
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(buffer, "PNG", exif=exif)
        with Image.open(buffer) as opened:
            mask = as_masks([opened])[0]
        np.testing.assert_array_equal(mask, np.rot90(disc() & (np.arange(W) < W // 2), -1))
