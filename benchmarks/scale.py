"""Scale: what many images cost.

``python -m benchmarks.scale [--parts growth,million]``: files of 64 pixels through `extract`, in
processes of their own, and searches of a million rows. Files and rows, 2 GB, stay in the folder
``HYBRIDUS_SCALE`` (default: one in the system's temporary folder) for the next part.
"""

from benchmarks import _growth
from benchmarks._report import Part, run_parts

PARTS = {
    "growth": Part(
        "Extraction of more and more files", _growth.measure_growth, _growth.growth_rows
    ),
    "million": Part("A million rows", _growth.measure_million, _growth.million_rows),
}


if __name__ == "__main__":
    run_parts("scale", __doc__.splitlines()[0], PARTS)
