"""Scale: what many images cost, and what workers are worth.

``python -m benchmarks.scale [--parts growth,million,cluster,search,arrays,cold]``: files of 64
pixels through `extract`, in processes of their own, and searches of a million rows; real scans
over workers of Dask and of joblib, and searches of 12 candidates, warm and cold. Files and rows of
the first two, 2 GB, stay in the folder ``HYBRIDUS_SCALE`` (default: one in the system's temporary
folder) for the next part.
"""

from benchmarks import _growth, _workers
from benchmarks._report import Part, run_parts

PARTS = {
    "growth": Part(
        "Extraction of more and more files", _growth.measure_growth, _growth.growth_rows
    ),
    "million": Part("A million rows", _growth.measure_million, _growth.million_rows),
    "cluster": Part(
        "Extraction by a LocalCluster", _workers.measure_cluster, _workers.cluster_rows
    ),
    "search": Part(
        "A search under Dask: each image is encoded once",
        _workers.measure_search,
        _workers.search_rows,
    ),
    "arrays": Part("Warm searches, 1 process", _workers.measure_arrays, _workers.array_rows),
    "cold": Part(
        "A cold search, opening of the network included",
        _workers.measure_cold,
        _workers.cold_rows,
    ),
}


if __name__ == "__main__":
    run_parts("scale", __doc__.splitlines()[0], PARTS)
