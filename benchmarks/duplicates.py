"""Duplicates: found against published ones of BUSI, beside correlation and a perceptual hash.

``python -m benchmarks.duplicates [--parts busi,growth] [--counts 1000,3000] [--sheets FOLDER]``:
recall and precision on pairs, thresholds tuned on saved-again phantoms and one half of BUSI and
tested on the other half, in both directions; and time, memory and recall of planted copies.
The sheets show the pairs that the publication lacks, and those that are missed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._report import RESULTS, ROOT, SHARED, keep, show
from benchmarks._saved_again import save_again
from hybridus import load_busi, make_breast_phantoms, near_duplicate_groups
from hybridus.inputs.images import as_images
from hybridus.protocol.auditing.contact_sheet import PairToDraw, draw_pairs
from hybridus.protocol.auditing.thumbnails import grey, make_thumbnail
from hybridus.protocol.duplicates import LEAST_SIMILARITY, _join, find_duplicates

PLANTED = 20  # one of so many files is a copy of another

Pairs = set[tuple[int, int]]


def pairs_of(groups: np.ndarray) -> Pairs:
    """All pairs within groups."""
    found: Pairs = set()
    for group in np.unique(groups):
        found |= set(combinations(np.flatnonzero(groups == group).tolist(), 2))
    return found


def rates(found: Pairs, known: Pairs) -> tuple[float, float]:
    """Recall and precision."""
    right = len(found & known)
    return right / len(known), right / max(len(found), 1)


class Registered:
    """hybridus: pairs in one group, by the threshold of similarity."""

    name = "hybridus"
    thresholds = np.arange(0.5, 0.91, 0.025)

    def __init__(self, images: list[np.ndarray]) -> None:
        self.thumbnails = [make_thumbnail(image) for image in images]
        self.known: dict[bytes, Any] = {}

    def pairs(self, chosen: np.ndarray, threshold: float) -> Pairs:
        """Find pairs among the images chosen, by their places among them."""
        key = chosen.tobytes()
        if key not in self.known:
            some = [self.thumbnails[i] for i in chosen]
            self.known[key] = find_duplicates(some, self.thresholds[0]).pairs
        table = self.known[key]
        return pairs_of(_join(table[table["similarity"] >= threshold], len(chosen)))


class Correlation:
    """Correlation of pictures of 32 x 32, one of them also mirrored."""

    name = "correlation, 32 x 32"
    thresholds = np.arange(0.8, 0.995, 0.005)

    def __init__(self, images: list[np.ndarray]) -> None:
        def small(image: np.ndarray) -> np.ndarray:
            cells = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
            return (cells - cells.mean()).ravel() / (cells.std() * 32)

        rows = np.stack([small(image) for image in images])
        mirrored = np.stack([small(image[:, ::-1]) for image in images])
        self.likeness = np.maximum(rows @ rows.T, rows @ mirrored.T)

    def pairs(self, chosen: np.ndarray, threshold: float) -> Pairs:
        """Find pairs among the images chosen, by their places among them."""
        alike = np.triu(self.likeness[np.ix_(chosen, chosen)] >= threshold, 1)
        return set(zip(*(at.tolist() for at in np.nonzero(alike)), strict=True))


class PerceptualHash(Correlation):
    """imagehash.phash of 64 bits: share of equal bits, one picture also mirrored."""

    name = "imagehash.phash, 64 bits"
    thresholds = np.arange(0.6, 1.0, 1 / 64)

    def __init__(self, images: list[np.ndarray]) -> None:
        from imagehash import phash

        def bits(image: np.ndarray) -> np.ndarray:
            picture = Image.fromarray(np.ascontiguousarray(image))
            return np.where(phash(picture).hash.ravel(), 1.0, -1.0)

        rows = np.stack([bits(image) for image in images])
        mirrored = np.stack([bits(image[:, ::-1]) for image in images])
        self.likeness = np.maximum(rows @ rows.T, rows @ mirrored.T) / 128 + 0.5


def f1(found: Pairs, known: Pairs) -> float:
    return 2 * len(found & known) / (len(found) + len(known))


def tuned(of_phantoms: Any, of_busi: Any, half: np.ndarray, truths: tuple[Pairs, Pairs]) -> float:
    """Threshold of the best F1 on phantoms and a half of BUSI; of several, the middle one."""
    all_phantoms = np.arange(2 * N_PHANTOMS)
    scores = [
        f1(of_phantoms.pairs(all_phantoms, threshold), truths[0])
        + f1(of_busi.pairs(half, threshold), truths[1])
        for threshold in of_busi.thresholds
    ]
    best = np.flatnonzero(np.isclose(scores, max(scores)))
    return float(of_busi.thresholds[best[len(best) // 2]])


N_PHANTOMS = 200
LOWER = 0.55  # where neighbouring frames of one lesion are found, too


def measure_busi(sheets: Path | None) -> list[dict[str, Any]]:
    """Recall and precision of all methods."""
    random = np.random.default_rng(0)
    phantoms = list(make_breast_phantoms(N_PHANTOMS, random_state=1).images)
    phantoms += [save_again(image, random)[0] for image in phantoms]
    of_phantoms = pairs_of(np.tile(np.arange(N_PHANTOMS), 2))
    data = SHARED / "data"
    busi = load_busi(data / "Dataset_BUSI_with_GT", curation=data / "busi_curation.csv")
    scans = [grey(image) for image in as_images(busi.images)]
    group = np.unique(busi.groups, return_inverse=True)[1]
    side = random.permutation(group.max() + 1)[group] % 2
    halves = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
    rows: list[dict[str, Any]] = []
    for method in (Correlation, PerceptualHash, Registered):
        try:
            on_phantoms, on_busi = method(phantoms), method(scans)
        except ImportError as error:
            print(f"{method.name}: left out ({error})")
            continue
        for tune, test in (halves, halves[::-1]):
            known = pairs_of(group[tune])
            threshold = tuned(on_phantoms, on_busi, tune, (of_phantoms, known))
            found, wanted = on_busi.pairs(test, threshold), pairs_of(group[test])
            rows.append(row(method.name, f"tuned: {threshold:.3g}", "other half", found, wanted))
    started = time.process_time()
    found, wanted = pairs_of(near_duplicate_groups(busi.images)), pairs_of(group)
    seconds = time.process_time() - started
    rows.append(
        row("hybridus", f"default: {LEAST_SIMILARITY}", "all of BUSI", found, wanted)
        | {"CPU seconds": seconds}
    )
    on_phantoms = pairs_of(near_duplicate_groups(phantoms))
    rows.append(row("hybridus", "default", "phantoms saved again", on_phantoms, of_phantoms))
    lower = Registered(scans).pairs(np.arange(len(scans)), LOWER)
    rows.append(row("hybridus", f"lower: {LOWER}", "all of BUSI", lower, wanted))
    print_and_draw(
        sheets,
        busi,
        scans,
        {"missed": wanted - found, "found": found - wanted, f"found at {LOWER}": lower - wanted},
    )
    return rows


def row(method: str, threshold: str, tested: str, found: Pairs, known: Pairs) -> dict[str, Any]:
    recall, precision = rates(found, known)
    return {
        "method": method,
        "threshold": threshold,
        "tested on": tested,
        "recall": recall,
        "precision": precision,
        "known": len(known),
        "found": len(found),
    }


def print_and_draw(
    sheets: Path | None, busi: Any, scans: list[np.ndarray], pairs: dict[str, Pairs]
) -> None:
    """Name the pairs in which we differ from the publication, and draw them."""
    for what, some in pairs.items():
        names = [(busi.filenames[i], busi.filenames[j]) for i, j in sorted(some)]
        print(f"{what}, against the publication: {len(names)}")
        for one, other in names:
            print(f"  {one} | {other}")
        if sheets is not None and some:
            sheets.mkdir(parents=True, exist_ok=True)
            titles = [f"{one.split('/')[1]} | {other.split('/')[1]}" for one, other in names]
            drawn = [
                PairToDraw(*pair, title) for pair, title in zip(sorted(some), titles, strict=True)
            ]
            draw_pairs(scans, drawn).save(sheets / f"{what}.png")


def write_files(folder: Path, count: int) -> None:
    """Fetal scans and phantoms, and of every twentieth a copy, in a random order.

    Each is written in four rotations, which are no duplicates as hybridus means them: that is four
    times faster than to simulate as many.
    """
    random = np.random.default_rng(0)
    n_copies = count // PLANTED
    n_scans = count - n_copies
    fetal = sorted((SHARED / "data" / "fetal_head_ultrasound").glob("*.jpg"))[: count // 40]
    scans = [np.asarray(Image.open(file).convert("L")) for file in fetal]
    n_phantoms = -(-n_scans // 4) - len(scans)
    scans += list(make_breast_phantoms(n_phantoms, random_state=2).images)
    scans = [np.rot90(scan, turns) for scan in scans for turns in range(4)][:n_scans]
    of = random.choice(len(scans), n_copies, replace=False)
    names = random.permutation(count)
    for number, (name, image) in enumerate(zip(names, scans, strict=False)):
        Image.fromarray(np.ascontiguousarray(image)).save(
            folder / f"{name:05d}_{number}.png", compress_level=1
        )
    for name, number in zip(names[len(scans) :], of, strict=True):
        copy = save_again(scans[number], random)[0]
        Image.fromarray(copy).save(folder / f"{name:05d}_{number}.png", compress_level=1)


def measure_growth(folder: str) -> None:
    """Run in a process of its own."""
    paths = sorted(Path(folder).glob("*.png"))
    known = pairs_of(np.array([int(path.stem.split("_")[1]) for path in paths]))
    started, used = time.perf_counter(), time.process_time()
    found = pairs_of(near_duplicate_groups(paths))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    recall = rates(found, known)[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    others = len(found - known)
    print(json.dumps([len(paths), seconds, used, peak, len(known), recall, others]))


def growth(counts: list[int], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time, memory and recall of planted copies; other counts stay as they were measured."""
    rows = [row for row in before if row["files"] not in counts]
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), count)
            command = [sys.executable, "-m", "benchmarks.duplicates", "--growth", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        names = ("files", "seconds", "CPU seconds", "peak GiB", "planted", "recall", "other pairs")
        rows.append(dict(zip(names, json.loads(done.stdout), strict=True)))
        show(rows[-1:], f"{count} files")
    return sorted(rows, key=lambda row: row["files"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="busi,growth")
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--counts", default="1000,3000,10000")
    parser.add_argument("--growth", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.growth:
        measure_growth(arguments.growth)
        return
    file = RESULTS / "duplicates.json"
    results = json.loads(file.read_text())["results"] if file.exists() else {}
    for part in arguments.parts.split(","):
        if part == "busi":
            results[part] = measure_busi(arguments.sheets)
        else:
            counts = [int(count) for count in arguments.counts.split(",")]
            results[part] = growth(counts, results.get(part, []))
        show(results[part], {"busi": "Duplicates of BUSI", "growth": "Growth"}[part])
        keep("duplicates", results)


if __name__ == "__main__":
    main()
