"""Images a second through frozen networks: Keras, ONNX Runtime and Torch beside ours.

``python -m benchmarks.extraction [--rounds 5] [--encoders NAME,...]``: the same network, weights
and input of 224 x 224 for all peers, which take turns in every round; medians over rounds, and
ratios to Keras's `predict` within the run. ONNX Runtime (with tf2onnx) and Torch (with
transformers) run where they are installed. "share of peak" is the rate in floating-point operations
over what a large matrix product reaches in the same precision on this machine.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._report import keep, load_real_busi, show, use_real_weights
from hybridus import DeepFeatureExtractor
from hybridus.encoders.frozen import freeze
from hybridus.encoders.registry import get_encoder

CASES = {  # encoder: (layers, images a round); the resnet50 file beside the project ends at conv4
    "mobilenet_v2": (["out_relu"], 256),
    "resnet50": (["conv4_block6_out"], 64),
    "vgg16": (["block5_conv3"], 24),
}
BATCH = 32
Run = Callable[[np.ndarray], np.ndarray]


def keras_network(encoder: str, layers: list[str]):
    """Build a network as users of Keras do: preprocessing outside, average pooling."""
    from hybridus._keras import keras
    from hybridus.encoders.assembly import build_network

    frozen = freeze(
        encoder,
        weights="imagenet",
        layers=layers,
        pooling="avg",
        image_size=None,
        resize="stretch",
        engine="keras",
        precision="float32",
    )
    network = build_network(frozen)
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    x = keras.Input((224, 224, 3))
    maps = inner(x, training=False)
    maps = maps[0] if isinstance(maps, list) else maps
    return keras.Model(x, keras.layers.GlobalAveragePooling2D()(maps))


def preprocess(encoder: str, images: np.ndarray) -> np.ndarray:
    """Preprocess in NumPy, as keras.applications' ``preprocess_input`` does."""
    spec = get_encoder(encoder).preprocessing
    x = images.astype(np.float32)
    x = x[..., ::-1] if spec.channels == "BGR" else x
    return x * np.asarray(spec.scale, np.float32) + np.asarray(spec.offset, np.float32)


def operations(model) -> float:
    """Floating-point operations for one image: two for each multiply-add of convolutions."""
    total = 0
    layers = [inner for layer in model.layers for inner in getattr(layer, "layers", [layer])]
    for layer in layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and len(kernel.shape) == 4:
            total += 2 * np.prod(layer.output.shape[1:3]) * np.prod(kernel.shape)
    return float(total)


def matrix_product_peak(precision: str) -> float:
    """Operations a second of a 2048 x 2048 matrix product in OpenVINO, best of five."""
    import sys

    sys.modules.setdefault("openvino_telemetry", None)
    import openvino as ov
    from openvino import opset13 as ops

    n = 2048
    a = ops.parameter([n, n], np.float32)
    weights = ops.constant(np.random.default_rng(0).random((n, n), dtype=np.float32))
    model = ov.Model([ops.matmul(a, weights, False, False)], [a])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    x = np.random.default_rng(1).random((n, n), dtype=np.float32)
    request = compiled.create_infer_request()
    request.infer([x])
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        request.infer([x], share_inputs=True, share_outputs=True)
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds)


def onnx_peer(encoder: str, model) -> Run | None:
    """ONNX Runtime on Keras's own ONNX export."""
    if not all(importlib.util.find_spec(name) for name in ("onnxruntime", "tf2onnx")):
        return None
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "network.onnx")
        model.export(file, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        batches = range(0, len(images), BATCH)
        return np.concatenate(
            [
                session.run(None, {name: preprocess(encoder, images[i : i + BATCH])})[0]
                for i in batches
            ]
        )

    return run


def torch_peer(encoder: str) -> Run | None:
    """Build the same architecture in Torch, from transformers, as embetter and its like use one.

    With random weights, which cost as much as trained ones; VGG16 is not among its models.
    """
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return None
    import torch
    import transformers

    if encoder == "mobilenet_v2":
        model = transformers.MobileNetV2Model(transformers.MobileNetV2Config())
    elif encoder == "resnet50":
        model = transformers.ResNetModel(transformers.ResNetConfig())
        model.encoder.stages = model.encoder.stages[:3]  # up to conv4, as for the others
    else:
        return None
    model = model.eval().to(memory_format=torch.channels_last)

    def run(images: np.ndarray) -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for i in range(0, len(images), BATCH):
                x = preprocess(encoder, images[i : i + BATCH]).transpose(0, 3, 1, 2)
                x = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
                rows.append(model(x).last_hidden_state.mean(dim=(2, 3)).numpy())
        return np.concatenate(rows)

    return run


def ours(encoder: str, layers: list[str], precision: str) -> DeepFeatureExtractor:
    return DeepFeatureExtractor(
        encoder, layers=layers, engine="openvino", precision=precision, cache=False
    )


def measure(peers: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Median images a second of each peer; they take turns, so that noise meets all alike."""
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            started = time.perf_counter()
            n_images = peer()
            rates[name].append(n_images / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def compare_engines(encoder: str, rounds: int, peaks: dict[str, float]) -> list[dict]:
    """One encoder through every peer, on arrays of 224 x 224 pixels."""
    layers, n_images = CASES[encoder]
    images = np.random.default_rng(0).integers(0, 256, (n_images, 224, 224, 3), dtype=np.uint8)
    model = keras_network(encoder, layers)
    flops = operations(model)
    reference = np.asarray(model.predict(preprocess(encoder, images), verbose=0))
    runs: dict[str, Run | None] = {
        "Keras predict": lambda x: model.predict(
            preprocess(encoder, x), batch_size=BATCH, verbose=0
        ),
        "ONNX Runtime": onnx_peer(encoder, model),
        "Torch (transformers)": torch_peer(encoder),
        "ours float32": ours(encoder, layers, "float32").fit(images).transform,
        "ours bfloat16": ours(encoder, layers, "bfloat16").fit(images).transform,
    }
    present = {name: run for name, run in runs.items() if run is not None}
    errors = {}
    for name, run in present.items():
        rows = run(images)  # the first call compiles
        if not name.startswith("Torch"):
            errors[name] = float(np.abs(rows - reference).max() / np.abs(reference).max())
    peers = {name: (lambda run=run: len(run(images))) for name, run in present.items()}
    rates = measure(peers, rounds)
    rows = []
    for name in runs:
        row = {"network": encoder, "peer": name}
        if name not in present:
            row["images/s"] = "not installed" if encoder != "vgg16" else "no such model"
        else:
            peak = peaks["bf16" if "bfloat16" in name else "f32"]
            row |= {
                "images/s": round(rates[name], 1),
                "x Keras": round(rates[name] / rates["Keras predict"], 2),
                "share of peak": round(rates[name] * flops / peak, 2),
                "error / largest": float(f"{errors[name]:.1e}") if name in errors else "",
            }
        rows.append(row)
    return rows


def compare_end_to_end(rounds: int) -> list[dict]:
    """MobileNetV2 from PNG files, decoding and resizing included, against Keras on arrays."""
    paths = load_real_busi().images[:256]
    layers, _ = CASES["mobilenet_v2"]
    model = keras_network("mobilenet_v2", layers)
    arrays = np.random.default_rng(0).integers(0, 256, (256, 224, 224, 3), dtype=np.uint8)
    extractors = {p: ours("mobilenet_v2", layers, p).fit(paths) for p in ("float32", "bfloat16")}

    def keras_on_arrays() -> int:
        x = preprocess("mobilenet_v2", arrays)
        return len(model.predict(x, batch_size=BATCH, verbose=0))

    def keras_on_files() -> int:
        from PIL import Image

        pixels = [
            np.asarray(
                Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
            )
            for path in paths
        ]
        x = preprocess("mobilenet_v2", np.stack(pixels))
        return len(model.predict(x, batch_size=BATCH, verbose=0))

    peers = {
        "Keras predict, arrays": keras_on_arrays,
        "Pillow, then Keras predict, files": keras_on_files,
        "ours float32, files": lambda: len(extractors["float32"].transform(paths)),
        "ours bfloat16, files": lambda: len(extractors["bfloat16"].transform(paths)),
    }
    for peer in peers.values():
        peer()
    rates = measure(peers, rounds)
    return [
        {
            "peer": name,
            "images/s": round(rate, 1),
            "x Keras on arrays": round(rate / rates["Keras predict, arrays"], 2),
        }
        for name, rate in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoders", default=",".join(CASES))
    arguments = parser.parse_args()
    use_real_weights()
    peaks = {precision: matrix_product_peak(precision) for precision in ("f32", "bf16")}
    print({name: f"{peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()})
    rows = []
    for encoder in arguments.encoders.split(","):
        rows += compare_engines(encoder, arguments.rounds, peaks)
        show(rows[-5:], f"{encoder}, 224 x 224, arrays")
    files = compare_end_to_end(arguments.rounds)
    show(files, "MobileNetV2 from PNG files")
    if arguments.encoders == ",".join(CASES):
        results = {"arrays": rows, "files": files, "peak_flops": peaks}
        print(Path(keep("extraction", results, rounds=arguments.rounds)).name)


if __name__ == "__main__":
    main()
