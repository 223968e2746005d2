"""Data sets as scikit-learn Bunches: BUSI, class folders, images with masks, breast phantoms."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridus.datasets.busi import load_busi
    from hybridus.datasets.folder import load_image_folder
    from hybridus.datasets.groups import read_groups
    from hybridus.datasets.phantoms.breast import make_breast_phantoms
    from hybridus.datasets.segmentation import load_segmentation_folder

__all__ = [
    "load_busi",
    "load_image_folder",
    "load_segmentation_folder",
    "make_breast_phantoms",
    "read_groups",
]

# Loading one of them must not cost the imports of the others (pandas, scipy).
_MODULE_OF = {
    "load_busi": "busi",
    "load_image_folder": "folder",
    "load_segmentation_folder": "segmentation",
    "make_breast_phantoms": "phantoms",
    "read_groups": "groups",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
