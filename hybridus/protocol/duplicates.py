"""Duplicates: images that show one and the same scan, whatever was done to it.

Saved again, resized, cropped, mirrored, brightened, or with calipers or text drawn in. Found
offline in three stages: equal pixels, candidates by small descriptions, and a registration that
decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from sklearn.utils import check_scalar
from threadpoolctl import threadpool_limits

from hybridus._environment import n_threads
from hybridus.inputs.images import as_images
from hybridus.inputs.resizing import map_ahead
from hybridus.protocol.auditing.candidates import Candidates, find_candidates
from hybridus.protocol.auditing.registration import Registered, compose, invert, register
from hybridus.protocol.auditing.thumbnails import Thumbnail, make_thumbnail

# Similarity from which on two images are duplicates, unless unrelated ones come near to it.
LEAST_SIMILARITY = 0.65
# How far above what is usual among unrelated images a duplicate is, in their standard deviations
# of Fisher's z: it is the best of many placements on many images.
_DEVIATIONS = 9
_UNRELATED_PAIRS = 500  # that tell what is usual
_SURE = 0.8  # similarity of a pair that joins two groups without another beside it
# Members of a group up to which every two of them are compared.
_LARGEST_COMPLETED = 64


class Duplicates(NamedTuple):
    """What `find_duplicates` found.

    Attributes
    ----------
    threshold : float
        Similarity of a pair, at the least.
    pairs : DataFrame
        See `near_duplicate_pairs`.
    groups : array of shape (n,), int
        See `near_duplicate_groups`.
    """

    threshold: float
    pairs: pd.DataFrame
    groups: NDArray[np.intp]


def near_duplicate_groups(
    X: Any, *, threshold: float | None = None, value_range: Sequence[float] | None = None
) -> NDArray[np.intp]:
    """Tell which images are duplicates of one scan: they bear one number.

    The result is the `groups` of scikit-learn's splitters, `cross_validate` and `hybridus.compare`,
    which then keep the duplicates of a scan on one side of every split.

    Parameters
    ----------
    X : array, list or pandas object of n_samples images or paths
    threshold : float, default=None
        Similarity from which on two images are duplicates, above 0 and up to 1; see
        `near_duplicate_pairs`. 0.9 leaves neighbouring frames of a film apart. None is 0.65, or
        more where unrelated images resemble one another by as much, as small, smooth or similar
        ones do: what is reached by images laid on others upside down is measured.
    value_range : (low, high), default=None
        The values of black and white where the type does not tell, as (0, 4095) for 12 bits.

    Returns
    -------
    array of shape (n_samples,), int
        From 0 on, in the order in which the scans first appear. An image without duplicates is
        alone; so is a blank one, which shows next to nothing.

    Raises
    ------
    ValueError
        Where X holds no images or a file cannot be read (see `near_duplicate_pairs`).

    Notes
    -----
    Groups are the connected parts of the pairs found. Two groups of two images or more are not
    joined by a single pair of a similarity below 0.8: one mistake would merge strangers.

    Memory grows by about 45 KB an image, whatever its size, beside X itself.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import make_breast_phantoms, near_duplicate_groups
    >>> scans = list(make_breast_phantoms(4, random_state=0).images)
    >>> cropped_and_mirrored = np.ascontiguousarray(scans[1][10:, 100:5:-1])
    >>> near_duplicate_groups([*scans, cropped_and_mirrored, scans[3] // 2])
    array([0, 1, 2, 3, 1, 3])
    """
    return _find(X, threshold, value_range).groups


def near_duplicate_pairs(
    X: Any, *, threshold: float | None = None, value_range: Sequence[float] | None = None
) -> pd.DataFrame:
    """List the pairs of images that show one and the same scan.

    Parameters
    ----------
    X, threshold, value_range
        See `near_duplicate_groups`.

    Returns
    -------
    DataFrame
        A row for each pair, the most alike first: ``first`` and ``second``, positions in X, the
        smaller one first; ``similarity``, the median over parts of the picture of the correlation
        of local contrast, after one was laid on the other (1 where pixels are equal, about 0 for
        unrelated scans); ``overlap``, the share of the picture that both show; ``mirrored``, left
        to right; and ``exact``, whether pixels are equal. Of several exact copies each stands
        beside the first of them, and the first alone beside its other duplicates.

    Raises
    ------
    ValueError
        Where X holds no images, `threshold` is out of its range, or a file cannot be read.

    Notes
    -----
    Found are crops to about 0.6 of height and width, any change of size and aspect, left and right
    exchanged, changes of brightness, contrast and gamma, marks over less than half of the scan,
    and borders of one grey. Not found are rotations, upside-down copies, and other planes of one
    lesion. Of each image the 10 that resemble it most are looked at, and within a group of up to 64
    images every two.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.protocol.duplicates import near_duplicate_pairs
    >>> scans = make_breast_phantoms(4, random_state=0).images
    >>> pairs = near_duplicate_pairs(np.concatenate([scans, scans[1:2, :, ::-1], scans[3:]]))
    >>> pairs[["first", "second", "mirrored", "exact"]].to_numpy().tolist()
    [[3, 5, False, True], [1, 4, True, False]]
    """
    return _find(X, threshold, value_range).pairs


def _find(X: Any, threshold: float | None, value_range: Sequence[float] | None) -> Duplicates:
    check_threshold(threshold)
    images = as_images(X, value_range=value_range)
    thumbnails = map_ahead(
        lambda i: make_thumbnail(images[i]), range(len(images)), n_threads=n_threads()
    )
    return find_duplicates(list(thumbnails), threshold)


def check_threshold(threshold: float | None) -> None:
    """Raise unless a similarity is None, or above 0 and up to 1."""
    if threshold is not None:
        check_scalar(threshold, "threshold", Real, min_val=0, max_val=1, include_boundaries="right")


def find_duplicates(
    thumbnails: Sequence[Thumbnail | None], threshold: float | None = None
) -> Duplicates:
    """Find duplicates among thumbnails; None, of what could not be read, is nobody's duplicate.

    `threshold` is that of `near_duplicate_groups`.
    """
    n = len(thumbnails)
    copy_of = _first_of_each_content(thumbnails)
    shown = np.array(
        [i for i in range(n) if copy_of[i] == i and not _is_blank(thumbnails[i])], dtype=np.intp
    )
    pixels = np.array([thumbnails[i].pixels for i in shown])  # type: ignore[union-attr]
    with threadpool_limits(1, user_api="blas"):  # small matrices, and threads of our own
        if threshold is None:
            threshold = max(LEAST_SIMILARITY, _reached_by_chance(pixels))
        links = _find_links(pixels, threshold)
    links["first"], links["second"] = shown[links["first"]], shown[links["second"]]
    copies = np.flatnonzero(copy_of != np.arange(n))
    exact = pd.DataFrame({"first": copy_of[copies], "second": copies})
    exact = exact.assign(similarity=1.0, overlap=1.0, mirrored=False, exact=True)
    pairs = pd.concat([table for table in (exact, links) if len(table)] or [exact])
    order = ["exact", "similarity", "first", "second"]
    pairs = pairs.sort_values(order, ascending=[False, False, True, True], ignore_index=True)
    group = _join(links, n)[copy_of]
    return Duplicates(threshold, pairs, pd.factorize(group)[0].astype(np.intp))


def _is_blank(thumbnail: Thumbnail | None) -> bool:
    return thumbnail is None or thumbnail.pixels is None


def _first_of_each_content(thumbnails: Sequence[Thumbnail | None]) -> NDArray[np.intp]:
    """Position of the first image with the same pixels; blank ones are their own."""
    first: dict[bytes, int] = {}
    return np.array(
        [
            i if found is None or found.pixels is None else first.setdefault(found.content, i)
            for i, found in enumerate(thumbnails)
        ],
        dtype=np.intp,
    )


def _reached_by_chance(pixels: NDArray[np.uint8]) -> float:
    """Similarity that unrelated images do not reach, told by images laid on others upside down.

    Duplicates among them do not mislead it, since no image is a duplicate of one upside down.
    """
    n = len(pixels)
    n_pairs = min(_UNRELATED_PAIRS, n * (n - 1))
    if n_pairs == 0:
        return 0
    chosen = np.random.default_rng(0).choice(n * (n - 1), n_pairs, replace=False)
    first, second = np.divmod(chosen, n - 1)
    second += second >= first
    at = np.arange(n_pairs)
    found = register(
        np.concatenate([pixels[first], pixels[second, ::-1]]),
        at,
        n_pairs + at,
        np.tile([0.0, 0.0, 1.0, 1.0], (n_pairs, 1)),
        give_up=False,
    )
    fisher = np.arctanh(np.clip(found.similarity, -0.999, 0.999))
    usual, high = np.quantile(fisher, [0.5, 0.975])
    return float(np.tanh(usual + _DEVIATIONS * (high - usual) / 2))


def _find_links(pixels: NDArray[np.uint8], threshold: float) -> pd.DataFrame:
    """Pairs of different thumbnails that are duplicates, by their positions."""
    candidates = find_candidates(pixels) if len(pixels) else Candidates(*_NOTHING)
    links = _table(candidates, register(pixels, *candidates), threshold)
    more = _within_groups(links, len(pixels))
    if len(more.first):
        links = pd.concat([links, _table(more, register(pixels, *more), threshold)])
    return links[["first", "second", "similarity", "overlap", "mirrored", "exact"]]


_NOTHING = (np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros((0, 4)))


def _table(candidates: Candidates, registered: Registered, threshold: float) -> pd.DataFrame:
    """Tabulate each pair that is alike, once."""
    table = pd.DataFrame(registered.placement, columns=["ty", "tx", "sy", "sx"])
    table["first"], table["second"] = candidates.first, candidates.second
    table["similarity"], table["overlap"] = registered.similarity, registered.overlap
    table = table[table["similarity"] >= threshold]
    table = table.sort_values("similarity", ascending=False, kind="stable")
    backwards = (table["first"] > table["second"]).to_numpy()
    placement = ["ty", "tx", "sy", "sx"]
    table.loc[backwards, placement] = invert(table.loc[backwards, placement].to_numpy())
    table.loc[backwards, ["first", "second"]] = table.loc[backwards, ["second", "first"]].to_numpy()
    table = table.drop_duplicates(["first", "second"])
    return table.assign(mirrored=table["sx"] < 0, exact=False)


def _within_groups(links: pd.DataFrame, n: int) -> Candidates:
    """Pairs that stand in one group by way of others, placed by way of them."""
    first, second = links["first"].to_numpy(), links["second"].to_numpy()
    placement = links[["ty", "tx", "sy", "sx"]].to_numpy()
    graph = coo_array((np.ones(len(links)), (first, second)), shape=(n, n)).tocsr()
    known = {pair: at for at, pair in zip(placement, zip(first, second, strict=True), strict=True)}
    _, member_of = connected_components(graph, directed=False)
    members = pd.Series(range(n)).groupby(member_of).agg(list)
    found: list[tuple[int, int, NDArray]] = []
    for group in members[members.map(len).between(3, _LARGEST_COMPLETED)]:
        # Where each lies in the first of the group.
        root = group[0]
        order, before = breadth_first_order(graph, root, directed=False)
        placed = {root: np.array([0.0, 0.0, 1.0, 1.0])}
        for one in order[1:]:
            to = before[one]
            step = known[one, to] if (one, to) in known else invert(known[to, one])
            placed[one] = compose(step, placed[to])
        found += [
            (one, other, compose(placed[one], invert(placed[other])))
            for one, other in combinations(group, 2)
            if (one, other) not in known
        ]
    if not found:
        return Candidates(*_NOTHING)
    ones, others, at = zip(*found, strict=True)
    return Candidates(np.array(ones, np.intp), np.array(others, np.intp), np.stack(at))


def _join(links: pd.DataFrame, n: int) -> NDArray[np.intp]:
    """Group of each image: strong links first, and weak ones not alone between two groups."""
    group = np.arange(n)
    members = {i: [i] for i in range(n)}
    links = links.sort_values("similarity", ascending=False, kind="stable")
    rows = list(zip(links["first"], links["second"], links["similarity"], strict=True))
    neighbours: dict[int, list[int]] = {i: [] for pair in rows for i in pair[:2]}
    for first, second, _ in rows:
        neighbours[first].append(second)
        neighbours[second].append(first)
    for first, second, similarity in rows:
        one, other = sorted((group[first], group[second]), key=lambda g: len(members[g]))
        if one == other:
            continue
        if similarity < _SURE and len(members[one]) > 1:
            across = Counter(group[j] for i in members[one] for j in neighbours[i])[other]
            if across < 2:
                continue
        group[members[one]] = other
        members[other] += members.pop(one)
    return group
