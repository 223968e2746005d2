"""The door to scikit-learn's inside: one module, and what it tells of routing."""

import ast
from configparser import ConfigParser
from pathlib import Path

import pytest
import sklearn
from packaging.requirements import Requirement
from packaging.version import Version
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostRegressor
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import hybridus
from hybridus._sklearn import consumers

FOLDER = Path(hybridus.__file__).parent


def private_imports(source):
    """Modules and names of scikit-learn with an underscore in front, as a source imports them."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "sklearn" and any(part.startswith("_") for part in rest):
                yield name


def test_private_names_are_imported_by_the_door_alone():
    found = {
        str(file.relative_to(FOLDER)): list(private_imports(file.read_text("utf-8")))
        for file in FOLDER.rglob("*.py")
    }
    assert found.pop("_sklearn.py")
    assert {file: names for file, names in found.items() if names} == {}


def test_private_names_are_found_in_every_spelling():
    source = "import sklearn.utils._mask\nfrom sklearn.base import clone, _fit_context as f\n"
    assert list(private_imports(source)) == ["sklearn.utils._mask", "sklearn.base._fit_context"]


def test_this_scikit_learn_is_one_that_was_tried():
    metadata = ConfigParser()
    metadata.read(FOLDER.parent / "setup.cfg")
    needed = map(Requirement, metadata["options"]["install_requires"].split())
    (tried,) = [one.specifier for one in needed if one.name == "scikit-learn"]
    assert Version(sklearn.__version__) in tried
    assert Version("1.10") not in tried


def test_consumers_are_found_at_any_depth():
    heeding, ignoring = StratifiedGroupKFold(3), StratifiedKFold(3)
    inner = CalibratedClassifierCV(SVC(), cv=heeding)
    pipe = make_pipeline(StandardScaler(), inner)
    with sklearn.config_context(enable_metadata_routing=True):
        assert consumers(pipe, "groups") == [heeding]
        search = GridSearchCV(pipe, {}, cv=ignoring)
        assert consumers(search, "groups") == [heeding]
        assert consumers(search.set_params(cv=heeding), "groups") == [heeding]
        assert consumers(SVC(), "groups") == []
        with pytest.raises(NotImplementedError):
            consumers(make_pipeline(AdaBoostRegressor()), "groups")
