"""How often a difference is claimed where there is none, and found where there is one.

``python -m benchmarks.false_alarms [--comparisons 100] [--parts alarms,coverage,power]``: each row
is that many comparisons of cheap estimators on data that were drawn anew (the phantoms: labelled
anew), by `hybridus.compare` with five folds, beside the tests that are usual. Where there are more
than two models, only our own p values are corrected for the number of pairs. True differences and
accuracies are those of fits on training parts of the same size, judged on 20,000 fresh samples.
"""

import argparse
import functools
import json
import warnings

import numpy as np
from joblib import Parallel, delayed
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from benchmarks._report import RESULTS, keep, show
from hybridus import compare, make_breast_phantoms
from hybridus.protocol.resampling import is_right
from hybridus.protocol.statistics import mcnemar_test

N_FEATURES = 20


def first(n):
    """Leave the first n features."""
    return FunctionTransformer(_columns, kw_args={"start": 0, "stop": n})


def last(n):
    """Leave the last n features."""
    return FunctionTransformer(_columns, kw_args={"start": -n, "stop": None})


def _columns(X, start, stop):
    return X[:, start:stop]


def halves(model):
    """Two models that learn equally much, from either half of the features."""
    n = N_FEATURES // 2
    return {"first": make_pipeline(first(n), model), "last": make_pipeline(last(n), model)}


def tree():
    return DecisionTreeClassifier(random_state=0)


def different():
    return {"lda": LinearDiscriminantAnalysis(), "tree": tree()}


def four():
    return different() | {"bayes": GaussianNB(), "knn": KNeighborsClassifier()}


def drawn(seed, n_groups, signal, most_copies):
    """Draw two classes, alike in number; each sample up to so often, but for a little noise."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1], n_groups // 2))
    X = rng.normal(size=(n_groups, N_FEATURES)) + signal * y[:, np.newaxis]
    groups = np.repeat(np.arange(n_groups), rng.integers(1, most_copies + 1, n_groups))
    return X[groups] + 0.05 * rng.normal(size=(len(groups), N_FEATURES)), y[groups], groups


@functools.cache
def _phantoms():
    """Mean brightness in 6 x 6 fields of phantoms, each seen a second time, mirrored."""
    images = make_breast_phantoms(200, image_size=48, random_state=0).images.astype(float)
    seen = np.concatenate([images, images[:, :, ::-1]])
    return seen.reshape(len(seen), 6, 8, 6, 8).mean(axis=(2, 4)).reshape(len(seen), -1)


def phantoms(seed):
    """Phantoms, each and its mirror image a group, with labels that mean nothing."""
    y = np.random.default_rng(seed).permutation(np.repeat([0, 1], 100))
    return _phantoms(), np.tile(y, 2), np.tile(np.arange(200), 2)


def compared(data, models, n_repeats=1):
    """Compare models on one draw of data."""
    X, y, groups = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scoring = ["accuracy", "roc_auc"]
        return compare(models, X, y, groups=groups, n_repeats=n_repeats, scoring=scoring)


def p_values(found):
    """P values of all tests: the smallest of all pairs, after Holm's correction by us alone."""
    table, of_areas = found.differences, found.differences_in("roc_auc")
    by_model = {
        name: [result for result in found.results if result.model == name]
        for name in found.table.index
    }
    usual = {"McNemar, image by image": [], "paired t over folds": []}
    for pair in table.index:
        one, other = (by_model[name] for name in pair)
        right = [np.concatenate([is_right(r) for r in each]) for each in (one, other)]
        usual["McNemar, image by image"].append(mcnemar_test(right[0].astype(int) - right[1]))
        scores = [[r.scores["accuracy"] for r in each] for each in (one, other)]
        usual["paired t over folds"].append(stats.ttest_rel(*scores).pvalue)
    return {
        "hybridus": table["p_holm"].min(),
        "hybridus, area": of_areas["p_holm"].min(),
        "corrected t over folds": table["p_folds"].min(),
        "bootstrap of groups": table["p_bootstrap"].min(),
        "McNemar, vote of groups": table["p_mcnemar"].min(),
        "DeLong, groups": of_areas["p_delong"].min(),
        **{
            name: np.nanmin(values) if np.isfinite(values).any() else 1
            for name, values in usual.items()
        },
    }


# Nothing differs in any of them; in the last there is something to learn, the same for both.
NOTHING = {
    "phantoms and mirror images, labels shuffled": (phantoms, different, 1),
    "200 samples, labels shuffled": (lambda s: drawn(s, 200, 0, 1), different, 1),
    "60 samples, labels shuffled": (lambda s: drawn(s, 60, 0, 1), different, 1),
    "200 groups of 1 to 4 copies, labels shuffled": (lambda s: drawn(s, 200, 0, 4), different, 1),
    "the same, folds drawn 3 times": (lambda s: drawn(s, 200, 0, 4), different, 3),
    "the same, four models, any of six pairs": (lambda s: drawn(s, 200, 0, 4), four, 1),
    "equally good linear models, 1 to 4 copies": (
        lambda s: drawn(s, 200, 0.3, 4),
        lambda: halves(LinearDiscriminantAnalysis()),
        1,
    ),
}


def alarms(n):
    """Share of comparisons that each test calls significant, where nothing differs."""
    rows = []
    for name, (data, models, n_repeats) in NOTHING.items():
        found = many(lambda seed, what=(data, models, n_repeats): _alarm(seed, *what), n)
        shares = {test: 100 * np.mean([one[test] < 0.05 for one in found]) for test in found[0]}
        rows.append({"false alarms in 100": name, **shares})
        show(rows[-1:], "")
    return rows


def _alarm(seed, data, models, n_repeats):
    return p_values(compared(data(seed), models(), n_repeats))


def many(function, n):
    """Call a function with 0 to n - 1, in two processes."""
    return Parallel(n_jobs=2)(delayed(function)(seed) for seed in range(n))


def true_accuracy(model, n_groups, signal, n_fits=50):
    """Mean accuracy of fits on four fifths of so many groups, on fresh samples."""
    test, truth, _ = drawn(10_000, 20_000, signal, 1)
    scores = []
    for seed in range(n_fits):
        X, y, groups = drawn(20_000 + seed, n_groups, signal, 2)
        train = groups < 0.8 * n_groups
        scores.append(model.fit(X[train], y[train]).score(test, truth))
    return float(np.mean(scores))


def power(n):
    """How often a true difference is settled, against what was promised."""
    rows = []
    for n_features, n_groups in ((10, 200), (5, 200), (2, 200)):
        signal = 0.3
        models = {
            "all": LinearDiscriminantAnalysis(),
            "fewer": make_pipeline(first(n_features), LinearDiscriminantAnalysis()),
        }
        name = f"{N_FEATURES} features against {n_features}"
        rows.append({"models": name, **_settled(models, n_groups, signal, n)})
        show(rows[-1:], "")
        factor = (rows[-1]["detectable"] / rows[-1]["true difference"]) ** 2
        if 1 < factor < 4:
            row = _settled(models, 2 * round(factor * n_groups / 2), signal, n)
            rows.append({"models": "the same, with the groups called for", **row})
            show(rows[-1:], "")
    return rows


def _settled(models, n_groups, signal, n):
    true = {name: true_accuracy(model, n_groups, signal) for name, model in models.items()}
    of_all = many(
        lambda seed: compared(drawn(seed, n_groups, signal, 2), models).differences.iloc[0], n
    )
    settled = [row["p_holm"] < 0.05 and row.name[0] == "all" for row in of_all]
    return {
        "groups": n_groups,
        "true difference": true["all"] - true["fewer"],
        "detectable": float(np.mean([row["detectable"] for row in of_all])),
        "settled in 100": 100 * np.mean(settled),
        "the wrong way": 100
        * np.mean([row["p_holm"] < 0.05 and row.name[0] != "all" for row in of_all]),
        "p_folds below 0.05": 100 * np.mean([row["p_folds"] < 0.05 for row in of_all]),
    }


def coverage(n):
    """How often 95 % intervals hold what is true of models fitted anew."""
    rows = []
    for n_groups, copies in ((60, 1), (200, 1), (200, 4)):
        signal = 0.3
        models = {"lda": LinearDiscriminantAnalysis(), "tree": tree()}
        true = {name: true_accuracy(model, n_groups, signal) for name, model in models.items()}
        given = n_groups, signal, copies
        held = many(
            lambda seed, given=given, what=(models, true): _held(drawn(seed, *given), *what), n
        )
        rows.append(
            {"intervals that hold the truth, in 100": f"{n_groups} groups of 1 to {copies}"}
            | {name: 100 * np.mean([one[name] for one in held]) for name in held[0]}
        )
        show(rows[-1:], "")
    return rows


def _held(data, models, true):
    """Tell which intervals of a comparison hold what is true."""
    found = compared(data, models)
    rows = {name: found.intervals.loc[(name, "accuracy")] for name in models}
    held = {
        f"accuracy, {name}": row["low"] <= true[name] <= row["high"] for name, row in rows.items()
    }
    row = found.differences.iloc[0]
    difference = true[row.name[0]] - true[row.name[1]]
    return held | {"difference": row["low"] <= difference <= row["high"]}


PARTS = {"alarms": alarms, "coverage": coverage, "power": power}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=100)
    parser.add_argument("--parts", default=",".join(PARTS))
    arguments = parser.parse_args()
    file = RESULTS / "false_alarms.json"
    for part in arguments.parts.split(","):
        rows = PARTS[part](arguments.comparisons)
        show(rows, PARTS[part].__doc__.splitlines()[0])
        results = json.loads(file.read_text())["results"] if file.exists() else {}
        keep("false_alarms", results | {part: rows}, comparisons=arguments.comparisons)


if __name__ == "__main__":
    from benchmarks.false_alarms import main  # by their names, processes find functions again

    main()
