"""Weights of encoders: finding, digesting and reading them, for every form they are kept in."""

import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridus._environment import keras_home, weight_folders
from hybridus.encoders.registry import EncoderSpec, get_encoder, list_encoders
from hybridus.encoders.saved import SavedNetwork, existing
from hybridus.exceptions import WeightsNotFoundError
from hybridus.inputs.files import digest_file

# Layer name -> its variables, by name (safetensors) or in Keras's order (HDF5).
LayerWeights = Mapping[str, Mapping[str, NDArray] | list[NDArray]]


@dataclass(frozen=True)
class LayerPlan:
    """A layer of a network with what a weights file must hold of it.

    Attributes
    ----------
    name : str
    path : str
        Where Keras 3 keeps its variables in a ``.weights.h5`` file: classes, numbered in order.
    variables : tuple of (str, tuple of int, bool)
        Name, shape, and whether it is trained.
    """

    name: str
    path: str
    variables: tuple[tuple[str, tuple[int, ...], bool], ...]


_SUFFIXES = (".safetensors", ".weights.h5", ".h5")
_RANDOM_SEED = 0


@dataclass(frozen=True)
class WeightsSource:
    """Weights that are at hand: a file, or None for random ones, and their digest."""

    path: Path | None
    digest: str


def locate_weights(spec: EncoderSpec, weights: str | os.PathLike) -> WeightsSource:
    """Find the weights of an encoder, without starting Keras unless they must be downloaded.

    Parameters
    ----------
    spec : EncoderSpec
    weights : {"imagenet", "bundled", "random"} or path
        "imagenet" is looked for in the folders of ``HYBRIDUS_WEIGHTS``, then in Keras's cache, then
        downloaded by Keras; "bundled" ships with hybridus; "random" is drawn with NumPy from seed
        0; a path leads to a ``.safetensors``, ``.weights.h5`` or ``.h5`` file. Of a saved network
        "imagenet" are the weights that it was saved with.

    Raises
    ------
    WeightsNotFoundError
        Where there are none; other weights are never taken instead.
    """
    if not isinstance(weights, str | os.PathLike):
        raise ValueError(
            f"weights={weights!r}: expected 'imagenet', 'bundled', 'random' or a path to a file"
        )
    if weights == "random":
        return WeightsSource(None, f"random:glorot:{_RANDOM_SEED}")
    if weights == "bundled":
        return _bundled(spec)
    if weights == "imagenet":
        return _source(_imagenet(spec))
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsNotFoundError(
            f"weights={str(weights)!r} is none of 'imagenet', 'bundled' and 'random', and no such "
            "file exists"
        )
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(f"weights file {str(path)!r}: expected one of {', '.join(_SUFFIXES)}")
    return _source(path)


def read_weights(path: Path, layers: Iterable[str]) -> LayerWeights:
    """Read from a weights file the layers that are asked for and in it.

    Raises
    ------
    ValueError
        For a file that is no weights file.
    """
    wanted = set(layers)
    try:
        if path.name.endswith(".safetensors"):
            return _read_safetensors(path, wanted)
        return _read_hdf5(path, wanted)
    except (OSError, KeyError, TypeError, ValueError, _safetensors_error()) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a weights file ({error})") from error


def read_in_order(path: Path, plans: Sequence[Sequence[LayerPlan]]) -> LayerWeights | None:
    """Read an HDF5 file as Keras does, by the order of layers: names may be others.

    Keras numbers layers without a name of their own by process, so their names say nothing.

    Parameters
    ----------
    path : Path
    plans : sequence of sequences of LayerPlan
        The layers of the whole network that have weights; models in it with all of theirs.

    Returns
    -------
    mapping or None
        Layer name -> its variables by name; None where the file does not begin with the layers
        of this network, shape by shape. Layers may follow, such as the top.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "layers" in file or "_layer_checkpoint_dependencies" in file:
                return _by_path(file, [plan for layers in plans for plan in layers])
            return _by_order(file, plans)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a weights file ({error})") from error


def draw_weights(
    layer_name: str, shapes: Mapping[str, tuple[int, ...]], *, seed: int = _RANDOM_SEED
) -> dict[str, NDArray]:
    """Draw the variables of one layer, alike on every backend and whatever else is drawn.

    As Keras's layers do by default: kernels uniform after Glorot and Bengio (2010), variances and
    gammas 1, the rest 0.
    """
    rng = np.random.default_rng([seed, zlib.crc32(layer_name.encode())])
    drawn = {}
    for name, shape in shapes.items():
        if name.endswith("kernel") and len(shape) > 1:
            limit = np.sqrt(6.0 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
            drawn[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
        else:
            one = name in ("gamma", "moving_variance", "variance", "scale")
            drawn[name] = np.full(shape, float(one), dtype=np.float32)
    return drawn


def draw_variables(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray]:
    """Draw variables by their paths, ``<layer>/<variable>``, each from its name and the seed."""
    drawn = {}
    for path, shape in shapes.items():
        layer, _, name = path.rpartition("/")
        drawn[path] = draw_weights(layer, {name: shape}, seed=seed)[name]
    return drawn


def _source(path: Path) -> WeightsSource:
    return WeightsSource(path, digest_file(path))


def _bundled(spec: EncoderSpec) -> WeightsSource:
    if spec.bundled is None:
        shipped = [name for name in list_encoders() if get_encoder(name).bundled]
        raise WeightsNotFoundError(
            f"no weights for {spec.name!r} ship with hybridus"
            + (f", only for {', '.join(shipped)}" if shipped else "")
            + ". Ways out: weights='imagenet', weights='random' (untrained, works offline), or "
            "weights=PATH"
        )
    path = Path(__file__).parent / f"{spec.name}.safetensors"
    if not path.is_file():
        raise WeightsNotFoundError(f"{str(path)!r} is missing: install hybridus again")
    source = _source(path)
    if source.digest != spec.bundled:
        raise ValueError(
            f"{str(path)!r} is damaged: it has digest {source.digest}, expected {spec.bundled}; "
            "install hybridus again"
        )
    return source


def imagenet_digest(spec: EncoderSpec) -> str | None:
    """Digest of the weights that "imagenet" stands for; None where they must be downloaded."""
    path = imagenet_file(spec)
    return None if path is None else _source(path).digest


def imagenet_file(spec: EncoderSpec) -> Path | None:
    """File that "imagenet" stands for; None where it must be downloaded."""
    return _first_file(*_imagenet_places(spec))


def _imagenet_places(spec: EncoderSpec) -> tuple[list[str], list[Path]]:
    """Names that a file may have in the users' folders, and where it lies in Keras's cache."""
    if isinstance(spec.builder, SavedNetwork):
        return [], [Path(spec.builder.path)]
    names = [spec.name + suffix for suffix in _SUFFIXES]
    if not spec.keras_file:
        return names, []
    with_top = re.sub(r"_no_?top(_v2)?|-no-top", "", spec.keras_file)
    files = list(dict.fromkeys([spec.keras_file, with_top]))
    return [*names, *files], [keras_home() / "models" / name for name in files]


def _first_file(names: list[str], cached: list[Path]) -> Path | None:
    places = [folder / name for folder in weight_folders() for name in names] + cached
    return next((path for path in places if path.is_file()), None)


def _imagenet(spec: EncoderSpec) -> Path:
    if isinstance(spec.builder, SavedNetwork):
        return existing(spec.builder.path)
    names, cached = _imagenet_places(spec)
    if (path := imagenet_file(spec)) is not None:
        return path
    folders = weight_folders()
    reason = "its builder offers no download"
    if spec.downloadable and cached:
        try:
            spec.download()
        except Exception as error:
            # Keras raises a bare Exception where a download fails.
            reason = f"Keras could not download them ({str(error).splitlines()[0]})"
        else:
            if cached[0].is_file():
                return cached[0]
            reason = f"Keras's download did not leave {cached[0].name!r}"
    raise WeightsNotFoundError(
        f"ImageNet weights of {spec.name!r} not found. Searched: HYBRIDUS_WEIGHTS "
        f"({', '.join(map(str, folders)) or 'not set'}) for {', '.join(names)}; Keras's cache "
        f"({', '.join(map(str, cached)) or 'no file name known'}); {reason}. Ways out: put a file "
        "of one of these names into a folder and name the folder in HYBRIDUS_WEIGHTS; pass "
        "weights=PATH; weights='random' (untrained) works offline"
        + (
            "; weights='bundled' ships with hybridus"
            if spec.bundled
            else "; encoder='mobilenet_v2_0.35' has weights='bundled', which ship with hybridus"
        )
    )


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _read_safetensors(path: Path, wanted: set[str]) -> LayerWeights:
    from safetensors import safe_open

    found: dict[str, dict[str, NDArray]] = {}
    with safe_open(path, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118 (a safetensors file is no mapping)
            layer, _, variable = key.rpartition("/")
            if layer in wanted:
                found.setdefault(layer, {})[variable] = file.get_tensor(key)
    return found


def _read_hdf5(path: Path, wanted: set[str]) -> LayerWeights:
    import h5py

    with h5py.File(path, "r") as file:
        if "layers" in file or "_layer_checkpoint_dependencies" in file:
            return _read_keras3(file, wanted)
        return {
            layer: [np.asarray(group[name]) for name in names]
            for layer, group, names in _groups(file)
            if layer in wanted
        }


def _groups(file: Any) -> Iterator[tuple[str, Any, list[str]]]:
    """Layers with weights of a file of Keras 1 or 2, in their order."""
    whole = file.get("model_weights", file)
    for layer in map(_text, whole.attrs["layer_names"]):
        if len(names := whole[layer].attrs["weight_names"]):
            yield layer, whole[layer], list(map(_text, names))


def _by_order(file: Any, plans: Sequence[Sequence[LayerPlan]]) -> LayerWeights | None:
    """Match layers one by one; Keras writes what is trained in a layer first."""
    groups = list(_groups(file))
    if len(groups) < len(plans):
        return None
    found: dict[str, dict[str, NDArray]] = {}
    for layers, (_, group, names) in zip(plans, groups, strict=False):
        told = [(plan.name, *variable) for plan in layers for variable in plan.variables]
        told = [one for one in told if one[3]] + [one for one in told if not one[3]]
        if [shape for _, _, shape, _ in told] != [group[name].shape for name in names]:
            return None
        for (layer, variable, _, _), name in zip(told, names, strict=True):
            found.setdefault(layer, {})[variable] = np.asarray(group[name])
    return found


def _by_path(file: Any, plans: Sequence[LayerPlan]) -> LayerWeights | None:
    """Match layers by their class and its number, as Keras 3 writes them."""
    top = "layers" if "layers" in file else "_layer_checkpoint_dependencies"
    found: dict[str, dict[str, NDArray]] = {}
    for plan in plans:
        stored = file.get(f"{top}/{plan.path}/vars")
        shapes = [shape for _, shape, _ in plan.variables]
        if stored is None or [stored[k].shape for k in sorted(stored, key=int)] != shapes:
            return None
        found[plan.name] = {
            name: np.asarray(stored[str(k)]) for k, (name, _, _) in enumerate(plan.variables)
        }
    return found


def _read_keras3(file: Any, wanted: set[str]) -> LayerWeights:
    """Layers of a ``.weights.h5`` file, known by the layer names that Keras writes beside them."""
    found: dict[str, list[NDArray]] = {}

    def visit(path: str, node: Any) -> None:
        if path.rpartition("/")[2] != "vars" or not len(node):
            return
        name = _text(node.attrs.get("name", ""))
        if name in wanted:
            found[name] = [np.asarray(node[k]) for k in sorted(node, key=int)]

    file.visititems(visit)
    return found


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
