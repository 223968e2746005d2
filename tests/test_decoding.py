"""Picture files: what is wrong with one is said with its name, and every picture stands upright."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from hybridus.inputs.decoding import as_seen, decode, decoded_size
from hybridus.inputs.images import as_images, read_image

ORIENTATION = 0x0112
TURNS = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.fixture(scope="module")
def scan():
    return np.random.default_rng(3).integers(0, 256, (12, 17), dtype=np.uint8)


def turned(path, pixels, orientation, **how):
    picture = Image.fromarray(pixels)
    if path.suffix == ".tif":
        picture.save(path, tiffinfo={ORIENTATION: orientation}, **how)
    else:
        exif = picture.getexif()
        exif[ORIENTATION] = orientation
        picture.save(path, exif=exif, **how)
    return path


class TestOrientation:
    @pytest.mark.parametrize("orientation", list(TURNS))
    @pytest.mark.parametrize("how", [{}, {"compression": "tiff_lzw"}])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_tiff_files_are_turned_once_and_whole(self, tmp_path, scan, orientation, how, dtype):
        pixels = scan.astype(dtype) * dtype(257 if dtype is np.uint16 else 1)
        path = turned(tmp_path / "scan.tif", pixels, orientation, **how)
        expected = TURNS[orientation](scan)
        np.testing.assert_array_equal(read_image(path), expected)
        assert decoded_size(path, name="image") == expected.shape
        with Image.open(path) as opened:
            np.testing.assert_array_equal(as_images([opened])[0], expected)
            assert opened.filename == str(path)

    @pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
    def test_sizes_are_those_of_the_upright_picture(self, tmp_path, scan, suffix):
        for orientation in (1, 3, 6):
            path = turned(tmp_path / f"{orientation}{suffix}", scan, orientation)
            picture = decode(path, name="image").picture
            assert decoded_size(path, name="image") == picture.size[::-1]
            assert picture.size[::-1] == ((17, 12) if orientation == 6 else (12, 17))

    def test_an_orientation_behind_the_pixels_of_a_png_is_found(self, tmp_path, scan):
        path = turned(tmp_path / "scan.png", scan, 6)
        data = path.read_bytes()
        start = data.index(b"eXIf") - 4
        length = int.from_bytes(data[start : start + 4], "big") + 12
        moved = data[:start] + data[start + length : -12] + data[start : start + length]
        path.write_bytes(moved + data[-12:])
        assert decoded_size(path, name="image") == (17, 12)
        np.testing.assert_array_equal(read_image(path), TURNS[6](scan))

    def test_opened_pictures_are_turned_as_their_files_are(self, tmp_path, scan):
        path = turned(tmp_path / "scan.png", scan, 6)
        with Image.open(path) as opened:
            np.testing.assert_array_equal(as_images([opened])[0], read_image(path))
            once = as_seen(opened, name="image").picture
            again = as_seen(once, name="image").picture
            np.testing.assert_array_equal(np.asarray(again), TURNS[6](scan))


def test_white_at_zero_is_inverted_in_16_bit_as_in_8_bit(tmp_path, scan):
    deep = scan.astype(np.uint16) * 257
    path = tmp_path / "inverted.tif"
    # Pillow inverts 8-bit pixels when it writes them, but not those of 16 bits.
    for stored in (scan, 65535 - deep):
        Image.fromarray(stored).save(path, tiffinfo={262: 0})
        with Image.open(path) as file:
            assert file.tag_v2[262] == 0
        np.testing.assert_array_equal(read_image(path), scan)


def test_floats_of_which_zero_is_white_are_refused(tmp_path, scan):
    path = tmp_path / "inverted.tif"
    Image.fromarray((scan / 255).astype(np.float32)).save(path, tiffinfo={262: 0})
    with pytest.raises(ValueError, match=r"inverted.tif' .*floats of which 0 is white; save them"):
        read_image(path)


def png(width, height, *chunks):
    """A PNG file of which only the header and the chunks given are real."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"
    parts = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class TestWrongFiles:
    def test_each_is_named_with_what_is_wrong(self, tmp_path, scan):
        good = tmp_path / "good.png"
        Image.fromarray(scan).save(good)
        data = good.read_bytes()
        files = {
            "text.png": (b"not a picture", "no picture that Pillow knows"),
            "empty.png": (b"", "no picture that Pillow knows"),
            "truncated.png": (data[:-60], "cannot be decoded as an image"),
            "bomb.png": (png(60_000, 60_000, (b"IDAT", b"")), r"is of more than 89,478,485 pixels"),
            "text bomb.png": (
                png(4, 4, (b"zTXt", b"note\0\0" + zlib.compress(bytes(3_000_000)))),
                "Decompressed data too large",
            ),
        }
        for name, (content, message) in files.items():
            (tmp_path / name).write_bytes(content)
            for read in (decode, decoded_size):
                if read is decoded_size and name == "truncated.png":
                    continue  # the header is whole
                with pytest.raises(ValueError, match=rf"images\[4\]: '.*{name}' .*{message}"):
                    read(tmp_path / name, name="images[4]")

    def test_absent_files_folders_and_impossible_names(self, tmp_path):
        for path, message in (
            (tmp_path / "absent.png", "does not exist"),
            (tmp_path, "is a folder, expected the file of an image; load_image_folder"),
            (str(tmp_path / "a\0b.png"), "cannot be decoded as an image .*null"),
        ):
            with pytest.raises(ValueError, match=message):
                decode(path, name="image")
        with pytest.raises(ValueError, match="is a folder, expected the file of a mask$"):
            decode(tmp_path, name="mask", kind="a mask")

    def test_whatever_a_decoder_raises_names_the_file(self, tmp_path, scan, monkeypatch):
        path = tmp_path / "odd.png"
        Image.fromarray(scan).save(path)
        for error in (KeyError("x"), AssertionError("y"), RuntimeError("z")):

            def fail(handle, error=error):
                raise error

            monkeypatch.setattr(Image, "open", fail)
            with pytest.raises(ValueError, match=r"image: '.*odd.png' cannot be decoded"):
                decode(path, name="image")

    @pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
    def test_several_frames_are_refused(self, tmp_path, scan, suffix):
        path = tmp_path / f"loop{suffix}"
        frames = [Image.fromarray(scan), Image.fromarray(255 - scan)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match="holds 2 frames, expected one picture"):
            decode(path, name="image")


def test_says_which_compression_changed_values(tmp_path, scan):
    lossy = {
        "a.jpg": {},
        "a.webp": {"lossless": False},
        "b.webp": {"lossless": True},
        "a.tif": {"compression": "jpeg"},
        "b.tif": {"compression": "tiff_lzw"},
        "a.png": {},
    }
    found = {}
    for name, how in lossy.items():
        Image.fromarray(scan).save(tmp_path / name, **how)
        found[name] = decode(tmp_path / name, name="image").lossy
    assert [name for name, is_lossy in found.items() if is_lossy] == ["a.jpg", "a.webp", "a.tif"]


def test_files_are_closed_again(tmp_path, scan):
    path = tmp_path / "scan.png"
    Image.fromarray(scan).save(path)
    picture = decode(path, name="image").picture
    path.unlink()
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    assert picture.size == (17, 12)
