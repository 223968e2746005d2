"""Folds: pairs of a training and a test part, with duplicates never on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator, StratifiedGroupKFold, StratifiedKFold
from sklearn.utils import check_consistent_length

from hybridus.inputs.groups import check_groups
from hybridus.inputs.labels import check_labels
from hybridus.inputs.masks import as_masks

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
Folds = list[Fold]


def repeated_folds(
    y: ArrayLike,
    groups: ArrayLike | str | None = None,
    *,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
) -> Folds:
    """Stratified folds that keep groups whole, drawn anew for each repeat.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class of each sample; the folds hold the classes in about equal shares.
    groups : array-like of shape (n_samples,), "independent" or None, default=None
        Samples of one group (duplicates, one patient) stay on one side of every split;
        ``"independent"`` and None take each sample for its own group.
    n_splits, n_repeats : int, default=5 and 1
        Folds, and how often they are drawn anew.
    random_state : int, default=0
        Repeat r has the seed ``random_state + r``: three repeats from 0 are seeds 0, 1 and 2.

    Returns
    -------
    list of (train, test)
        ``n_repeats * n_splits`` pairs of index arrays, repeat by repeat.

    Raises
    ------
    ValueError
        If a class has fewer groups than there are folds, or a test fold would hold no sample of
        a class; a group is missing (None, NaN); or the lengths differ.

    Examples
    --------
    >>> from hybridus.protocol.folds import repeated_folds
    >>> y = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    >>> [test.tolist() for train, test in repeated_folds(y, groups, n_splits=2)]
    [[2, 3, 4, 5], [0, 1, 6, 7]]
    """
    _check_drawing(n_splits, n_repeats, random_state)
    target = check_labels(y)
    codes = check_groups(groups, len(target))
    folds: Folds = []
    for repeat in range(n_repeats):
        folds += _stratified(target, codes, n_splits, shuffle=True, seed=random_state + repeat)
    return folds


class LesionGroupKFold(BaseCrossValidator):
    """Folds of images with masks: groups stay whole, and both parts of each show a lesion.

    A splitter of scikit-learn that takes masks for `y`, which its own refuse; so a segmenter can
    be searched for: ``GridSearchCV(UNetSegmenter(), ..., cv=LesionGroupKFold(3))``.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, two or more.
    shuffle : bool, default=False
        Whether samples (or groups) are shuffled before they are dealt out.
    random_state : int, RandomState or None, default=None
        Decides the shuffling.

    See Also
    --------
    sklearn.model_selection.StratifiedGroupKFold : The same for classes.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.folds import LesionGroupKFold
    >>> masks = np.zeros((8, 4, 4), dtype=bool)
    >>> masks[::2, 1, 1] = True
    >>> patients = ["a", "a", "b", "b", "c", "c", "d", "d"]
    >>> for train, test in LesionGroupKFold(2).split(masks, masks, patients):
    ...     print(test, int(masks[test].any(axis=(1, 2)).sum()), "with a lesion")
    [0 1 4 5] 2 with a lesion
    [2 3 6 7] 2 with a lesion
    """

    # Under metadata routing both are handed on without being asked for.
    __metadata_request__split: ClassVar[dict] = {"groups": True, "stratify": True}

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        # Refuses what scikit-learn's splitters refuse.
        StratifiedKFold(n_splits, shuffle=shuffle, random_state=random_state)
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, stratify: Any = None
    ) -> int:
        """Return the number of folds; what is given is not looked at, as in scikit-learn."""
        return self.n_splits

    def split(
        self,
        X: Any,
        y: Any = None,
        groups: ArrayLike | str | None = None,
        stratify: ArrayLike | None = None,
    ) -> Iterator[Fold]:
        """Yield the training and the test part of each fold.

        Parameters
        ----------
        X : images
            Only counted.
        y : masks
            In any form that `hybridus.inputs.masks.as_masks` reads.
        groups : array-like of shape (n_samples,), "independent" or None, default=None
            Images of one group (duplicates, one patient) stay on one side of every split;
            ``"independent"`` and None take each image for its own group.
        stratify : array-like of shape (n_samples,), default=None
            Classes, which each fold holds in about equal shares. None takes images with and
            without lesion for two classes.

        Yields
        ------
        train, test : arrays of int

        Raises
        ------
        ValueError
            If no mask has a lesion, a class has fewer groups than there are folds, a part would
            show no lesion or no sample of a class, or lengths differ.
        """
        if y is None:
            raise ValueError("y is None: LesionGroupKFold splits by masks, and expects them as y")
        masks = as_masks(y)
        has_lesion = np.array([mask.any() for mask in masks], dtype=bool)
        check_consistent_length(X, has_lesion)
        if not has_lesion.any():
            raise ValueError(
                f"none of the {len(has_lesion)} masks has a lesion: nothing to segment"
            )
        names: Sequence[str] = ()
        if stratify is None:
            strata, names = has_lesion.astype(np.intp), ("'no lesion'", "'lesion'")
        else:
            strata = check_labels(stratify)
            check_consistent_length(has_lesion, strata)
        codes = check_groups(groups, len(strata))
        folds = _stratified(
            strata, codes, self.n_splits, self.shuffle, self.random_state, names=names
        )
        for number, parts in enumerate(folds):
            for verb, part in zip(("trains on", "tests"), parts, strict=True):
                if not has_lesion[part].any():
                    raise ValueError(
                        f"fold {number} {verb} no image with a lesion: take fewer folds, another "
                        "random_state, or classes (stratify) that tell lesions apart"
                    )
        yield from folds


def repeated_lesion_folds(
    masks: Any,
    groups: ArrayLike | str | None = None,
    *,
    stratify: ArrayLike | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
) -> Folds:
    """`LesionGroupKFold`, shuffled, drawn anew for each repeat with the seeds of `repeated_folds`.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.folds import repeated_lesion_folds
    >>> masks = np.zeros((8, 4, 4), dtype=bool)
    >>> masks[::2, 1, 1] = True
    >>> [len(test) for train, test in repeated_lesion_folds(masks, n_splits=2, n_repeats=2)]
    [4, 4, 4, 4]
    """
    _check_drawing(n_splits, n_repeats, random_state)
    read = as_masks(masks)
    # Files are read once, and not for each repeat.
    has_lesion = np.array([[[mask.any()]] for mask in read], dtype=bool)
    folds: Folds = []
    for repeat in range(n_repeats):
        drawn = LesionGroupKFold(n_splits, shuffle=True, random_state=random_state + repeat)
        folds += drawn.split(has_lesion, has_lesion, groups, stratify)
    return folds


def check_folds(folds: Iterable[Any], n_samples: int, groups: NDArray[np.intp] | None) -> Folds:
    """Read pairs of indices that somebody else has drawn.

    Parameters
    ----------
    folds : iterable of (train, test)
        Arrays of positions.
    n_samples : int
    groups : array of shape (n_samples,), int, or None
        Groups that must stay whole.

    Returns
    -------
    list of (train, test)

    Raises
    ------
    TypeError
        Where `folds` is no sequence of pairs.
    ValueError
        Where a part is empty or holds no positions of samples, where a sample or a group stands on
        both sides of a fold, or where there is no fold.
    """
    if isinstance(folds, int | str) or not isinstance(folds, Iterable):
        raise TypeError(
            f"folds={folds!r}: expected a splitter, such as StratifiedGroupKFold(5), or a list of "
            "pairs (train, test) of index arrays; the number of folds is n_splits"
        )
    checked = []
    for number, pair in enumerate(folds):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"folds[{number}] is {pair!r:.80}: expected a pair (train, test)")
        train, test = (
            _positions(part, n_samples, f"folds[{number}]: the {name} part")
            for part, name in zip(pair, ("training", "test"), strict=True)
        )
        both = np.intersect1d(train, test)
        if len(both):
            raise ValueError(
                f"folds[{number}] trains on sample {both[0]} and tests it: expected each sample on "
                "one side"
            )
        if groups is not None and len(shared := np.intersect1d(groups[train], groups[test])):
            first = int(np.flatnonzero(groups == shared[0])[0])
            raise ValueError(
                f"folds[{number}] has the group of sample {first} on both sides: give folds that "
                "keep groups whole, or groups='independent'"
            )
        checked.append((train, test))
    if not checked:
        raise ValueError("folds is empty: expected at least one pair (train, test)")
    return checked


def number_folds(folds: Sequence[Fold]) -> list[tuple[int, int]]:
    """Give each fold the number of its repeat and its number therein.

    A repeat tests no sample twice: the next one begins where a sample is tested again.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.folds import number_folds, repeated_folds
    >>> number_folds(repeated_folds([0, 1] * 4, n_splits=2, n_repeats=2))
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    numbers, repeat, fold = [], 0, 0
    tested: set[int] = set()
    for _, test in folds:
        if not tested.isdisjoint(test.tolist()):
            repeat, fold, tested = repeat + 1, 0, set()
        numbers.append((repeat, fold))
        fold += 1
        tested.update(test.tolist())
    return numbers


def _stratified(
    strata: NDArray,
    codes: NDArray[np.intp] | None,
    n_splits: int,
    shuffle: bool,
    seed: int | np.random.RandomState | None,
    names: Sequence[str] = (),
) -> Folds:
    """Draw the folds of one repeat; `names` are what messages call the strata 0, 1, ..."""

    def name(label: Any) -> str:
        return f"class {names[label] if names else label!s}"

    word, units = ("samples", np.arange(len(strata))) if codes is None else ("groups", codes)
    for label in np.unique(strata):
        n_units = len(np.unique(units[strata == label]))
        if n_units < n_splits:
            raise ValueError(
                f"{name(label)} has only {n_units} {word}, fewer than the {n_splits} folds: take "
                "fewer folds, add samples of the class or leave it out"
            )
    splitter = StratifiedKFold if codes is None else StratifiedGroupKFold
    drawn = splitter(n_splits, shuffle=shuffle, random_state=seed)
    # Splitters only count the rows of X, so the strata stand in for it.
    folds = list(drawn.split(strata, strata, codes))
    for number, (_, test) in enumerate(folds):
        absent = np.setdiff1d(strata, strata[test])
        if len(absent):
            raise ValueError(
                f"fold {number} tests no sample of {name(absent[0])}: its groups are too few or "
                f"too unequal for {n_splits} folds; take fewer, or another random_state"
            )
    return folds


def _check_drawing(n_splits: int, n_repeats: int, random_state: int) -> None:
    given = {
        "n_splits": (n_splits, 2),
        "n_repeats": (n_repeats, 1),
        "random_state": (random_state, 0),
    }
    for name, (value, least) in given.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}={value!r}: expected an integer, {least} or more")


def _positions(part: Any, n_samples: int, name: str) -> NDArray[np.intp]:
    array = np.asarray(part)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} is of type {array.dtype} and shape {array.shape}: expected positions of "
            "samples, a 1-D array of integers (np.flatnonzero of a boolean mask)"
        )
    if not len(array):
        raise ValueError(f"{name} is empty")
    if array.min() < 0 or array.max() >= n_samples:
        raise ValueError(
            f"{name} holds positions from {array.min()} to {array.max()}: expected 0 to "
            f"{n_samples - 1}, those of the {n_samples} samples"
        )
    return array.astype(np.intp)
