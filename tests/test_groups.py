"""Tables of groups: one patient is one group however it is written, and nobody is left without."""

import unicodedata
import warnings

import numpy as np
import pytest

from hybridus.datasets import load_busi, read_groups
from hybridus.datasets.groups import describe_groups

FILES = ["a/1.png", "a/2.png", "b/3.png", "b/4.png"]


def table(tmp_path, groups, files=FILES, header="filename,group", separator=","):
    file = tmp_path / "groups of images.csv"
    rows = [separator.join(pair) for pair in zip(files, groups, strict=True)]
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def test_groups_are_found_by_path_or_by_a_base_name_that_no_other_image_has(tmp_path):
    file = table(tmp_path, ["x", "y", "y", "z"], ["a\\1.png", "./a/2.png", "3.png", "b//4.png"])
    groups = read_groups(str(file), np.array(FILES, dtype=object))
    assert groups.dtype == object
    assert groups.tolist() == ["x", "y", "y", "z"]


def test_order_and_other_rows_of_the_table_do_not_matter(tmp_path):
    file = table(tmp_path, ["z", "y", "x", "w", "v"], [*reversed(FILES), "c/5.png"])
    assert read_groups(file, FILES).tolist() == ["w", "x", "y", "z"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("P7", "p7"), ("970", "970.0"), ("970.", "0970"), ("Ann  Lee", "ann lee"), ("-3", "-3.00")],
)
def test_spellings_of_one_group_are_read_as_one_with_a_warning(one, other, tmp_path):
    file = table(tmp_path, [one, other, "b", other])
    with pytest.warns(UserWarning, match=rf"1 group.*\(first: '{one}' and '{other}'\)"):
        assert read_groups(file, FILES).tolist() == [one, one, "b", one]


@pytest.mark.parametrize("other", [" pa é0", "pa é0\t", unicodedata.normalize("NFD", "pa é0")])
def test_white_space_and_decomposed_accents_do_not_count(other, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = read_groups(table(tmp_path, ["pa é0", other, "b", "b"]), FILES)
    assert groups.tolist() == ["pa é0", "pa é0", "b", "b"]


def test_groups_that_differ_stay_apart(tmp_path):
    written = ["1", "10", "1.5", "1-0"]
    assert read_groups(table(tmp_path, written), FILES).tolist() == written


@pytest.mark.parametrize("missing", ["", "  ", "nan", " NaN ", "NA", "None", "null", "#N/A"])
def test_no_group_is_refused_in_all_its_spellings(missing, tmp_path):
    with pytest.raises(ValueError, match=r"groups of images\.csv: 'b/3\.png' has no group"):
        read_groups(table(tmp_path, ["x", "y", missing, missing]), FILES)


def test_names_with_decomposed_accents_are_found_either_way(tmp_path):
    names = ["Müller/1.png", "Zoë/2.png"]
    decomposed = [unicodedata.normalize("NFD", name) for name in names]
    for written, on_disk in ((names, decomposed), (decomposed, names)):
        assert read_groups(table(tmp_path, "xy", written), on_disk).tolist() == ["x", "y"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_read(separator, tmp_path):
    file = table(tmp_path, ["x", "x", "y,1", "y,2"], separator=separator)
    file.write_text(file.read_text().replace("filename,group", f"filename{separator} group"))
    assert read_groups(file, FILES).tolist() == ["x", "x", "y,1", "y,2"]


def test_byte_order_mark_quotes_and_empty_last_rows_are_read(tmp_path):
    file = tmp_path / "groups.csv"
    text = 'note,filename,group\r\n"two\nlines","a, b/1.png",x\r\n,2.png,y\r\n,,\r\n\r\n'
    file.write_text(text, encoding="utf-8-sig", newline="")
    assert read_groups(file, ["a, b/1.png", "2.png"]).tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("filename,group\nMüller.png,x\n".encode("latin-1"), r"line 2 holds the byte 0xfc"),
        ("filename,group\na.png,x\n".encode("utf-16"), "UTF-16 or no text at all"),
        ("filename,group\na.png,x\n".encode("utf-16-le"), "UTF-16 or no text at all"),
        (b"PK\x03\x04\x80", "a spreadsheet"),
        (b"", r"expected columns filename and group, found \[\]"),
        (b"file,group\na.png,x\n", r"found \['file', 'group'\]"),
        (b"filename,group,group\na.png,x,y\n", "each must stand there once"),
        (b"filename,group\na.png,x,y\n", r"line 2 has 3 cells, expected 2 as in the header"),
        (b"filename,group\na.png\n", r"line 2 has 1 cells"),
        (b'filename,group\n"a.png,x\n', "cannot be read as a CSV table"),
        (b"filename,group\n,x\n", "group 'x' has no filename"),
        (b"filename,group\na.png,x\n./a.png,y\n", r"'a\.png' stands in groups 'x' and 'y'"),
        (b"filename,group\nb.png,x\n", r"1 of 1 images have no group, first 'a\.png'"),
        (b"filename,group\nc/a.png,x\nd/a.png,x\n", r"1 of 1 images have no group"),
    ],
)
def test_a_table_that_leaves_a_doubt_is_refused_with_its_name(content, message, tmp_path):
    file = tmp_path / "groups.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"groups\.csv: .*{message}"):
        read_groups(file, ["a.png"])


def test_the_way_out_of_another_encoding_works(tmp_path):
    pd = pytest.importorskip("pandas")
    file, new = tmp_path / "latin.csv", tmp_path / "utf8.csv"
    file.write_bytes("filename,group\nMüller.png,x\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"pandas\.read_csv\(file, encoding='latin-1'\)"):
        read_groups(file, ["Müller.png"])
    pd.read_csv(file, encoding="latin-1").to_csv(new, index=False)
    assert read_groups(new, ["Müller.png"]).tolist() == ["x"]


def test_an_absent_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file; expected a CSV table"):
        read_groups(tmp_path / "none.csv", FILES)


def test_groups_are_described_by_number_and_size():
    text = "2 groups of 4 images (1 to 3 in each, 1 of them alone)"
    assert describe_groups(np.array(["a", "b", "a", "a"])) == text


def test_the_groups_of_the_real_scans_survive_a_round_trip(busi_folder, busi_curation, tmp_path):
    busi = load_busi(busi_folder, curation=busi_curation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = read_groups(table(tmp_path, busi.groups, busi.filenames), busi.filenames)
    assert groups.tolist() == busi.groups.tolist()
    assert "587 groups of 780 images" in busi.DESCR
