"""Carried networks: they travel with a fitted estimator, which then needs no weights and no Keras.

What a carried network is, its bytes alone say: it never shares a key with a network that was built
here, whatever the file that it came with says of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CarriedNetwork:
    """A network as the two files of OpenVINO's: plain data, in pickles and in model files alike.

    Attributes
    ----------
    xml, weights : arrays of uint8
        The graph, and the constants in it.
    """

    xml: NDArray[np.uint8]
    weights: NDArray[np.uint8]

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> "CarriedNetwork":
        """Make one of the contents of the files, ``xml`` and ``bin``."""
        return cls(*(np.frombuffer(contents[name], np.uint8) for name in ("xml", "bin")))

    @property
    def contents(self) -> dict[str, bytes]:
        """Contents of the files, ``xml`` and ``bin``."""
        return {"xml": self.xml.tobytes(), "bin": self.weights.tobytes()}

    @property
    def digest(self) -> str:
        """Digest of all of it, always computed: a file could claim another."""
        if self not in _digests:
            digest = hashlib.sha256(f"{len(self.xml)}:".encode())
            for part in (self.xml, self.weights):
                digest.update(np.ascontiguousarray(part).data)
            _digests[self] = digest.hexdigest()
        return _digests[self]


_digests: WeakKeyDictionary[CarriedNetwork, str] = WeakKeyDictionary()
