"""The README's code, run as it stands on a small data set laid out as BUSI is."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
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
    "image_size=96": f"image_size={SIZE}",
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
    "KFold(5)": "KFold(2)",
    "KFold(3)": "KFold(2)",
    "[1, 10, 100]": "[1]",
    "[1e-3, 1e-4]": "[1e-3]",
    "[1e-4, 1e-3]": "[1e-3]",
}


def blocks(text):
    """Python code of a Markdown text, one string a block."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def small_encoders(monkeypatch, tmp_path):
    """The encoders that the README names, as a small network whose weights are at hand."""
    ours = registry.get_encoder("mobilenet_v2_0.35")
    source = Path(hybridus.encoders.__file__).parent / "mobilenet_v2_0.35.safetensors"
    weights = tmp_path / "weights"
    weights.mkdir()
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
        monkeypatch.setitem(registry._REGISTRY, name, row)
    monkeypatch.setenv("HYBRIDUS_WEIGHTS", str(weights))


@pytest.fixture
def busi_here(monkeypatch, tmp_path):
    """A current folder with scans, masks and a table of duplicates, named as the README has it."""
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
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_code_of_the_readme_runs(small_encoders, busi_here, monkeypatch):
    code = blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(code) >= 5
    names: dict = {}
    unused = set(AS_RUN)
    for number, block in enumerate(code):
        unused -= {written for written in unused if written in block}
        for written, run in AS_RUN.items():
            block = block.replace(written, run)
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    assert os.path.exists("model.hybridus")
    assert not unused, "text that the README no longer has"


def test_the_table_of_presets_is_the_one_that_the_presets_give():
    from hybridus.presets import PRESETS, markdown_table

    assert markdown_table(PRESETS.values()) in (ROOT / "README.md").read_text(encoding="utf-8")
