"""The code of README and documentation, run as it stands on few scans laid out as BUSI is."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn
from PIL import Image
from safetensors.numpy import save_file
from tiny_networks import TINY

import hybridus.encoders
from hybridus import make_breast_phantoms
from hybridus.encoders import registry
from hybridus.encoders.weights import draw_weights

ROOT = Path(__file__).resolve().parents[1]
SIZE = 32  # pixels, of scans and of what the networks see
N_SCANS = 30
# What is run in place of what is written: networks stay in this process, where the names of large
# encoders stand for a small one; few scans, small networks and one epoch.
AS_RUN = {
    "n_jobs=2": "n_jobs=1",
    "make_breast_phantoms(240,": f"make_breast_phantoms({N_SCANS},",
    "(150, image_size=128,": f"(60, image_size={SIZE},",
    "number < 135": "number < 54",
    "image_size=96": f"image_size={SIZE}",
    '"image_size": 96': f'"image_size": {SIZE}',
    "data.target, groups=found.groups": "data.target, n_splits=2, groups=found.groups",
    "busi.target, groups=found.groups": "busi.target, n_splits=2, groups=found.groups",
    "scans.target, groups": "scans.target, n_splits=2, groups",
    "busi.target, groups=busi.groups)\nstudy": "busi.target, groups=busi.groups, n_splits=2)\n"
    "study",
    "scoring=LesionScores(mask_size=128)": "n_splits=2, scoring=LesionScores(mask_size=16)",
    'class_weight="balanced", random_state=0': "max_epochs=1, random_state=0",
    '"u-net": UNetSegmenter(': '"u-net": UNetSegmenter(1, 2, image_size=16, max_epochs=1, ',
    "    UNetSegmenter(": "    UNetSegmenter(1, 2, image_size=16, max_epochs=1, ",
    'EncoderUNetSegmenter("mobilenet_v2",': 'EncoderUNetSegmenter("mobilenet_v2", n_views=1, '
    "image_size=32, decoder_stride=2, max_epochs=1,",
    "masks=busi.masks,  #": "masks=busi.masks, n_splits=2,  #",
    "(data.images, data.target)  #": "(data.images, data.target, model=None)  #",
    "busi.masks)  # offline": "busi.masks, model=None)  # offline",
    "audit(busi.images, busi.target)": "audit(busi.images, busi.target, model=None)",
    "KFold(5)": "KFold(2)",
    "KFold(3)": "KFold(2)",
    "[1, 10, 100]": "[1]",
    "[1e-3, 1e-4]": "[1e-3]",
    "[1e-4, 1e-3]": "[1e-3]",
}


def blocks(text):
    """Python code of a Markdown text, one string a block."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def small_encoders(patch, tmp_path_factory):
    """The encoders that the pages name, as a small network whose weights are at hand."""
    ours = registry.get_encoder("mobilenet_v2_0.35")
    source = Path(hybridus.encoders.__file__).parent / "mobilenet_v2_0.35.safetensors"
    weights = tmp_path_factory.mktemp("weights")
    shutil.copy(source, weights / source.name)
    small = {ours.name: replace(ours, image_size=(SIZE, SIZE))}
    layers = TINY.build((SIZE, SIZE)).layers
    drawn = {
        f"{layer.name}/{name}": value
        for layer in layers
        for name, value in draw_weights(
            layer.name, {v.name: tuple(v.shape) for v in layer.weights}
        ).items()
    }
    for name in ("mobilenet_v2", "vgg16", "resnet50"):
        save_file(drawn, weights / f"{name}.safetensors")
        small[name] = replace(TINY, name=name, image_size=(SIZE, SIZE))
    for name, row in small.items():
        patch.setitem(registry._REGISTRY, name, row)
    patch.setenv("HYBRIDUS_WEIGHTS", str(weights))


@pytest.fixture(scope="module")
def busi_here(patch, tmp_path_factory):
    """A current folder with scans, masks and a table of duplicates, named as the pages have it."""
    tmp_path = tmp_path_factory.mktemp("busi")
    phantoms = make_breast_phantoms(N_SCANS, image_size=SIZE, random_state=0)
    folder, rows = tmp_path / "Dataset_BUSI_with_GT", ["busi_file,group,objection,annotation"]
    for number, (image, mask, label) in enumerate(
        zip(phantoms.images, phantoms.masks, phantoms.target, strict=True), start=1
    ):
        name = str(phantoms.target_names[label])
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name / f"{name} ({number}).png")
        drawn = Image.fromarray(np.where(np.squeeze(mask), 255, 0).astype(np.uint8))
        drawn.save(folder / name / f"{name} ({number})_mask.png")
        rows.append(f"{name} ({number}),{number},,")
    (tmp_path / "busi_curation.csv").write_text("\n".join(rows) + "\n")
    patch.chdir(tmp_path)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not {"_build", "gallery", "generated"} & {*page.parts}]
CODE = {str(page.relative_to(ROOT)): blocks(page.read_text(encoding="utf-8")) for page in PAGES}
CODE = {page: code for page, code in CODE.items() if code}


@pytest.mark.parametrize("page", CODE)
def test_the_code_of_a_page_is_python(page):
    for number, block in enumerate(CODE[page], start=1):
        compile(block, f"{page}, block {number}", "exec")


# Its pieces speak of clusters and of a hundred thousand files: tests/test_dask.py and
# tests/test_extract.py run the like.
NOT_RUN = {"docs/guide/scale.md"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", sorted({*CODE} - NOT_RUN))
def test_the_code_of_a_page_runs(page, small_encoders, busi_here):
    """What a block needs stands in the page, above it."""
    names: dict = {}
    try:
        for number, block in enumerate(CODE[page], start=1):
            for written, run in AS_RUN.items():
                block = block.replace(written, run)
            exec(compile(block, f"{page}, block {number}", "exec"), names)
    finally:
        plt.close("all")
        sklearn.set_config(enable_metadata_routing=False)


def test_what_is_replaced_stands_in_a_page():
    assert {"README.md", "docs/start.md", "docs/guide/segmentation.md"} <= set(CODE)
    text = "".join(block for code in CODE.values() for block in code)
    assert not [written for written in AS_RUN if written not in text]


def test_the_table_of_presets_is_the_one_that_the_presets_give():
    from hybridus.presets import PRESETS, markdown_table

    assert markdown_table(PRESETS.values()) in (ROOT / "docs" / "guide" / "presets.md").read_text(
        encoding="utf-8"
    )
