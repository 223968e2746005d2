# The list of public names, as in hybridus/__init__.pyi.
from .breastmnist import load_breastmnist as load_breastmnist
from .busi import load_busi as load_busi
from .folder import load_image_folder as load_image_folder
from .groups import read_groups as read_groups
from .phantoms import make_breast_phantoms as make_breast_phantoms
from .segmentation import load_segmentation_folder as load_segmentation_folder
