"""hybridus: frozen and fine-tuned CNNs and segmenters as scikit-learn estimators.

Public names, listed in ``__init__.pyi``, are imported when they are first used, so that ``import
hybridus`` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
