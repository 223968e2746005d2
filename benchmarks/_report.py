"""What every benchmark does alike: find the data, describe the machine, print and keep results."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hybridus.inputs.files import replacing

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHARED = Path(os.environ.get("HYBRIDUS_SHARED", ROOT.parent / "shared"))
_PACKAGES = ("hybridus", "numpy", "scikit-learn", "tensorflow", "keras", "openvino", "pillow")


def use_real_weights() -> None:
    """Find the ImageNet weights beside the project, unless the caller says where they are."""
    os.environ.setdefault("HYBRIDUS_WEIGHTS", str(SHARED / "weights"))


def load_real_busi(**options: Any) -> Any:
    """BUSI with its duplicate groups; images whose duplicates bear another class are left out."""
    from hybridus import load_busi

    return load_busi(
        SHARED / "data" / "Dataset_BUSI_with_GT",
        curation=SHARED / "data" / "busi_curation.csv",
        exclude=("multiclass",),
        **options,
    )


def machine() -> dict[str, Any]:
    """Describe processor, cores and versions."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def keep(name: str, results: Any, **settings: Any) -> Path:
    """Write ``results/NAME.json`` with the settings, the command, the machine and the versions."""
    file = RESULTS / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    content = {
        "command": " ".join(["python -m", f"benchmarks.{name}", *sys.argv[1:]]),
        "settings": settings,
        "machine": machine(),
        "results": results,
    }
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=float) + "\n")
    return file


def in_process(module: str, part: str, argument: str, **environment: str) -> Any:
    """Run one measurement of ``benchmarks.MODULE`` in a process of its own.

    None, and a line that says why, where it fails, as where a peer is absent.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", "--measure", part, argument]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        print(f"{part} {argument}: left out ({done.stderr.strip().splitlines()[-1]})")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Part:
    """One table of a benchmark: ``measure(argument)`` runs in a process of its own for each row."""

    title: str
    measure: Callable[[str], Any]
    rows: Callable[[], list[dict[str, Any]]]


def run_parts(name: str, description: str, parts: Mapping[str, Part]) -> None:
    """Run the parts that the command line asks for; others stay in the results as they are."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--parts", default=",".join(parts))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_real_weights()
    if arguments.measure:
        part, argument = arguments.measure
        warnings.simplefilter("ignore")
        print(json.dumps(parts[part].measure(argument)))
        return
    file = RESULTS / f"{name}.json"
    results = json.loads(file.read_text())["results"] if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("HYBRIDUS_CACHE", folder)
        for part in arguments.parts.split(","):
            results[part] = parts[part].rows()
            show(results[part], parts[part].title)
            keep(name, results)


def show(rows: list[dict[str, Any]], title: str) -> None:
    """Print rows of equal keys as a plain table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(column, "")) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)
    ]
    print(f"\n{title}")
    for line in [columns, ["-" * width for width in widths], *cells]:
        padded = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(padded), flush=True)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
