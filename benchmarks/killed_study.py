"""Studies under `kill -9`: killed at random moments, run again, beside a run that nobody disturbed.

``python -m benchmarks.killed_study [--kills 10]``: for each way a study is begun ten times, killed
once a random number of folds have begun and a random part of a fold has passed, and the same
command is run again. What is counted: folds that were kept when it was killed and were fitted again
afterwards, and tables that differ from those of the undisturbed run in anything but seconds. Ways:
the command on phantoms with the bundled weights; `compare` on their features, one fold at a time
and two (the workers outlive their killed parent for a while); two runs that share a study, of which
one is killed. Without a study the second run would fit all folds again.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from benchmarks._report import ROOT, keep, show

WAYS = {
    "command": "hybridus compare",
    "one": "compare",
    "two": "compare, n_jobs=2",
    "shared": "compare, two runs, one killed",
}
N_FOLDS = {"command": 10, "one": 15, "two": 15, "shared": 15}
LOG = "KILLED_STUDY_LOG"


def note_folds() -> None:
    """Write a line as each fold begins to be fitted, in whichever process that is."""
    from hybridus.protocol import schedule

    fit = schedule._run

    def noted(job: Any, *args: Any) -> Any:
        with open(os.environ[LOG], "a") as log:
            log.write(f"{job.name} {job.repeat} {job.fold}\n")
        return fit(job, *args)

    schedule._run = noted


if LOG in os.environ and __name__ != "__main__":  # in workers too, which read `Scaled` from here
    note_folds()


def heads() -> dict[str, Any]:
    """Heads of different cost."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    return {
        "svm": SVC(),
        "logreg": LogisticRegression(C=0.01, max_iter=2000),
        "mlp": MLPClassifier((64,), max_iter=60, random_state=0),
    }


class Scaled(StandardScaler):
    """A class of this module, so that workers read it."""


def measure(way: str, folder: str) -> None:
    """Run one study in this process and write its tables."""
    from sklearn.pipeline import make_pipeline

    warnings.simplefilter("ignore")
    if way == "command":
        from hybridus.cli import main

        sys.argv = ["hybridus", "compare", "--models", "mobilenet_v2_0.35-svm", "--repeats", "2"]
        sys.argv += ["--out", folder]
        main()
        return
    from hybridus import compare

    with np.load(os.environ["KILLED_STUDY_FEATURES"]) as features:
        X, y = features["X"], features["y"]
    found = compare(
        {name: make_pipeline(Scaled(), head) for name, head in heads().items()},
        X,
        y,
        groups="independent",
        n_jobs=2 if way == "two" else None,
        study=f"{folder}/study",
    )
    found.table.to_csv(f"{folder}/table.csv")
    found.folds.to_csv(f"{folder}/folds.csv")
    found.predictions.to_csv(f"{folder}/predictions.csv")


def begin(way: str, folder: Path, log: Path) -> subprocess.Popen:
    """Start a study in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.killed_study", "--measure", way, str(folder)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, LOG: str(log), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def begun(log: Path) -> list[str]:
    """Folds whose fit has begun, as often as it has."""
    return log.read_text().splitlines() if log.exists() else []


def kept(folder: Path) -> set[str]:
    """Folds that lie whole in a study."""
    found = [json.loads(file.read_text())["plain"] for file in (folder / "study").glob("*.json")]
    return {f"{fold['model']} {fold['repeat']} {fold['fold']}" for fold in found}


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read what a study leaves, but for seconds."""
    timed = ["fit_seconds", "score_seconds", "command"]
    return {
        file.name: pd.read_csv(file).drop(columns=timed, errors="ignore")
        for file in sorted(folder.glob("*.csv"))
    }


def finish(process: subprocess.Popen) -> None:
    errors = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"a study ended with {process.returncode}: {errors[-2000:]}")


def kill_once(way: str, place: Path, drawn: random.Random, seconds: float) -> dict[str, Any]:
    """Begin a study, kill it, run it again; seconds are those of an undisturbed run's fold."""
    folder, logs = place / "out", [place / "first", place / "second"]
    folder.mkdir(parents=True)
    n_folds = N_FOLDS[way]
    first = begin(way, folder, logs[0])
    other = begin(way, folder, logs[1]) if way == "shared" else None
    wanted = drawn.randint(1, n_folds // 2 if other else n_folds)
    while len(begun(logs[0])) < wanted and first.poll() is None:
        time.sleep(0.002)
    time.sleep(drawn.uniform(0, seconds))
    first.send_signal(signal.SIGKILL)
    whole = kept(folder)
    before = len(begun(logs[1]))
    first.wait()
    finish(other or begin(way, folder, logs[1]))
    again = begun(logs[1])[before:]
    return {
        "whole": len(whole),
        "fitted after": len(again),
        "again": len(whole.intersection(again)),
        "begun twice": len(begun(logs[0]) + begun(logs[1])) - n_folds,
        "left over": len([file for file in (folder / "study").glob(".*") if file.is_file()]),
        "tables": tables(folder),
    }


def measure_way(way: str, place: Path, n_kills: int, seed: int) -> dict[str, Any]:
    """Kill a study at several moments."""
    drawn = random.Random(f"{seed} {way}")
    undisturbed = place / "undisturbed" / "out"
    undisturbed.mkdir(parents=True)
    log = undisturbed.parent / "log"
    process = begin(way, undisturbed, log)
    while not begun(log):
        time.sleep(0.01)
        if process.poll() is not None:
            finish(process)
    started = time.perf_counter()
    finish(process)
    seconds = (time.perf_counter() - started) / len(begun(log))
    expected = tables(undisturbed)
    kills = [kill_once(way, place / str(i), drawn, seconds) for i in range(n_kills)]
    differ = sum(
        found["tables"].keys() != expected.keys()
        or any(not found["tables"][name].equals(table) for name, table in expected.items())
        for found in kills
    )
    return {
        "way": WAYS[way],
        "kills": n_kills,
        "folds of a study": len(begun(log)),
        "whole when killed": " ".join(str(found["whole"]) for found in kills),
        "of these fitted again": sum(found["again"] for found in kills),
        "fitted after the kill": sum(found["fitted after"] for found in kills),
        "without a study": n_kills * len(begun(log)),
        "cut short, begun twice": sum(found["begun twice"] for found in kills),
        "half files left": sum(found["left over"] for found in kills),
        "tables that differ": differ,
    }


def write_features(file: Path) -> None:
    """Features of 240 phantoms by the bundled encoder."""
    from hybridus import DeepFeatureExtractor, make_breast_phantoms

    phantoms = make_breast_phantoms(240, random_state=0)
    extractor = DeepFeatureExtractor("mobilenet_v2_0.35", weights="bundled", image_size=96)
    np.savez(file, X=extractor.fit_transform(phantoms.images), y=phantoms.target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        # Under its own name, so that what it defines is found by workers.
        from benchmarks import killed_study

        killed_study.measure(*arguments.measure)
        return
    with tempfile.TemporaryDirectory() as place:
        os.environ.setdefault("HYBRIDUS_CACHE", f"{place}/cache")
        os.environ["KILLED_STUDY_FEATURES"] = f"{place}/features.npz"
        write_features(Path(place) / "features.npz")
        rows = []
        for way in arguments.ways.split(","):
            rows.append(measure_way(way, Path(place) / way, arguments.kills, arguments.seed))
            file = keep("killed_study", rows, kills=arguments.kills, seed=arguments.seed)
    show(rows, "Studies killed and run again")
    print(file.name)


if __name__ == "__main__":
    main()
