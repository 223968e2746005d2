"""DICOM files: seen as a viewer shows them, named by a path, refused with their name."""

import builtins
import importlib.util
import zlib

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hybridus import dicom_path, load_image_folder, load_segmentation_folder
from hybridus.cli import app
from hybridus.cli.data import read_folder
from hybridus.datasets.recognition import list_folder
from hybridus.inputs.dicom_paths import check_crop, is_dicom, split_reading
from hybridus.inputs.images import as_images, image_size, read_image

pydicom = pytest.importorskip("pydicom", reason="DICOM needs pydicom (the extra dicom)")

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian  # noqa: E402

PATIENT = "Mustermann^Erika"


def shipped(name):
    """Path of a file in pydicom's wheel; it would offer to download others."""
    return get_testdata_file(name, download=False)


def raw_values(name, dtype, shape):
    """Read stored values without pydicom's pixel code: bytes, type, shape."""
    return np.frombuffer(pydicom.dcmread(shipped(name)).PixelData, dtype)[: np.prod(shape)].reshape(
        shape
    )


def close(image, expected):
    np.testing.assert_allclose(image, expected, atol=1e-3)


@pytest.fixture
def write(tmp_path):
    """Write a grey DICOM file of 16 bits, or what `fields` change in it."""

    def write_file(pixels, name="scan.dcm", syntax=ExplicitVRLittleEndian, **fields):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        meta.TransferSyntaxUID = syntax
        data = FileDataset(str(tmp_path / name), {}, file_meta=meta, preamble=b"\0" * 128)
        pixels = np.asarray(pixels)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
        data.PatientName, data.PatientID = PATIENT, "4711"
        data.Rows, data.Columns = pixels.shape[:2]
        data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            data.PlanarConfiguration = 0
        data.BitsAllocated = 8 * pixels.itemsize
        data.BitsStored, data.HighBit = data.BitsAllocated, data.BitsAllocated - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        for key, value in fields.items():
            setattr(data, key, value)
        data.HighBit = data.BitsStored - 1
        data.PixelData = pixels.tobytes()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(path, enforce_file_format=True)
        return path

    return write_file


def region(x0, y0, x1, y1, spatial=1, kind=1):
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial, kind
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    return item


def lut(descriptor, values):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = descriptor, np.asarray(values, "<u2").tobytes()
    return table


class TestFilesThatPydicomShips:
    def test_a_window_is_applied(self):
        stored = raw_values("MR_small.dcm", "<i2", (64, 64)).astype(float)
        expected = np.clip((stored - (600 - 0.5)) / (1600 - 1) + 0.5, 0, 1) * 255
        close(read_image(shipped("MR_small.dcm")), expected)

    @pytest.mark.parametrize(
        "name",
        ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "padded"],
    )
    @pytest.mark.filterwarnings("ignore:The pixel data length:UserWarning")
    def test_the_encoding_of_the_pixels_does_not_matter(self, name):
        expected = read_image(shipped("MR_small.dcm"))
        np.testing.assert_array_equal(read_image(shipped(f"MR_small_{name}.dcm")), expected)

    def test_a_value_range_takes_the_place_of_the_window_in_rescaled_units(self):
        stored = raw_values("CT_small.dcm", "<i2", (128, 128)).astype(float)
        hounsfield = stored * 1 - 1024
        image = read_image(shipped("CT_small.dcm"), value_range=(-160, 240))
        close(image, np.clip((hounsfield + 160) / 400, 0, 1) * 255)

    def test_a_ct_without_window_is_refused_and_not_shown_in_one_shade(self):
        with pytest.raises(ValueError, match=r"CT_small.dcm' has no window, and its values -896.*"):
            read_image(shipped("CT_small.dcm"))

    def test_rgb_and_its_encodings_are_the_same_colours(self):
        stored = raw_values("examples_rgb_color.dcm", "u1", (240, 320, 3))
        np.testing.assert_array_equal(read_image(shipped("examples_rgb_color.dcm")), stored)

    def test_ybr_becomes_rgb(self):
        image = read_image(shipped("SC_ybr_full_422_uncompressed.dcm"))
        y, b, r = (float(v) for v in (76, 85, 255))  # the first pixel: red
        expected = [y + 1.402 * (r - 128), y - 0.344 * (b - 128) - 0.714 * (r - 128)]
        expected.append(y + 1.772 * (b - 128))
        assert image.shape == (100, 100, 3)
        np.testing.assert_allclose(image[0, 0], np.clip(expected, 0, 255), atol=1.5)

    def test_palettes_are_looked_up(self):
        data = pydicom.dcmread(shipped("examples_palette.dcm"))
        stored = raw_values("examples_palette.dcm", "u1", (350, 800))
        table = np.stack(
            [
                np.frombuffer(data[f"{colour}PaletteColorLookupTableData"].value, "<u2")
                for colour in ("Red", "Green", "Blue")
            ],
            axis=-1,
        )
        image = read_image(shipped("examples_palette.dcm"))
        np.testing.assert_array_equal(image, table[stored] >> 8)

    @pytest.mark.parametrize(("frame", "place"), [(1, 0), (30, 29), ("first", 0), ("middle", 14)])
    def test_one_frame_of_a_cine_loop_is_named_by_its_path(self, frame, place):
        path = shipped("examples_ybr_color.dcm")
        image = read_image(dicom_path(path, frame=frame))
        expected = pydicom.pixels.pixel_array(path, index=place)
        np.testing.assert_array_equal(image, expected)

    def test_a_cine_loop_without_a_frame_is_refused_with_the_way_out(self):
        with pytest.raises(ValueError, match=r"holds 30 frames.*hybridus.dicom_path\(path, frame"):
            read_image(shipped("examples_ybr_color.dcm"))
        with pytest.raises(ValueError, match=r"has no frame 31: it holds 30"):
            read_image(dicom_path(shipped("examples_ybr_color.dcm"), frame=31))

    @pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")
    def test_deflated_files_are_read(self):
        stored = np.asarray(pydicom.dcmread(shipped("image_dfl.dcm")).pixel_array)
        image = read_image(shipped("image_dfl.dcm"))
        np.testing.assert_array_equal(image, stored)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("MR_truncated", r"MR_truncated.dcm' has pixels that cannot be decoded"),
            ("MR_small_jpeg_ls_lossless", r"'JPEG-LS Lossless.*pip install 'pyjpegls'"),
            ("SC_rgb_jpeg_gdcm", r"'JPEG Lossless.*pip install 'pylibjpeg\[libjpeg\]'"),
            ("JPEG-lossy", r"12-bit.*if the file is sound, pip install 'pylibjpeg\[libjpeg\]'"),
            ("rtplan", r"holds no picture: it is DICOM of the kind 'RT Plan Storage'"),
            ("test-SR", r"holds no picture: it is DICOM of the kind 'Comprehensive SR Storage'"),
            ("no_meta", r"lacks the mark DICM that DICOM files have at byte 128"),
            ("badVR", r"badVR.dcm' cannot be decoded as a DICOM image"),
            ("rtdose_1frame", r"has no window, and its values .* 32 bits can say"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
    def test_what_cannot_be_shown_is_refused_with_its_name(self, name, message):
        if "pyjpegls" in message and importlib.util.find_spec("jpeg_ls"):
            pytest.skip("pyjpegls is installed")
        if "libjpeg" in message and importlib.util.find_spec("libjpeg"):
            pytest.skip("pylibjpeg is installed")
        with pytest.raises(ValueError, match=r"^images\[0\]: '.*" + message):
            as_images([shipped(f"{name}.dcm")])[0]


class TestValues:
    def test_twelve_bits_in_sixteen_are_full_scale(self, write):
        path = write(np.array([[0, 1365], [2730, 4095]], "uint16"), BitsStored=12)
        assert read_image(path).tolist() == [[0, 85], [170, 255]]

    def test_signed_values_are_black_at_the_lowest_that_the_bits_can_say(self, write):
        path = write(np.array([[-2048, 2047]], "int16"), BitsStored=12)
        assert read_image(path).tolist() == [[0, 255]]

    def test_the_data_are_never_stretched_to_their_own_extremes(self, write):
        path = write(np.array([[1000, 3000]], "uint16"), BitsStored=12)
        close(read_image(path), np.array([[1000, 3000]]) / 4095 * 255)

    def test_monochrome1_is_white_at_zero(self, write):
        path = write(np.array([[0, 55, 255]], "uint8"), PhotometricInterpretation="MONOCHROME1")
        assert read_image(path).tolist() == [[255, 200, 0]]

    def test_the_first_of_several_windows_counts(self, write):
        path = write(
            np.array([[0, 1000, 1500, 2000, 4000]], "uint16"),
            WindowCenter=[1500.5, 10],
            WindowWidth=[1001, 20],
        )
        close(read_image(path), [[0, 0, 127.5, 255, 255]])

    @pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
    def test_the_function_of_the_window_counts(self, write, function):
        values = np.array([[400, 500, 550]], "uint16")
        path = write(values, WindowCenter=500, WindowWidth=200, VOILUTFunction=function)
        expected = {
            "LINEAR_EXACT": (values - 500.0) / 200 + 0.5,
            "SIGMOID": 1 / (1 + np.exp(-4 * (values - 500.0) / 200)),
        }
        close(read_image(path), expected[function] * 255)

    def test_rescaling_by_a_negative_slope_inverts(self, write):
        path = write(np.array([[0, 255]], "uint8"), RescaleSlope=-1, RescaleIntercept=100)
        assert read_image(path).tolist() == [[255, 0]]

    def test_a_lut_of_many_entries_and_eight_bits_does_not_wrap_round(self, write):
        table = lut([1024, 100, 8], np.arange(1024) // 4)
        path = write(np.array([[0, 100, 612, 1123, 4000]], "uint16"), VOILUTSequence=[table])
        assert read_image(path).tolist() == [[0, 0, 128, 255, 255]]

    def test_a_modality_lut_stands_before_the_window(self, write):
        table = lut([4, 0, 16], [0, 1000, 2000, 3000])
        path = write(
            np.array([[0, 1, 2, 3, 9]], "uint16"),
            ModalityLUTSequence=[table],
            WindowCenter=1500.5,
            WindowWidth=3001,
        )
        close(read_image(path), [[0, 85, 170, 255, 255]])

    def test_padding_is_black_and_does_not_hide_that_a_window_is_lacking(self, write):
        values = np.array([[-2000, 0, 400]], "int16")
        path = write(values, PixelPaddingValue=-2000)
        assert read_image(path, value_range=(-100, 400)).tolist() == [[0, 51, 255]]
        wide = write(np.array([[-32768, 30000, 30400]], "int16"), PixelPaddingValue=-32768)
        with pytest.raises(ValueError, match="has no window, and its values 30000..30400"):
            read_image(wide)

    def test_windows_of_frames_in_enhanced_files_count(self, write):
        groups = []
        for center in (100.5, 200.5):
            lut, group = Dataset(), Dataset()
            lut.WindowCenter, lut.WindowWidth = center, 201
            group.FrameVOILUTSequence = [lut]
            groups.append(group)
        path = write(
            np.array([[0, 200], [0, 200]], "uint16"),
            Rows=1,
            NumberOfFrames=2,
            PerFrameFunctionalGroupsSequence=groups,
        )
        assert read_image(dicom_path(path, frame=1)).tolist() == [[0, 255]]
        close(read_image(dicom_path(path, frame=2)), [[0, 127.5]])

    def test_planes_of_colour_are_put_together(self, write):
        planes = np.arange(18, dtype="uint8").reshape(3, 2, 3)  # colour, row, column
        path = write(np.moveaxis(planes, 0, -1), PlanarConfiguration=1)
        data = pydicom.dcmread(path)
        data.PixelData = planes.tobytes()
        data.save_as(path)
        np.testing.assert_array_equal(read_image(path), np.moveaxis(planes, 0, -1))

    def test_a_value_range_that_the_bits_cannot_hold_is_refused(self, write):
        path = write(np.array([[0, 255]], "uint8"))
        with pytest.raises(
            ValueError, match=r"values within 0..255, and not value_range=\(0.0, 40"
        ):
            read_image(path, value_range=(0, 4095))

    def test_samples_that_the_colours_do_not_have_are_refused(self, write):
        path = write(np.zeros((4, 4), np.uint8), PhotometricInterpretation="RGB")
        with pytest.raises(ValueError, match="has 1 samples a pixel, which RGB has not"):
            read_image(path)


class TestUltrasound:
    def test_the_largest_region_of_tissue_is_kept(self, write):
        pixels = np.arange(80, dtype="uint8").reshape(8, 10)
        boxes = [region(0, 0, 9, 7, spatial=3), region(2, 1, 8, 5), region(0, 0, 1, 1)]
        path = write(pixels, SequenceOfUltrasoundRegions=[*boxes, region(0, 0, 9, 7, kind=4)])
        cropped = dicom_path(path, crop="ultrasound")
        np.testing.assert_array_equal(read_image(cropped), pixels[1:6, 2:9])
        assert image_size(cropped) == (5, 7)
        assert as_images([path, cropped])[0].shape == (8, 10)

    @pytest.mark.parametrize("boxes", [[], [region(3, 3, 2, 2)], [region(0, 0, 3, 3, spatial=3)]])
    def test_a_file_that_tells_no_region_is_refused(self, write, boxes):
        path = write(np.zeros((4, 4), "uint8"), SequenceOfUltrasoundRegions=boxes)
        with pytest.raises(ValueError, match="tells of no two-dimensional ultrasound region"):
            read_image(dicom_path(path, crop="ultrasound"))

    def test_burnt_in_text_is_told_unless_it_is_cut_off(self, write):
        fields = {
            "BurnedInAnnotation": "YES",
            "SequenceOfUltrasoundRegions": [region(0, 0, 1, 1)],
        }
        path = write(np.eye(4, dtype="uint8"), **fields)
        with pytest.warns(UserWarning, match="BurnedInAnnotation is YES"):
            read_image(path)
        assert read_image(dicom_path(path, crop="ultrasound")).shape == (2, 2)

    def test_pixels_that_are_not_square_are_told(self, write):
        path = write(np.eye(4, dtype="uint8"), PixelAspectRatio=[2, 1])
        with pytest.warns(UserWarning, match="not square"):
            assert read_image(path).shape == (4, 4)


class TestFolders:
    def test_class_folders_of_dicom_files_with_and_without_suffix(self, write, tmp_path):
        for k, name in enumerate(["a/1.dcm", "a/IM000002", "b/1.2.840.7", "b/DICOMDIR"]):
            write(np.full((4, 4), 60 * k, "uint8"), name)
        (tmp_path / "a" / "notes").write_text("no image")
        data = load_image_folder(tmp_path)
        assert data.filenames == ["a/1.dcm", "a/IM000002", "b/1.2.840.7"]
        assert [image.max() for image in as_images(data.images)] == [0, 60, 120]

    def test_loops_and_regions_are_asked_for_once_for_all_files(self, write, tmp_path):
        stack = np.repeat(np.arange(3, dtype="uint8"), 16).reshape(12, 4)
        fields = {
            "Rows": 4,
            "NumberOfFrames": 3,
            "SequenceOfUltrasoundRegions": [region(1, 1, 2, 3)],
        }
        write(stack, "a/1.dcm", **fields)
        write(stack + np.uint8(9), "b/1.dcm", **fields)
        data = load_image_folder(tmp_path, frame="middle", crop="ultrasound")
        images = as_images(data.images)
        assert [(image.shape, image.max()) for image in images] == [((3, 2), 1), ((3, 2), 10)]
        assert images.stamps[0] != as_images(load_image_folder(tmp_path, frame=1).images).stamps[0]
        assert None not in images.stamps

    def test_masks_are_cropped_with_their_images(self, write, tmp_path):
        write(
            np.ones((4, 6), "uint8"),
            "scans/1.dcm",
            SequenceOfUltrasoundRegions=[region(2, 0, 5, 2)],
        )
        mask = np.zeros((4, 6), "uint8")
        mask[1, 3:5] = 255
        (tmp_path / "masks").mkdir()
        Image.fromarray(mask).save(tmp_path / "masks" / "1.png")
        data = load_segmentation_folder(tmp_path / "scans", tmp_path / "masks", crop="ultrasound")
        np.testing.assert_array_equal(data.masks[0], mask[0:3, 2:6] > 0)
        assert as_images(data.images)[0].shape == (3, 4)

    def test_the_command_asks_for_a_frame_and_a_region_of_all_files(self, write, tmp_path):
        stack = np.random.default_rng(0).integers(0, 255, (12, 40, 40), "uint8")
        boxes = [region(4, 4, 35, 35)]
        for k, name in enumerate("ab"):
            for copy in range(3):
                loop = stack[3 * copy : 3 * copy + 3].reshape(120, 40) // (1 + k)
                fields = {"Rows": 40, "NumberOfFrames": 3, "SequenceOfUltrasoundRegions": boxes}
                write(loop, f"{name}/{copy}.dcm", **fields)
        scans = read_folder(tmp_path, None, None, None, frame="2", crop="ultrasound")
        np.testing.assert_array_equal(read_image(scans.images[0]), stack[1, 4:36, 4:36])
        given = ["audit", str(tmp_path), "--no-labels", "--out", str(tmp_path / ".out"), "--frame"]
        told = CliRunner().invoke(app, [*given, "middle"])
        assert told.exit_code == 0, told.output
        assert "unreadable" not in told.output
        wrong = CliRunner().invoke(app, [*given, "last"])
        assert wrong.exit_code == 2
        assert "frame='last': expected a number from 1, 'first' or 'middle'" in wrong.stderr

    def test_an_audit_looks_at_whole_images_where_there_are_masks(self, tmp_path):
        for name in ("1.png", "1_mask.png"):
            Image.new("L", (4, 4)).save(tmp_path / name)
        with pytest.raises(ValueError, match="masks in .* belong to whole images"):
            list_folder(tmp_path, crop="ultrasound")

    def test_a_mixed_folder_says_what_is_taken_whole(self, write, tmp_path):
        write(np.ones((4, 4), "uint8"), "a/1.dcm", SequenceOfUltrasoundRegions=[region(0, 0, 1, 1)])
        (tmp_path / "b").mkdir()
        Image.new("L", (4, 4)).save(tmp_path / "b" / "1.png")
        with pytest.warns(UserWarning, match="1 of 2 images are none and are taken whole"):
            data = load_image_folder(tmp_path, crop="ultrasound")
        assert [image.shape for image in as_images(data.images)] == [(2, 2), (4, 4)]
        (tmp_path / "a" / "1.dcm").unlink()
        Image.new("L", (4, 4)).save(tmp_path / "a" / "1.png")
        with pytest.raises(ValueError, match="none of 2 images is one"):
            load_image_folder(tmp_path, crop="ultrasound")


class TestPaths:
    @pytest.mark.parametrize("frame", [0, -1, 1.5, True, "last"])
    def test_impossible_frames_are_refused(self, frame):
        with pytest.raises(ValueError, match="expected a number from 1, 'first' or 'middle'"):
            dicom_path("cine.dcm", frame=frame)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("frame=0", "frame=0 is none; expected 1, 2"),
            ("crop=tissue", "crop=tissue is unknown; expected crop=ultrasound"),
        ],
    )
    def test_options_that_mean_nothing_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            split_reading(f"scan.dcm#{options}")

    def test_a_region_has_one_name(self):
        check_crop("ultrasound")
        with pytest.raises(ValueError, match="crop='tissue': expected None or 'ultrasound'"):
            check_crop("tissue")

    def test_a_path_is_taken_apart_as_it_was_made(self):
        path = dicom_path(dicom_path("a#b.dcm", frame=2), crop="ultrasound")
        assert split_reading(path) == ("a#b.dcm", 2, "ultrasound")
        assert split_reading("scan#2.dcm") == ("scan#2.dcm", None, None)

    def test_a_file_of_such_a_name_is_that_file(self, tmp_path):
        path = tmp_path / "scan.png#frame=2"
        Image.new("L", (3, 2), 7).save(path, format="png")
        assert read_image(path).shape == (2, 3)

    def test_options_of_files_that_are_no_dicom_are_refused(self, tmp_path):
        Image.new("L", (3, 2)).save(tmp_path / "scan.png")
        with pytest.raises(ValueError, match="is no DICOM file, of which alone 'frame=2'"):
            read_image(dicom_path(tmp_path / "scan.png", frame=2))
        with pytest.raises(ValueError, match="does not exist"):
            read_image(dicom_path(tmp_path / "absent.dcm", frame=2))


class TestSafety:
    def test_no_field_of_the_patient_is_read(self, write, monkeypatch):
        path = write(np.eye(4, dtype="uint8"))
        asked = []
        read = pydicom.dcmread
        monkeypatch.setattr(
            pydicom, "dcmread", lambda *args, **how: asked.append(read(*args, **how)) or asked[-1]
        )
        read_image(path)
        assert len(asked) == 1
        assert PATIENT not in str(asked[0])
        assert "4711" not in str(asked[0])

    def test_without_pydicom_the_error_says_what_to_install(self, write, monkeypatch):
        path = write(np.eye(4, dtype="uint8"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        imported = builtins.__import__

        def refuse(name, *rest):
            assert not name.startswith("pydicom")
            return imported(name, *rest)

        monkeypatch.setattr(builtins, "__import__", refuse)
        with pytest.raises(ImportError, match=r"scan.dcm' is a DICOM.*install 'hybridus\[dicom\]'"):
            as_images([path])[0]

    def test_a_dicom_file_is_known_by_its_bytes_alone(self, write, tmp_path):
        path = write(np.eye(4, dtype="uint8"))
        renamed = path.rename(tmp_path / "scan.png")
        assert is_dicom(renamed)
        assert read_image(renamed).shape == (4, 4)
        (tmp_path / "text.dcm").write_text("no DICOM")
        with pytest.raises(ValueError, match="lacks the mark DICM"):
            read_image(tmp_path / "text.dcm")

    def test_a_size_that_no_memory_holds_is_refused_before_decoding(self, write):
        path = write(np.eye(4, dtype="uint8"), Rows=65535, Columns=65535)
        with pytest.raises(ValueError, match=r"claims 65535 x 65535 pixels, more than 89,478,485"):
            read_image(path)

    def test_a_small_file_that_inflates_without_end_is_refused(self, write, monkeypatch):
        from hybridus.inputs import dicom

        path = write(np.eye(4, dtype="uint8"), syntax="1.2.840.10008.1.2.1.99")
        start = path.read_bytes()
        head = start[: start.index(b"1.2.840.10008.1.2.1.99") + 22]
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        path.write_bytes(head + packer.compress(bytes(2**22)) + packer.flush())
        monkeypatch.setattr(dicom, "_MOST_INFLATED", 2**21)
        with pytest.raises(ValueError, match=r"scan.dcm' is deflated and unpacks to more than"):
            read_image(path)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_damage_anywhere_raises_errors_that_name_the_file(self, write):
        path = write(
            np.arange(64, dtype="uint8").reshape(8, 8),
            WindowCenter=30,
            WindowWidth=50,
            SequenceOfUltrasoundRegions=[region(0, 0, 4, 4)],
        )
        whole, rng = path.read_bytes(), np.random.default_rng(0)
        refused = []
        for _ in range(150):
            damaged = bytearray(whole)
            for place in rng.integers(132, len(whole), 4):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged[: rng.integers(140, len(whole) + 1)])
            try:
                image = read_image(path)
            except ValueError as error:
                refused.append(str(error))
            else:
                assert image.dtype in (np.uint8, np.float32)
                assert np.isfinite(image).all()
        assert len(refused) > 50
        assert all(error.startswith(f"image: {str(path)!r}") for error in refused)


class TestWhatIsKnownOfFiles:
    def test_two_frames_of_one_file_are_two_samples_and_a_changed_file_another(self, write):
        from hybridus.protocol.digests import digest_of_data

        def digest(*paths):
            return digest_of_data(list(paths), [0] * len(paths), None, classes=True)

        stack = np.arange(32, dtype="uint8").reshape(8, 4)
        path = write(stack, Rows=4, NumberOfFrames=2)
        first, second = (dicom_path(path, frame=k) for k in (1, 2))
        before = digest(first)
        assert before != digest(second)
        assert before == digest(dicom_path(path, frame=1))
        write(stack + np.uint8(1), Rows=4, NumberOfFrames=2)
        assert before != digest(first)

    def test_an_audit_takes_frames_and_regions(self, write):
        from hybridus.protocol.auditing.looks import look_at

        boxes = [region(0, 0, 15, 11)]
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        path = write(pixels, SequenceOfUltrasoundRegions=boxes)
        (look,) = look_at(as_images([dicom_path(path, crop="ultrasound")]))
        assert look.shape == (12, 16)
        assert look.traits["file"]["bytes"] == path.stat().st_size


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"RescaleSlope": 0, "RescaleIntercept": 5}, "has RescaleSlope 0"),
            (
                {"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
                "has VOILUTFunction 'CUBIC'",
            ),
            ({"WindowCenter": 5, "WindowWidth": 0}, "of center 5 and width 0, which shows nothing"),
        ],
    )
    def test_settings_that_show_nothing_are_refused(self, write, fields, message):
        path = write(np.array([[0, 9]], "uint16"), **fields)
        with pytest.raises(ValueError, match=message):
            read_image(path)

    def test_the_narrowest_window_is_a_step(self, write):
        path = write(np.array([[499, 500, 501]], "uint16"), WindowCenter=500.5, WindowWidth=1)
        assert read_image(path).tolist() == [[0, 0, 255]]

    def test_colours_on_a_scale_that_was_declared(self, write):
        pixels = np.zeros((2, 2, 3), "uint8")
        pixels[0, 0] = 100
        path = write(
            pixels, PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0
        )
        assert read_image(path, value_range=(0, 100)).max() == 255
        with pytest.raises(ValueError, match="value"):
            read_image(path, value_range=(0, 50))
