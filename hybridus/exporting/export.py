"""`export`: a fitted model becomes one file that a runtime in any language answers with."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from hybridus._version import __version__
from hybridus.encoders.engine import load_openvino
from hybridus.estimators.segmenters import is_segmenter
from hybridus.inputs.files import replacing

Format = Literal["openvino", "onnx"]
InputSize = Literal["any", "network"]

_SUFFIXES: dict[str, Format] = {".xml": "openvino", ".onnx": "onnx"}


def export(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    format: Format | None = None,
    input_size: InputSize | None = None,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Write a fitted model as a network that C++, JavaScript and others run without Python.

    The input ``images`` is uint8 of shape (n, height, width, 3), RGB or grey three times; all
    preprocessing is inside. A classifier gives ``label``, the position of the class (int64, of
    shape (n,)), and ``probabilities`` (n, n_classes) where it has them, else ``scores``, as
    `decision_function` does. A segmenter gives ``probabilities`` (n, h, w) and ``mask``, uint8:
    1 above its threshold, before `postprocess`, which is not inside.

    Parameters
    ----------
    estimator : estimator
        A fitted pipeline of `make_hybrid_classifier` (frozen encoders, scaler or PCA, and SVC,
        LinearSVC, LogisticRegression, MLPClassifier, RidgeClassifier, SGDClassifier, or one of them
        calibrated by sigmoids or a temperature), FineTunedClassifier, also calibrated,
        UNetSegmenter, EncoderUNetSegmenter, ResNet50Segmenter, DnCNNSegmenter, any other
        `NetworkSegmenter`, VotingSegmenter of these, or a search over any of them, of which the
        best is taken.
    path : str or path-like
        ``NAME.xml`` for OpenVINO, which writes ``NAME.bin`` beside it; ``NAME.onnx`` for ONNX,
        which needs the package onnx (``pip install 'hybridus[export]'``); ONNX Runtime 1.14 and
        later read it.
    format : {"openvino", "onnx"}, default=None
        None tells it from the suffix of `path`.
    input_size : {"any", "network"}, default=None
        "any" takes images of any size, all of a batch alike, resizes them inside as hybridus does,
        to the bit, and gives masks at the size of the images; "network" takes images that have the
        size that the network sees, and gives masks at the network's size. None is "any", but
        "network" for estimators with ``resize="pad"``, which "any" is not for.
    class_names : sequence of str, default=None
        What classes are called, in the order of `classes_`; None calls them as `classes_` does.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    TypeError
        For an estimator, or a step of a pipeline, that has no such form: image filters,
        PixelSegmenter, k-nearest neighbours, forests.
    NotImplementedError
        For operations of a network that ONNX files of ours do not know; OpenVINO's do.
    ValueError
        For a suffix, a size or names that do not fit.
    sklearn.exceptions.NotFittedError
        Before `fit`.
    ImportError
        Without the package onnx or openvino.

    Notes
    -----
    Networks that were trained in bfloat16 are written and computed in float32, and decoders that
    read activations in float16 (`activation_dtype`) read them in float32: there answers differ by
    up to 1e-4 or, with bfloat16, 1e-2. OpenVINO itself
    computes in bfloat16 on some processors unless ``INFERENCE_PRECISION_HINT`` is ``f32``.
    Metadata (OpenVINO: ``rt_info/hybridus``, ONNX: ``metadata_props``) hold classes, threshold,
    cleaning, the values of black and white that the model was fitted with, and the version.

    Examples
    --------
    >>> import tempfile
    >>> import hybridus
    >>> scans = hybridus.make_breast_phantoms(12, image_size=32, random_state=0)
    >>> pipe = hybridus.make_hybrid_classifier(
    ...     "mobilenet_v2_0.35", "logreg", weights="bundled", image_size=32, cache=False
    ... ).fit(scans.images, scans.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = hybridus.export(pipe, f"{folder}/model.xml", class_names=scans.target_names)
    ...     sorted(one.name for one in file.parent.iterdir())
    ['model.bin', 'model.xml']
    """
    file = Path(path)
    kind = _format(file, format)
    if kind == "onnx":
        from hybridus.exporting.onnx_file import check_onnx

        check_onnx()
    model = _model_of(estimator)
    network, metadata = _network(model, input_size, class_names)
    if kind == "onnx":
        from hybridus.exporting.onnx_file import to_onnx

        written = to_onnx(network, metadata).SerializeToString()
        with replacing(file) as temporary:
            temporary.write_bytes(written)
        return file
    for key, value in metadata.items():
        network.set_rt_info(value, ["hybridus", key])
    _save(network, file)
    return file


def _format(file: Path, asked: Format | None) -> Format:
    told = _SUFFIXES.get(file.suffix.lower())
    if asked not in (None, "openvino", "onnx"):
        raise ValueError(f"format={asked!r}: expected 'openvino', 'onnx' or None")
    if told is None or asked not in (None, told):
        expected = {"openvino": "'.xml'", "onnx": "'.onnx'", None: "'.xml' or '.onnx'"}[asked]
        raise ValueError(f"{str(file)!r}: expected a name that ends in {expected}")
    return told


def _model_of(estimator: Any) -> Any:
    """Find what answers: of a search the best, of a pipeline of one step that step."""
    check_is_fitted(estimator)
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    steps = getattr(estimator, "steps", None)
    if steps:
        steps = [(name, one) for name, one in steps if one not in (None, "passthrough")]
        if len(steps) == 1:
            return _model_of(steps[0][1])
    return estimator


def _network(
    model: Any, input_size: InputSize | None, class_names: Sequence[str] | None
) -> tuple[Any, dict[str, str]]:
    from hybridus.exporting.networks import Pixels, build_classifier, build_segmenter, what_is_seen

    seen = what_is_seen(model)
    size = _fixed_size(model, seen, input_size)
    pixels = Pixels(size)
    metadata = {
        "hybridus_version": __version__,
        "input": "uint8 RGB (n, height, width, 3), grey three times"
        + (", of any size" if size is None else f", of {size[0]} x {size[1]} pixels"),
        "value_range": json.dumps(_value_range(model)),
    }
    if is_segmenter(model):
        if class_names is not None:
            raise ValueError(f"class_names: {type(model).__name__} has no classes")
        probabilities, mask = build_segmenter(model, pixels)
        outputs = {"probabilities": probabilities, "mask": mask}
        metadata |= {
            "task": "segmentation",
            "threshold": repr(model.threshold_),
            "postprocess": str(model.postprocess),
        }
    else:
        answer = build_classifier(model, pixels)
        values = (
            {"scores": answer.scores}
            if answer.probabilities is None
            else {"probabilities": answer.probabilities}
        )
        outputs = {**values, "label": answer.label}
        metadata |= {"task": "classification", "classes": _classes(model, class_names)}
    return _closed(outputs, pixels.parameter), metadata


def _closed(outputs: dict[str, Any], parameter: Any) -> Any:
    """Model of the named outputs."""
    ov = load_openvino()
    results = []
    for name, source in outputs.items():
        result = ov.opset13.result(source)
        result.output(0).set_names({name})
        result.set_friendly_name(name)
        results.append(result)
    network = ov.Model(results, [parameter], "hybridus")
    network.validate_nodes_and_infer_types()
    return network


def _fixed_size(model: Any, seen: Sequence[Any], asked: InputSize | None) -> tuple[int, int] | None:
    """Size of the input; None for any."""
    if asked not in (None, "any", "network"):
        raise ValueError(f"input_size={asked!r}: expected 'any', 'network' or None")
    padded = any(one.resize == "pad" for one in seen)
    if asked == "any" and padded:
        raise ValueError(
            f"input_size='any' is for resize='stretch', and this {type(model).__name__} was fitted "
            "with resize='pad'; export it with input_size='network' and bring images to that size, "
            "centred on black"
        )
    if asked == "any" or (asked is None and not padded):
        return None
    sizes = {one.size for one in seen}
    if len(sizes) > 1:
        told = " and ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise ValueError(
            f"input_size='network': the networks of this {type(model).__name__} see images of "
            f"{told} pixels, which one input cannot be; fit it with one image_size"
        )
    return sizes.pop()


def _value_range(model: Any) -> Any:
    from hybridus.exporting.networks import calibrated_network

    model = calibrated_network(model) or model
    first = model.steps[0][1] if hasattr(model, "steps") else model
    while hasattr(first, "transformer_list"):
        first = first.transformer_list[0][1]
    return getattr(first, "value_range", None)


def _classes(model: Any, names: Sequence[str] | None) -> str:
    classes = np.asarray(model.classes_).tolist()
    if names is None:
        return json.dumps([str(one) for one in classes])
    if isinstance(names, str) or len(names) != len(classes):
        raise ValueError(f"class_names={names!r}: expected {len(classes)} names, of {classes}")
    return json.dumps([str(name) for name in names])


def _save(network: Any, file: Path) -> None:
    """Write both files of OpenVINO's, weights first, so that the .xml never stands without."""
    with replacing(file) as temporary:
        beside = temporary.with_suffix(".bin")
        try:
            load_openvino().save_model(network, temporary, compress_to_fp16=False)
            os.replace(beside, file.with_suffix(".bin"))
        finally:
            beside.unlink(missing_ok=True)
