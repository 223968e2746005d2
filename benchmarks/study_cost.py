"""What a study costs beside the fits: telling samples and models apart, keeping and finding folds.

``python -m benchmarks.study_cost``: processor seconds on BUSI, of which a fold of five tests 156
scans; beside them the seconds that fits of such folds take at the least. Masks are of 300 x 384.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks._report import keep, load_real_busi, show
from hybridus import make_preset
from hybridus.protocol.digests import digest_of, digest_of_data
from hybridus.protocol.study import Study

N_TESTED = 156


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of a second call, the first of which may read files."""
    work()
    started = time.process_time()
    work()
    return time.process_time() - started


def rectangles() -> np.ndarray:
    """Predicted masks, as segmenters give them at the size of each scan."""
    masks = np.empty(N_TESTED, dtype=object)
    for i in range(N_TESTED):
        masks[i] = np.zeros((300, 384, 1), np.uint8)
        masks[i][60 : 160 + i % 9, 80:240] = 1
    return masks


def main() -> None:
    busi = load_real_busi()
    rng = np.random.default_rng(0)
    common = {"scores": {"score": 0.5}, "test": np.arange(N_TESTED)}
    folds = {
        "classes and probabilities": {
            "predictions": rng.integers(0, 3, N_TESTED),
            "decisions": rng.random((N_TESTED, 3)),
            **common,
        },
        "masks": {"predictions": rectangles(), **common},
    }
    X, y, groups, masks = busi.images, busi.target, busi.groups, busi.masks
    fusion = make_preset("fusion-logreg", random_state=0)
    rows = [
        {
            "what": f"tell {len(X)} scans, classes and groups apart, once a run",
            "seconds": seconds(lambda: digest_of_data(X, y, groups, classes=True)),
        },
        {
            "what": f"tell {len(X)} scans, masks and groups apart, once a run",
            "seconds": seconds(lambda: digest_of_data(X, masks, groups, classes=False)),
        },
        {
            "what": "tell a model of three encoders apart, once a run",
            "seconds": seconds(lambda: digest_of(fusion)),
        },
    ]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(folder)
        for name, fields in folds.items():

            def store(name: str = name, fields: dict = fields) -> None:
                with study.claim(name):
                    study.keep(name, fields)

            rows.append({"what": f"keep a fold: {name}", "seconds": seconds(store)})
            rows[-1]["bytes"] = sum(file.stat().st_size for file in Path(folder).glob(f"{name}.*"))
            found = seconds(lambda name=name: study.recall(name))
            rows.append({"what": f"find a fold: {name}", "seconds": found})
    features, labels = rng.normal(size=(624, 1280)), rng.integers(0, 3, 624)
    head = LogisticRegression(C=0.003, max_iter=200)
    rows.append(
        {
            "what": "beside it: fit one logistic regression on 624 x 1280 features",
            "seconds": seconds(lambda: head.fit(features, labels)),
        }
    )
    show(rows, "Processor seconds of a study")
    print(keep("study_cost", rows).name)


if __name__ == "__main__":
    main()
