"""Answer: which model to use and how sure that is, in two plain sentences, and what limits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from hybridus.protocol.comparison import Comparison

HEADINGS = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "macro_ovr_auc": "macro AUC",
    "dice": "Dice",
    "iou": "IoU",
    "hausdorff_95": "HD95 (pixels)",
    "false_positive_rate": "false alarms",
}


def heading(metric: str) -> str:
    """Name of a score as readers know it."""
    return HEADINGS.get(metric, metric.replace("_", " "))


def say_answer(comparison: Comparison) -> list[str]:
    """Say which model to use, and how sure that is.

    Returns
    -------
    list of str
        Two sentences, made of the verdicts of `Comparison.differences`.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.svm import SVC
    >>> from hybridus import compare
    >>> from hybridus.report.answer import say_answer
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"svm": SVC(), "bayes": GaussianNB()}, X, y, groups="independent")
    >>> say_answer(found)[0]
    'Use bayes: it reaches an accuracy of 0.972 (95 % interval 0.946 to 0.995).'
    """
    table, metric = comparison.table, comparison.metrics[0]
    best = str(table.index[0])
    reached = f"{_article(heading(metric))} of {_score(comparison, best, metric)}"
    if len(table) == 1:
        return [
            f"{best} reaches {reached}.",
            "It is the only model that was compared, so nothing is said of others.",
        ]
    with_best = comparison.differences.loc[best]
    settled = with_best["verdict"] == "settled"
    beaten, rest = _listed(with_best.index[settled]), list(with_best.index[~settled])
    if not rest:
        nearest = with_best.iloc[0]
        others = str(with_best.index[0]) if len(with_best) == 1 else "every other model"
        by = _difference(nearest) if len(with_best) == 1 else f"{nearest['difference']:.3f} or more"
        return [
            f"Use {best}: it reaches {reached}.",
            f"That is settled: it is better than {others} by {by}, and would be expected to be so "
            "too if all were fitted anew on other data of this kind.",
        ]
    seconds = table["fit_seconds"] + table["score_seconds"]
    fastest = str(seconds[[best, *rest]].idxmin())
    choice = f"of {'these two' if len(rest) == 1 else 'these'}, {fastest} is the fastest to fit"
    if beaten:
        return [
            f"Use {best} or {_listed(rest, 'or')}: these data do not tell them apart; {best} "
            f"scored highest and reaches {reached}.",
            f"It is settled that {best} is better than {beaten}, and open against "
            f"{_listed(rest)}; {choice}.",
        ]
    return [
        f"No model is shown to be the best: {best} scored highest and reaches {reached}, but no "
        "difference between it and another is settled.",
        f"So choose by what else matters: {choice} ({seconds[fastest]:.1f} s a fold, "
        f"against {seconds[best]:.1f} s of {best})."
        if fastest != best
        else f"So choose by what else matters: {choice} too ({seconds[best]:.1f} s a fold).",
    ]


def say_limits(comparison: Comparison) -> list[str]:
    """Say what a reader must know beside the answer, gravest first."""
    said = []
    metric, best = comparison.metrics[0], comparison.table.index[0]
    row = comparison.intervals.to_dict("index")[best, metric]
    one = next(result for result in comparison.results if result.model == best)
    if metric == "accuracy" and one.truth is not None:
        truth = np.concatenate(
            [result.truth for result in comparison.results if result.model == best]  # type: ignore[misc]
        )
        most = float(np.unique(truth, return_counts=True)[1].max() / len(truth))
        if not row["low"] > most:
            said.append(
                "Even the best is not shown to be better than always answering with the most "
                f"frequent class, which is right for {most:.3f} of the images."
            )
    if comparison.split.endswith("groups unknown"):
        said.append(
            "Nobody said which images belong together: if duplicates stand on both sides of a "
            "split, every score flatters."
        )
    failed = comparison.failures["model"].unique().tolist()
    if failed:
        said.append(f"{_listed(failed)} failed and {'is' if len(failed) == 1 else 'are'} left out.")
    if len(comparison.table) > 1:
        said.append(
            f"The best was chosen of {len(comparison.table)} on the same folds that are reported, "
            "which flatters it slightly."
        )
    for name, there in comparison.external.items():
        if best in there.table.index:
            reached = _score(there, best, metric)
            said.append(
                f"On {name}, which it was not fitted on, {best} reaches {reached}: expect that of "
                "other sets like it, not the score above."
            )
    if not comparison.external:
        said.append("All this is about other data of the same kind, not about another hospital.")
    return said


def _score(comparison: Comparison, model: Any, metric: str) -> str:
    row = comparison.intervals.to_dict("index")[model, metric]
    if not np.isfinite(row["low"]):
        return f"{row['mean']:.3f}"
    return f"{row['mean']:.3f} (95 % interval {row['low']:.3f} to {row['high']:.3f})"


def _difference(row: pd.Series) -> str:
    known = f"{row['difference']:.3f}"
    if not np.isfinite(row["low"]):
        return known
    return f"{known} (95 % interval {row['low']:.3f} to {row['high']:.3f})"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiouAEIOU" else f"a {noun}"


def _listed(names: Any, last: str = "and") -> str:
    """Join names as prose does."""
    *first, final = [str(name) for name in names] or [""]
    return f"{', '.join(first)} {last} {final}" if first else final
