"""Data sets as scikit-learn Bunches: BUSI, class folders, images with masks, breast phantoms."""

import lazy_loader

# Loading one of them must not cost the imports of the others (pandas, scipy).
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
