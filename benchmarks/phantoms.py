"""The simulated scans: their speed, what brightness gives away, and a picture for the README.

``python -m benchmarks.phantoms``: 1,000 phantoms of 128 x 128 on one core; cross-validated accuracy
of mean and standard deviation of brightness alone (chance is a third); writes results/phantoms.png.
"""

import time

import numpy as np
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from benchmarks._report import RESULTS, keep, show
from hybridus import make_breast_phantoms
from hybridus.inputs.files import replacing

COLUMNS, SIDE = 7, 160


def draw_sheet() -> None:
    """Rows of normal, malignant and benign phantoms, as a small grey PNG."""
    drawn = make_breast_phantoms(60, image_size=SIDE, random_state=7)
    rows = [
        np.hstack([np.pad(image, 1) for image in drawn.images[drawn.target == label][:COLUMNS]])
        for label in range(3)
    ]
    sheet = Image.fromarray(np.vstack(rows)).quantize(48)
    RESULTS.mkdir(exist_ok=True)
    with replacing(RESULTS / "phantoms.png") as temporary:
        sheet.save(temporary, optimize=True)


def main() -> None:
    with threadpool_limits(1):
        started, cpu = time.perf_counter(), time.process_time()
        phantoms = make_breast_phantoms(1000, image_size=128, random_state=0)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    brightness = np.column_stack(
        [phantoms.images.mean(axis=(1, 2)), phantoms.images.std(axis=(1, 2))]
    )
    heads = {
        "logistic regression": LogisticRegression(),
        "RBF-SVM": SVC(C=10),
        "random forest": RandomForestClassifier(random_state=0),
    }
    rows = [
        {
            "head on mean and deviation of brightness": name,
            "accuracy": cross_val_score(
                make_pipeline(StandardScaler(), head), brightness, phantoms.target, cv=5
            ).mean(),
        }
        for name, head in heads.items()
    ]
    show(rows, "1,000 phantoms, three classes, 5 folds; chance is .333")
    print(f"1,000 phantoms of 128 x 128: {seconds:.1f} s, {cpu:.1f} s of processor time")
    draw_sheet()
    results = {"seconds": seconds, "processor_seconds": cpu, "brightness_alone": rows}
    print(keep("phantoms", results, n_samples=1000, image_size=128, random_state=0).name)


if __name__ == "__main__":
    main()
