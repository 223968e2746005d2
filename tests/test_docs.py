"""The documentation: complete, whole, with links that lead somewhere, and examples that run."""

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hybridus
import hybridus.metrics
import hybridus.report

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("plot_*.py"))
PUBLIC = [
    (module, name)
    for module in (hybridus, hybridus.metrics, hybridus.report)
    for name in module.__all__
    if name != "__version__"
]


def listed():
    """Names on the reference's page, by the module under which they stand."""
    module, found = "", set()
    for line in (DOCS / "api" / "index.rst").read_text().splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            found.add((module, line.strip()))
    return found


def test_every_public_name_is_in_the_reference():
    shown = listed()
    of_the_package = {name for module, name in shown if module == "hybridus"}
    missing = [
        f"{module.__name__}.{name}"
        for module, name in PUBLIC
        if (module.__name__, name) not in shown and name not in of_the_package
    ]
    assert not missing
    for module, name in shown:
        if name != "command":
            assert hasattr(importlib.import_module(module), name), f"{module}.{name} is no more"


@pytest.mark.parametrize(
    ("module", "name"), PUBLIC, ids=lambda each: getattr(each, "__name__", each)
)
def test_every_public_name_has_an_example(module, name):
    thing = getattr(module, name)
    assert ">>> " in (thing.__doc__ or ""), f"the docstring of {name} shows no example"


def test_changelog_and_citation_know_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {hybridus.__version__}\n" in citation


@pytest.mark.slow
def test_all_pages_are_read_without_a_warning(tmp_path):
    """As `make docs` builds them, but as text, which is quicker, and without running examples.

    A page that is in no table of contents, a reference to nowhere and a docstring that cannot be
    read are warnings, and those are errors.
    """
    for needed in ("sphinx", "sphinx_gallery", "myst_parser", "numpydoc", "pydata_sphinx_theme"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install '.[docs]'")
    kept_out = shutil.ignore_patterns("_build", "gallery", "generated", "__pycache__")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=kept_out)
    for beside in ("CHANGELOG.md", "benchmarks", "hybridus"):
        (tmp_path / beside).symlink_to(ROOT / beside)
    options = ("-q", "-W", "--keep-going", "-D", "plot_gallery=0", "-b", "text")
    # In a process of its own: Sphinx changes how the process imports and warns.
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(tmp_path / "docs"), str(tmp_path / "text")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (
        "Fit and score models" in (tmp_path / "text/api/generated/hybridus.compare.txt").read_text()
    )
    command = (tmp_path / "text" / "api" / "command.txt").read_text(encoding="utf-8")
    assert "--value-range" in command
    assert "hybridus cache clear" in command


def test_broken_links_are_found(tmp_path):
    broken_links = runpy.run_path(str(DOCS / "links.py"))["broken_links"]
    (tmp_path / "a.html").write_text(
        "<p id='here'><a href='#here'>1</a><a href='b.html'>2</a><a href='a.html#there'>3</a>"
        "<a href='https://example.org'>4</a><script src='https://example.org/x.js'></script>"
    )
    wrong, elsewhere = broken_links(tmp_path)
    assert wrong == [
        "a.html: fetches https://example.org/x.js",
        "a.html: no file b.html",
        "a.html: no place a.html#there",
    ]
    assert elsewhere == 2


def test_examples_are_many_and_each_has_a_picture_and_a_point():
    assert len(EXAMPLES) >= 10
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert "**The point:**" in text, path.name
        assert "Display" in text or "plt." in text, path.name


@pytest.mark.slow
@pytest.mark.parametrize("number", ["05", "09"])
def test_examples_run(number, monkeypatch):
    """The quickest; `make docs` runs all of them."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from hybridus.encoders import registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    (path,) = (one for one in EXAMPLES if one.name.startswith(f"plot_{number}"))
    before = mpl.get_backend()
    mpl.use("agg")
    try:
        runpy.run_path(str(path), run_name=f"example_{number}")
        assert plt.get_fignums()
    finally:
        plt.close("all")
        mpl.use(before)
