"""Findings: what is wrong or odd with a set of images, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybridus.inputs.names import as_text
from hybridus.protocol.auditing.shortcuts import SIGNIFICANT

Severity = Literal["alarm", "check", "note"]

# Share of the way from chance to certainty from which on a shortcut that is not clear is named.
_FAINT = 0.1
_SMALLEST_SIDE = 32  # pixels
_OTHER_SIZE = 3.0  # times or parts of the median side, or of the median aspect
_RARE = 0.1  # share below which colour, or the lack of it, is odd
_DEVIATIONS = 5.0  # of the median absolute deviation, from the median
_LEVELS = 40.0  # grey values that brightness or spread must differ by, at the least
_UNEVEN = 3.0  # times that the largest class is of the smallest
_FEW_SCANS = 20  # of a class
_LARGE_GROUP = 10, 0.02  # images, and share of all
_FULL = 0.95  # share of a mask


class Finding(NamedTuple):
    """One thing that was found.

    Attributes
    ----------
    kind : str
    severity : {"alarm", "check", "note"}
        An alarm makes figures wrong; a check is to be looked at; a note is to be known.
    what : str
    samples : list of int
        Positions of the images meant.
    advice : str
    """

    kind: str
    severity: Severity
    what: str
    samples: list[int]
    advice: str


def of_files(samples: pd.DataFrame) -> Iterator[Finding]:
    """Images that cannot be read, show nothing, or are odd beside the others."""
    unread = samples["error"] != ""
    if unread.any():
        yield Finding(
            "unreadable",
            "alarm",
            f"{unread.sum()} of {_count(len(samples), 'image')} cannot be read; the first: "
            f"{samples.loc[unread, 'error'].iloc[0]}",
            _positions(unread),
            "save them again, or leave them out; nothing else here counts them",
        )
    read = samples[~unread]
    if read["blank"].any():
        yield Finding(
            "blank",
            "check",
            f"{_count(read['blank'].sum(), 'image', ('shows', 'show'))} next to nothing: all "
            "pixels are about equal",
            _positions(samples["blank"] & ~unread),
            "leave them out",
        )
    yield from _odd_sizes(read)
    yield from _odd_colours(read)
    yield from _odd_brightness(read[~read["blank"].astype(bool)])


def _odd_sizes(read: pd.DataFrame) -> Iterator[Finding]:
    if read.empty:
        return
    sides = read[["height", "width"]]
    usual = float(np.median(sides.min(axis=1)))
    tiny = sides.min(axis=1) < min(_SMALLEST_SIDE, usual / 2)
    if tiny.any():
        yield Finding(
            "tiny",
            "check",
            f"{_count(tiny.sum(), 'image', ('is', 'are'))} less than {_SMALLEST_SIDE} pixels high "
            f"or wide, where {usual:.0f} are usual",
            read.index[tiny].tolist(),
            "are these previews or icons? Leave them out, or find the originals",
        )
    ratios = (sides / sides.median()).assign(aspect=read["width"] / read["height"])
    ratios["aspect"] /= ratios["aspect"].median()
    other = ratios.gt(_OTHER_SIZE).any(axis=1) | ratios.lt(1 / _OTHER_SIZE).any(axis=1)
    other &= ~tiny
    if other.any():
        yield Finding(
            "odd size",
            "check",
            f"{_count(other.sum(), 'image', ('is', 'are'))} of another height, width or aspect "
            f"than usual ({read['width'].median():.0f} x {read['height'].median():.0f}) by more "
            f"than {_OTHER_SIZE:.0f} times",
            read.index[other].tolist(),
            "look at them: another device, a screenshot, or a page with several scans?",
        )


def _odd_colours(read: pd.DataFrame) -> Iterator[Finding]:
    share = read["colour"].mean() if len(read) else 0
    for odd, name, others in ((True, "in colour", "grey"), (False, "grey", "in colour")):
        mine = share if odd else 1 - share
        if 0 < mine < _RARE:
            some = read["colour"] == odd
            yield Finding(
                "odd colours",
                "check",
                f"{_count(some.sum(), 'image', ('is', 'are'))} {name}, all others {others}",
                read.index[some].tolist(),
                "colour may be Doppler, a marking or a screenshot, and may tell the class",
            )


def _odd_brightness(read: pd.DataFrame) -> Iterator[Finding]:
    for column, name in (("mean", "mean brightness"), ("spread", "contrast")):
        values = read[column].astype(float)
        usual = values.median()
        away = (values - usual).abs()
        odd = away > max(_DEVIATIONS * 1.4826 * away.median(), _LEVELS)
        if odd.any():
            yield Finding(
                "odd values",
                "check",
                f"the {name} of {_count(odd.sum(), 'image')} is {values[odd].min():.0f} to "
                f"{values[odd].max():.0f} of 255, where {usual:.0f} is usual",
                read.index[odd].tolist(),
                "look at them: inverted, overexposed, nearly black, or on another value range?",
            )


def of_duplicates(
    pairs: pd.DataFrame, groups: NDArray, y: NDArray | None, given: NDArray | None
) -> Iterator[Finding]:
    """Tell copies of one scan, and where their labels or the groups given say otherwise."""
    sizes = pd.Series(groups).map(pd.Series(groups).value_counts())
    exact = pairs[pairs["exact"]]
    if len(exact):
        yield Finding(
            "exact copies",
            "check",
            f"{_count(exact['second'].nunique(), 'image', ('is', 'are'))} equal to another one, "
            "pixel by pixel",
            _of_pairs(exact),
            "leave all but one of each out",
        )
    if len(pairs):
        in_pairs = _of_pairs(pairs)
        # With four fifths to train on, the share of images whose twin stands among them.
        twin = float((1 - 0.2 ** (sizes - 1)).mean())
        yield Finding(
            "duplicates",
            "alarm",
            f"{_count(len(in_pairs), 'image')} show a scan that another image shows too; in 5 "
            f"random folds {100 * twin:.0f} % of the test images have a twin in the training part",
            in_pairs,
            "split by groups: pass them to compare, or as groups to scikit-learn's splitters",
        )
    large = sizes > max(_LARGE_GROUP[0], _LARGE_GROUP[1] * len(groups))
    if large.any():
        yield Finding(
            "large group",
            "check",
            f"{_count(pd.Series(groups)[large].nunique(), 'group', ('holds', 'hold'))} up to "
            f"{sizes.max()} images",
            _positions(large),
            "look at the contact sheet: frames of one film, or strangers that look alike?",
        )
    if y is not None:
        other = pairs[y[pairs["first"]] != y[pairs["second"]]]
        if len(other):
            n_scans = len(np.unique(groups[other["first"]]))
            yield Finding(
                "contradictions",
                "alarm",
                f"{_count(n_scans, 'scan', ('stands', 'stand'))} in two classes: "
                f"{_count(len(other), 'pair')} of duplicates with different labels",
                _of_pairs(other),
                "correct the labels, or leave these scans out: no answer to them is right",
            )
    apart = pairs[groups[pairs["first"]] != groups[pairs["second"]]]
    if len(apart):
        yield Finding(
            "unsure duplicates",
            "check",
            f"{_count(len(apart), 'pair', ('is', 'are'))} somewhat alike, but did not suffice to "
            "join two groups",
            _of_pairs(apart),
            "look at them; give groups= to keep them together",
        )
    if given is not None:
        across = pairs[given[pairs["first"]] != given[pairs["second"]]]
        if len(across):
            yield Finding(
                "across groups",
                "alarm",
                f"{_count(len(across), 'pair')} of duplicates across the groups that were given",
                _of_pairs(across),
                "are two names one patient? The groups of this audit keep them together",
            )


def of_masks(
    masks: pd.DataFrame, y: NDArray | None, class_names: dict[object, str]
) -> Iterator[Finding]:
    """Masks that cannot be read or do not fit, and that are empty or full where others are not."""
    wrong = masks["error"] != ""
    if wrong.any():
        yield Finding(
            "masks that do not fit",
            "alarm",
            f"{_count(wrong.sum(), 'mask')} cannot be read or not laid on the image; the first: "
            f"{masks.loc[wrong, 'error'].iloc[0]}",
            _positions(wrong),
            "correct them, or leave their images out",
        )
    share = masks["share"]
    full = share > _FULL
    if full.any():
        yield Finding(
            "full masks",
            "check",
            f"{_count(full.sum(), 'mask', ('marks', 'mark'))} all or nearly all of the image",
            _positions(full),
            "look at them: inverted, or a box around everything?",
        )
    empty = share == 0
    labels = np.zeros(len(masks)) if y is None else y
    for label in np.unique(labels):
        some = (labels == label) & (share.notna()).to_numpy()
        n_empty, n = int(empty[some].sum()), int(some.sum())
        if 0 < n_empty < n:
            where = "" if y is None else f" of class {class_names.get(label, label)}"
            yield Finding(
                "empty masks",
                "note" if y is None else "check",
                f"{n_empty} of {_count(n, 'mask')}{where} without any lesion",
                _positions(empty & some),
                "right where there is no lesion; else draw it",
            )


def of_labels(
    y: NDArray, groups: NDArray, class_names: dict[object, str], errors: pd.DataFrame | None
) -> Iterator[Finding]:
    """Balance of the classes, and labels that are likely wrong."""
    counts = pd.Series(y).value_counts()
    scans = pd.DataFrame({"y": y, "group": groups}).groupby("y")["group"].nunique()
    said = ", ".join(f"{class_names.get(k, k)} {n}" for k, n in counts.items())
    if counts.iloc[0] >= _UNEVEN * counts.iloc[-1]:
        yield Finding(
            "class balance",
            "check",
            f"classes are uneven: {said}",
            [],
            "accuracy flatters: look at macro-F1 or balanced accuracy, and weigh classes",
        )
    few = scans[scans < _FEW_SCANS]
    if len(few):
        named = ", ".join(f"{class_names.get(k, k)} {n}" for k, n in few.items())
        yield Finding(
            "few scans",
            "check",
            f"of these classes there are fewer than {_FEW_SCANS} different scans: {named}",
            [],
            "no difference between models can be told on so few",
        )
    if errors is not None and len(errors):
        yield Finding(
            "suspected labels",
            "check",
            f"{_count(len(errors), 'label', ('is', 'are'))} doubted by a model that was not fitted "
            "on it",
            errors["sample"].tolist(),
            "look at the first of them; where classes overlap, many are right",
        )


def of_shortcuts(shortcuts: pd.DataFrame) -> Iterator[Finding]:
    """Labels that are told from what should not tell them."""
    seen = (shortcuts["p_value"] <= SIGNIFICANT) & (shortcuts["gain"] >= _FAINT)
    for row in shortcuts[seen].to_dict("records"):
        clear = row["is_clear"]
        yield Finding(
            "shortcut",
            "alarm" if clear else "check",
            f"classes can {'' if clear else 'partly '}be told by {row['shortcut']} alone: balanced "
            f"accuracy {row['balanced_accuracy']:.2f}, where chance has {row['chance']:.2f}",
            [],
            _ADVICE[row["shortcut"]],
        )


_ADVICE = {
    "size": "save all images alike, by one script for all classes",
    "file": "save all images alike, by one script for all classes",
    "brightness": "is this the finding itself, or another device or setting? Compare on images of "
    "one device, or with equalized brightness",
    "borders": "cut the borders off all images alike",
    "marks": "calipers, text or frames may give the class away: crop to the lesion, or take scans "
    "without marks",
}


def tabulate(findings: Sequence[Finding], names: Sequence[str]) -> pd.DataFrame:
    """Table of findings, alarms first; samples by their names."""
    order = {"alarm": 0, "check": 1, "note": 2}
    rows = sorted(findings, key=lambda finding: order[finding.severity])
    said = [one._replace(what=as_text(one.what), advice=as_text(one.advice)) for one in rows]
    table = pd.DataFrame(said, columns=list(Finding._fields))
    table["samples"] = [[names[i] for i in finding.samples] for finding in rows]
    table.insert(3, "n_samples", [len(finding.samples) for finding in rows])
    return table


def _count(n: float, noun: str, verbs: tuple[str, str] = ("", "")) -> str:
    """Count things in words: "1 image is", "2 images are"."""
    several = int(n != 1)
    return f"{n:.0f} {noun}{'s' * several} {verbs[several]}".rstrip()


def _positions(chosen: pd.Series) -> list[int]:
    return np.flatnonzero(chosen.to_numpy(dtype=bool)).tolist()


def _of_pairs(pairs: pd.DataFrame) -> list[int]:
    return sorted(set(pairs["first"]) | set(pairs["second"]))
