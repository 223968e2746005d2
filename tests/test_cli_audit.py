"""`hybridus audit`: what is found is printed and written, and is no error."""

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from hybridus import make_breast_phantoms
from hybridus.cli import app
from hybridus.datasets import read_groups
from hybridus.datasets.recognition import list_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_trees")]


def run(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve scans in two classes, one of them in both, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("scans")
    images = make_breast_phantoms(12, image_size=96, random_state=4).images
    for i, image in enumerate(images):
        file = folder / ("odd" if i % 2 else "even") / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(file)
    Image.fromarray(images[0][5:, ::-1]).save(folder / "odd" / "0 again.png")
    (folder / "even" / "broken.png").write_bytes(b"no picture")
    return folder


def test_findings_are_printed_and_written(folder, tmp_path):
    done = run(folder, "--no-labels", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "14 images of 13 scans: 3 alarms" in done.output
    assert "1 scan stands in two classes: 1 pair of duplicates" in done.output
    assert "broken.png' cannot be decoded" in done.output.replace("\n", " ")
    assert "next     hybridus compare" in done.output
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "audit.csv",
        "audit_groups.csv",
        "audit_pairs.csv",
        "audit_pairs.png",
        "audit_samples.csv",
        "audit_shortcuts.csv",
    ]
    pairs = pd.read_csv(tmp_path / "out" / "audit_pairs.csv")
    assert pairs["first_name"].tolist() == ["even/0.png"]
    assert pairs["second_label"].tolist() == ["odd"]
    # What `hybridus compare --groups` reads.
    names = list_folder(folder).filenames
    groups = read_groups(tmp_path / "out" / "audit_groups.csv", names)
    same = groups[names.index("even/0.png")]
    assert [n for n, g in zip(names, groups, strict=True) if g == same] == [
        "even/0.png",
        "odd/0 again.png",
    ]


def test_known_groups_and_wrong_options(folder, tmp_path):
    table = pd.DataFrame({"filename": list_folder(folder).filenames})
    table.assign(group=range(14)).to_csv(tmp_path / "groups.csv", index=False)
    done = run(
        folder, "--no-labels", "--out", tmp_path / "out", "--groups", tmp_path / "groups.csv"
    )
    assert "1 pair of duplicates across the groups that were given" in done.output
    wrong = run(folder, "--threshold", "3", "--out", tmp_path / "none")
    assert (wrong.exit_code, "threshold == 3.0" in wrong.stderr) == (2, True)
    assert run(tmp_path / "absent").exit_code == 2
