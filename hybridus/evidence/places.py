"""Places: what features count for a class, brought back to where in the image they come from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import FeatureUnion

from hybridus.encoders.frozen import resolve_pooling
from hybridus.encoders.maps import PooledMap, pooled_maps
from hybridus.estimators.features import DeepFeatureExtractor
from hybridus.estimators.lesion.features import LesionFeatures
from hybridus.estimators.lesion.measurements import measurement_names
from hybridus.estimators.lesion.region import places_in, square_around
from hybridus.estimators.stable import StableFeatures
from hybridus.exceptions import CannotExplainError
from hybridus.inputs.images import Images
from hybridus.inputs.masks import restore_mask
from hybridus.inputs.resizing import resize_image, widen

_PLACED = ("avg", "max", "avgmax", "gem", "flatten", "avg+max", "max+avg")  # poolings
_TOGETHER = 8  # images whose maps are held


@dataclass
class Placed:
    """What the features of one image count for each class, by place where they have one.

    Attributes
    ----------
    map : array of shape (n_classes, H, W), float64
        At the size of the image.
    elsewhere : array of shape (n_classes,)
        What has no place in the image: vectors, and margins of padding.
    by_feature : dict of str to array of shape (n_classes,)
        Of features with a name of their own; it is in `map` too.
    """

    map: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    by_feature: dict[str, NDArray[np.float64]]


def width_of(transformer: Any) -> int:
    """Count the features of a fitted transformer."""
    return len(transformer.get_feature_names_out())


def place_features(
    transformer: Any,
    images: Images,
    rows: NDArray[np.float64],
    weights: NDArray[np.float64],
    baseline: NDArray[np.float64],
) -> Iterator[Placed]:
    """Yield where in each image it comes from what its features count.

    Parameters
    ----------
    transformer : fitted DeepFeatureExtractor, LesionFeatures, StableFeatures or FeatureUnion
    images : Images
        Of n_samples.
    rows : array of shape (n_samples, n_features)
        Their features.
    weights : array of shape (n_samples, n_classes, n_features)
        Slope of each class's score by each feature.
    baseline : array of shape (n_features,)
        Values from which features are counted: ``weights * (rows - baseline)`` is shared out.

    Raises
    ------
    CannotExplainError
        For transformers whose features have no place that is known.
    """
    check_places(transformer)
    if isinstance(transformer, FeatureUnion):
        return _of_union(transformer, images, rows, weights, baseline)
    if isinstance(transformer, DeepFeatureExtractor):
        return _of_extractor(transformer, images, weights, baseline)
    if isinstance(transformer, StableFeatures):
        return _of_stable(transformer, images, weights)
    return _of_lesions(transformer, images, rows, weights, baseline)


def check_places(transformer: Any) -> None:
    """Raise where nobody knows where in the image the features of a transformer come from.

    Raises
    ------
    CannotExplainError
    """
    if isinstance(transformer, FeatureUnion):
        for _, one in transformer.transformer_list:
            if one != "drop":
                check_places(one)
    elif isinstance(transformer, StableFeatures):
        check_places(transformer.features)
    elif isinstance(transformer, LesionFeatures):
        if transformer.extractor is not None:
            check_places(transformer.extractor)
    elif isinstance(transformer, DeepFeatureExtractor):
        if transformer.views:
            raise CannotExplainError(
                f"features are means over views={transformer.views!r}, whose places are not those "
                "of the image: explain a model without views"
            )
        if resolve_pooling(transformer.pooling) not in _PLACED:
            raise CannotExplainError(
                f"pooling={transformer.pooling!r} mixes places or products of channels, which "
                f"cannot be brought back to the image; expected one of {', '.join(_PLACED)}"
            )
    else:
        raise CannotExplainError(
            f"features of {type(transformer).__name__} cannot be brought back to places in the "
            "image; expected DeepFeatureExtractor, LesionFeatures, or a FeatureUnion of these"
        )


def place_maps(
    maps: Sequence[PooledMap],
    weights: NDArray[np.float64],
    baseline: NDArray[np.float64],
    pooled: NDArray[np.float64],
    *,
    powers: bool = False,
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Share out what pooled features count over the positions of the maps that they are pooled of.

    Parameters
    ----------
    maps : sequence of PooledMap of one image, (h, w, channels)
        In the order of the features; those behind them are vectors of the network's own.
    weights : array of shape (n_classes, n_features)
    baseline : array of shape (n_features,)
    pooled : array of shape (n_features,)
        The features themselves.
    powers : bool, default=False
        Whether what is averaged are powers of the map, as of generalised means.

    Returns
    -------
    grids : list of arrays of shape (n_classes, h, w)
    elsewhere : array of shape (n_classes,)
    """
    grids, start = [], 0
    for one in maps:
        height, width, channels = one.maps.shape
        flat = one.maps.reshape(-1, channels).astype(np.float64)
        size = flat.size if one.kind == "Reshape" else channels
        part = slice(start, start + size)
        start += size
        slopes, base = weights[:, part], baseline[part]
        if one.kind == "Reshape":
            shared = (slopes * (flat.ravel() - base)).reshape(len(slopes), -1, channels).sum(-1)
        elif one.kind == "ReduceMax":
            shared = np.zeros((len(slopes), len(flat)))
            top = flat.argmax(axis=0)
            counted = slopes * (flat[top, np.arange(channels)] - base)
            np.add.at(shared.T, top, counted.T)
        elif powers:
            shared = (slopes * (pooled[part] - base)) @ (flat / flat.sum(axis=0)).T
        else:
            shared = slopes @ (flat - base).T / len(flat)
        grids.append(shared.reshape(-1, height, width))
    return grids, weights[:, start:] @ (pooled[start:] - baseline[start:])


def spread(grid: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Spread a grid (n_classes, h, w) over an image, keeping its sum for each class."""
    share = grid.shape[1] * grid.shape[2] / (size[0] * size[1])
    planes = [resize_image(plane.astype(np.float32), size).astype(float) * share for plane in grid]
    whole = np.stack(planes)
    missing = grid.sum(axis=(1, 2)) - whole.sum(axis=(1, 2))
    return whole + missing[:, np.newaxis, np.newaxis] / (size[0] * size[1])


def on_image(
    grids: Sequence[NDArray[np.float64]],
    seen: tuple[int, int],
    resize: str,
    image: tuple[int, int],
    n_classes: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum grids over an image that a network saw resized to `seen`.

    Returns
    -------
    map : array of shape (n_classes, H, W)
    margin : array of shape (n_classes,)
        What lies in the margin of padding.
    """
    if resize == "stretch":
        parts = [spread(grid, image) for grid in grids]
        return np.sum(parts, axis=0) if parts else np.zeros((n_classes, *image)), np.zeros(
            n_classes
        )
    total = np.sum([spread(grid, seen) for grid in grids], axis=0)
    ones = resize_image(np.full(image, 255, np.uint8), seen, resize="pad") != 0
    inside = (total * ones).sum(axis=(1, 2))
    whole = np.stack(
        [restore_mask(plane.astype(np.float32), image, resize="pad") for plane in total]
    ).astype(float)
    share = ones.sum() / (image[0] * image[1])
    whole *= share
    missing = inside - whole.sum(axis=(1, 2))
    whole += missing[:, np.newaxis, np.newaxis] / (image[0] * image[1])
    return whole, total.sum(axis=(1, 2)) - inside


def _of_union(
    union: FeatureUnion, images: Images, rows: NDArray, weights: NDArray, baseline: NDArray
) -> Iterator[Placed]:
    parts, start = [], 0
    shares = union.transformer_weights or {}
    for name, transformer in union.transformer_list:
        if transformer == "drop":
            continue
        width = width_of(transformer)
        part = slice(start, start + width)
        start += width
        share = shares.get(name, 1.0)
        given = (rows[:, part] / share, weights[..., part] * share, baseline[part] / share)
        parts.append(place_features(transformer, images, *given))
    for placed in zip(*parts, strict=True):
        named: dict[str, NDArray[np.float64]] = {}
        for one in placed:
            named |= one.by_feature
        yield Placed(
            np.sum([one.map for one in placed], axis=0),
            np.sum([one.elsewhere for one in placed], axis=0),
            named,
        )


def _of_stable(stable: StableFeatures, images: Images, weights: NDArray) -> Iterator[Placed]:
    """Bring slopes back through the map and the scaler, which are linear."""
    rows = np.asarray(stable.features_.transform(images), dtype=np.float64)
    before = stable.shrink(weights.reshape(-1, weights.shape[-1])).reshape(weights.shape)
    return place_features(stable.features_, images, rows, before / stable.scale_, stable.mean_)


def _of_extractor(
    extractor: DeepFeatureExtractor, images: Images, weights: NDArray, baseline: NDArray
) -> Iterator[Placed]:
    extractor._check_unchanged()
    frozen = extractor.frozen_
    seen, resize = frozen.image_size, frozen.resize
    pooled = extractor.transform(images).astype(np.float64)
    carried = extractor._carry()
    ends = np.cumsum([0, *extractor._open().widths])
    columns = [slice(a, b) for a, b in itertools.pairwise(ends)]
    for start in range(0, len(images), _TOGETHER):
        held = [images[i] for i in range(start, min(start + _TOGETHER, len(images)))]
        batch = widen([resize_image(image, seen, resize=resize) for image in held])
        (outputs,) = pooled_maps(carried, [batch.astype(np.float32)])
        for k, image in enumerate(held):
            i = start + k
            grids, elsewhere = [], np.zeros(len(weights[i]))
            for maps, part in zip(outputs, columns, strict=True):
                of_tap, placeless = place_maps(
                    [PooledMap(one.kind, one.maps[k]) for one in maps],
                    weights[i][:, part],
                    baseline[part],
                    pooled[i, part],
                    powers=frozen.pooling == "gem",
                )
                grids += of_tap
                elsewhere += placeless
            found, margin = on_image(grids, seen, resize, image.shape[:2], len(weights[i]))
            yield Placed(found, elsewhere + margin, {})


def _of_lesions(
    lesions: LesionFeatures, images: Images, rows: NDArray, weights: NDArray, baseline: NDArray
) -> Iterator[Placed]:
    """Evidence of measurements lies evenly on the region; that of crops where they were cut."""
    names = measurement_names() if lesions.measurements else ()
    width = 0 if lesions.extractor_ is None else width_of(lesions.extractor_)
    regions = list(lesions.regions(images))
    placed = []
    for i, region in enumerate(regions):
        size = images[i].shape[:2]
        counted = weights[i][:, : len(names)] * (rows[i] - baseline)[: len(names)]
        inside = resize_image(region.mask.astype(np.uint8) * np.uint8(255), size) >= 128
        inside = inside if inside.any() else np.ones(size, bool)
        found = counted.sum(axis=1)[:, np.newaxis, np.newaxis] * inside / inside.sum()
        named = dict(zip(names, counted.T, strict=True))
        placed.append(Placed(found, np.zeros(len(weights[i])), named))
    for number, context in enumerate(lesions.contexts if width else ()):
        start = len(names) + number * width
        part = slice(start, start + width)
        views = (False, True) if lesions.mirrored else (False,)
        for turned in views:
            crops = [
                lesions.crop(images[i], region, context, mirrored=turned)
                for i, region in enumerate(regions)
            ]
            seen = Images(crops.__getitem__, len(crops))
            of_crops = lesions.extractor_.transform(seen).astype(np.float64)  # type: ignore[union-attr]
            shared = weights[..., part] / len(views)
            found = place_features(lesions.extractor_, seen, of_crops, shared, baseline[part])
            for i, one in enumerate(found):
                plane = one.map[..., ::-1] if turned else one.map
                size = images[i].shape[:2]
                top, left, side = square_around(regions[i], context, size)
                rows_at, columns_at = places_in(top, left, side, size)
                # A place that the crop shows twice, mirrored, has both.
                where = (rows_at[:, np.newaxis], columns_at[np.newaxis])
                np.add.at(np.moveaxis(placed[i].map, 0, -1), where, np.moveaxis(plane, 0, -1))
                placed[i].elsewhere = placed[i].elsewhere + one.elsewhere
    yield from placed
