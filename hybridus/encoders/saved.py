"""Networks that someone saved, ``model.save("model.keras")``, as builders of encoders."""

import json
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridus.exceptions import WeightsNotFoundError
from hybridus.inputs.files import digest_file

SUFFIX = ".keras"


@dataclass(frozen=True)
class SavedNetwork:
    """Builder that opens a file of Keras's; the network comes with its weights.

    Attributes
    ----------
    path : str
    digest : str
        Of the file: another file under this name is another network.
    """

    path: str
    digest: str

    def __call__(self, *, input_shape: tuple[int, int, int]) -> Any:
        """Open the network for images of one shape.

        Raises
        ------
        ValueError
            Where the file is none of Keras's, was replaced, or holds a network of another shape.
        """
        from hybridus._keras import keras

        if digest_file(existing(self.path)) != self.digest:
            raise ValueError(
                f"{self.path!r} holds another network than when it was first used: bring the "
                "former file back, or make the estimator again and call fit"
            )
        try:
            network = keras.models.load_model(self.path, compile=False, safe_mode=True)
        except Exception as error:  # whatever Keras raises for what it does not know
            raise ValueError(
                f"Keras cannot open {self.path!r}: {str(error).strip().splitlines()[0]}. Your own "
                "layers must be registered (keras.saving.register_keras_serializable) in a module "
                "that is imported before; or give register_encoder a function that builds the "
                "network"
            ) from error
        shape = getattr(network, "input_shape", None)
        if not isinstance(shape, tuple) or shape[1:] == input_shape:
            return network  # what is no network of one input is refused behind
        if shape[0] is not None or not _fits(shape[1:], input_shape):
            raise ValueError(
                f"{self.path!r} holds a network of inputs {shape}, expected images of (height, "
                f"width, 3), here {input_shape}"
            )
        fixed = keras.models.clone_model(network, input_tensors=keras.Input(input_shape))
        fixed.set_weights(network.get_weights())
        return fixed


def open_saved(path: str | os.PathLike[str]) -> tuple[SavedNetwork, str, tuple[int, int] | None]:
    """Look at a file of Keras's without starting Keras.

    Returns
    -------
    network : SavedNetwork
    name : str
        Made of the file's name.
    image_size : (int, int) or None
        Height and width that it takes; None where it takes any.

    Raises
    ------
    WeightsNotFoundError
        Where there is no such file.
    ValueError
        Where it is none of Keras 3's.
    """
    file = existing(path)
    try:
        with zipfile.ZipFile(file) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{str(file)!r} is no network that Keras 3 saved ({error}): expected what "
            "model.save('model.keras') writes"
        ) from error
    name = re.sub(r"[^a-z0-9_.\-]+", "_", file.stem.lower()).strip("_.-") or "saved"
    return SavedNetwork(str(file), digest_file(file)), name, _image_size(config)


def existing(path: str | os.PathLike[str]) -> Path:
    """Absolute path of a file; raise where it is not there."""
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise WeightsNotFoundError(f"no saved network {str(path)!r}: no such file exists")
    return file


def _fits(shape: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        one in (None, other) for one, other in zip(shape, wanted, strict=True)
    )


def _image_size(config: Any) -> tuple[int, int] | None:
    """Size in the configuration that Keras writes: of the first input, or of the whole."""
    places = [config.get("build_config") or {}]
    layers = (config.get("config") or {}).get("layers") or []
    places += [layer.get("config") or {} for layer in layers[:1]]
    for place in places:
        shape = place.get("batch_shape") or place.get("input_shape")
        if isinstance(shape, list) and len(shape) == 4 and None not in shape[1:3]:
            return int(shape[1]), int(shape[2])
    return None
