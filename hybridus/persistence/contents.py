"""Contents of a model file: the one list of what may be in it, and the check of all of it.

Nothing is imported or made before every member, array and type was looked at: skops makes what
stands in the file, and does so only of types that are named here.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

MOST_NODES = 2_000_000
_MEMBER = re.compile(r"schema\.json|[0-9]+\.npy|[0-9a-f-]{36}\.bin|[0-9]+\.npz")

_ESTIMATORS = {
    "hybridus.estimators.calibration": ("WholeGroupsCalibration",),
    "hybridus.estimators.classifiers": ("FineTunedClassifier",),
    "hybridus.estimators.features": ("DeepFeatureExtractor",),
    "hybridus.estimators.lesion.features": ("LesionFeatures",),
    "hybridus.estimators.preprocessing": ("BorderCropper", "ContrastEqualizer", "SpeckleFilter"),
    "hybridus.estimators.scaler": ("FeatureScaler",),
    "hybridus.estimators.stable": ("StableFeatures",),
    "hybridus.estimators.texture": ("TextureFeatures",),
    "hybridus.estimators.segmenters.dncnn": ("DnCNNSegmenter",),
    "hybridus.estimators.segmenters.encoder_unet": ("EncoderUNetSegmenter", "ResNet50Segmenter"),
    "hybridus.estimators.segmenters.pixel": ("PixelSegmenter",),
    "hybridus.estimators.segmenters.unet": ("UNetSegmenter",),
    "hybridus.estimators.segmenters.voting": ("VotingSegmenter",),
}
_VALUES = {
    "hybridus.encoders.carried": ("CarriedNetwork",),
    "hybridus.encoders.frozen": ("FrozenEncoder",),
    "hybridus.encoders.registry": ("EncoderSpec", "Preprocessing"),
    "hybridus.estimators.segmenters.prediction": ("Postprocessing",),
    "hybridus.inputs.augmentation": ("Augmentation",),
    "hybridus.inputs.groups": ("WholeGroupsKFold",),
    "hybridus.inputs.scanner": ("ScannerChange",),
    "sklearn.calibration": (
        "_CalibratedClassifier",
        "_SigmoidCalibration",
        "_TemperatureScaling",
    ),
    "sklearn.model_selection._split": (
        "GroupKFold",
        "KFold",
        "StratifiedGroupKFold",
        "StratifiedKFold",
    ),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
}
_OURS = frozenset(
    f"{module}.{name}"
    for part in (_ESTIMATORS, _VALUES)
    for module in part
    for name in part[module]
)
_ARRAYS = frozenset({"numpy.ndarray"})
_DICTS = frozenset({"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"})
# Kinds of which there are many: sparse matrices, and losses of scikit-learn's, which hold numbers.
_FAMILIES = {
    "SparseMatrixNode": re.compile(r"scipy\.sparse\._[a-z]+\.[a-z]+_(matrix|array)"),
    "LossNode": re.compile(r"sklearn\.(linear_model\._sgd_fast|_loss\._loss)\.[A-Za-z]+"),
}
# Of functions those alone by which features are selected: others could be anything.
_FUNCTIONS = frozenset(
    f"sklearn.feature_selection.{name}"
    for name in (
        "_mutual_info.mutual_info_classif",
        "_univariate_selection.chi2",
        "_univariate_selection.f_classif",
    )
)


def _allowed() -> Mapping[str, frozenset[str]]:
    """Types that each of skops's kinds of nodes may make. Kinds that are not here are refused."""
    from skops.io._trusted_types import (
        NUMPY_DTYPE_TYPE_NAMES,
        SKLEARN_ESTIMATOR_TYPE_NAMES,
        SKLEARN_INTERNAL_TYPE_NAMES,
    )

    numbers = frozenset(NUMPY_DTYPE_TYPE_NAMES) - {"numpy.object_", "numpy.void"}
    objects = frozenset([*SKLEARN_ESTIMATOR_TYPE_NAMES, *SKLEARN_INTERNAL_TYPE_NAMES]) | _OURS
    return {
        "BytesNode": frozenset({"builtins.bytes"}),
        "DTypeNode": numbers | {"numpy.dtype"},
        "DictNode": _DICTS,
        "FunctionNode": _FUNCTIONS,
        "JsonNode": frozenset({"builtins.str"}),
        "ListNode": frozenset({"builtins.list"}),
        "NdArrayNode": _ARRAYS | numbers,
        "ObjectNode": objects,
        "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
        "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
        "SetNode": frozenset({"builtins.set"}),
        "SliceNode": frozenset({"builtins.slice"}),
        "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
        "TupleNode": frozenset({"builtins.tuple"}),
        "TypeNode": numbers | {"builtins.float", "builtins.int", "builtins.bool", "builtins.str"},
    }


def check_contents(data: bytes) -> None:
    """Raise unless a file of skops's holds nothing but what may be in a model.

    Raises
    ------
    ValueError
        Which says what is wrong; `zipfile.BadZipFile`, `KeyError` and the like where the file is
        no such file at all.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        check_members(archive, len(data), _MEMBER)
        schema = json.loads(archive.read("schema.json"))
        if not isinstance(schema, dict) or schema.get("protocol") not in (1, 2):
            raise ValueError("its schema is of a kind that is not known here")
        allowed = _allowed()
        for number, node in enumerate(_nodes(schema)):
            if number > MOST_NODES:
                raise ValueError("its schema has no end")
            _check_node(node, allowed)
        for name in archive.namelist():
            if name.endswith(".npy"):
                _check_array(archive, name)


def check_members(archive: zipfile.ZipFile, size: int, expected: re.Pattern[str]) -> None:
    """Raise unless all members lie in the archive as they are, each once, under expected names.

    Uncompressed, they cannot be more than the file: nothing can swell.
    """
    infos = archive.infolist()
    names = [info.filename for info in infos]
    for info in infos:
        if not expected.fullmatch(info.filename) or info.is_dir():
            raise ValueError(f"it holds {info.filename[:80]!r}, which is none of its parts")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"its part {info.filename!r} is compressed, which ours never are")
        if info.flag_bits & 0x1 or (info.external_attr >> 28) == 0xA:
            raise ValueError(f"its part {info.filename!r} is encrypted or a link")
    if len(set(names)) < len(names):
        raise ValueError("it holds two parts of one name")
    if sum(info.file_size for info in infos) > size:
        raise ValueError("its parts lie upon one another")


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """All nodes of a schema, without going deeper by calling itself."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _check_node(node: Mapping[str, Any], allowed: Mapping[str, frozenset[str]]) -> None:
    kind = str(node["__loader__"])
    if kind == "CachedNode":  # what stands elsewhere in the schema
        return
    name = f"{node.get('__module__')}.{node.get('__class__')}"
    family = _FAMILIES.get(kind)
    if name not in allowed.get(kind, ()) and not (family and family.fullmatch(name)):
        raise ValueError(f"it holds {name[:120]!r} ({kind[:40]}), which is no part of a model")


def _check_array(archive: zipfile.ZipFile, name: str) -> None:
    """Raise where an array says that it is larger than it is, or holds objects."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"its array {name!r} is of a kind that is not known here")
        read = np.lib.format.read_array_header_1_0
        if version == (2, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        size = archive.getinfo(name).file_size - member.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"its array {name!r} is not what it says it is")
