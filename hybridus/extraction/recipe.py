"""Recipe: what decides the rows of a transformer, as a digest, and the transformer as text.

Only transformers that learn nothing from images have one: their rows are the same whoever makes
them, from whichever part of the images.
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted

from hybridus.estimators.features import DeepFeatureExtractor, resolve_views
from hybridus.estimators.preprocessing import BorderCropper, ContrastEqualizer, SpeckleFilter
from hybridus.estimators.texture import TextureFeatures
from hybridus.inputs.scanner import VIEWS_VERSION
from hybridus.persistence.model_file import load, save
from hybridus.protocol.digests import digest_of, versions
from hybridus.store.rows import FeatureStore, store_of

_PREPARING = (BorderCropper, ContrastEqualizer, SpeckleFilter)


def fitted_on(transformer: Any, files: list[str]) -> Any:
    """Return the transformer where it is fitted, else a fitted copy.

    Raises
    ------
    TypeError
        Where it learns from images, or knows no names of its features.
    """
    _check(transformer)
    if not hasattr(transformer, "get_feature_names_out"):
        raise TypeError(
            f"extractor: {type(transformer).__name__} has no names of features; expected a "
            "DeepFeatureExtractor, TextureFeatures, or a pipeline or union that ends in such"
        )
    try:
        check_is_fitted(transformer)
    except NotFittedError:
        return clone(transformer).fit(files[:1])
    return transformer


def digest_of_rows(transformer: Any) -> str:
    """Digest all that decides a row but the image; 64 hexadecimal digits.

    Of a `DeepFeatureExtractor` without views it is the fingerprint under which rows are kept in a
    `FeatureStore`. Batches, caches and processes do not count.
    """
    if isinstance(transformer, DeepFeatureExtractor):
        fingerprint = transformer._frozen().fingerprint
        views = resolve_views(transformer.views)
        if not views:
            return fingerprint
        return digest_of(fingerprint, VIEWS_VERSION, [(v.kind, float(v.strength)) for v in views])
    if isinstance(transformer, Pipeline | FeatureUnion):
        parts = [
            (name, part if isinstance(part, str) else digest_of_rows(part))
            for name, part in _parts(transformer)
        ]
        weights = getattr(transformer, "transformer_weights", None)
        return digest_of(type(transformer).__name__, parts, weights)
    plain = clone(transformer)
    if hasattr(plain, "cache"):
        plain.set_params(cache=False)
    return digest_of(plain, versions())


def stores_of(transformer: Any) -> list[FeatureStore]:
    """List the stores that a transformer and its parts keep rows in."""
    parameters = transformer.get_params(deep=True)
    named = [value for name, value in parameters.items() if name.rpartition("__")[2] == "cache"]
    return list({store for value in named if (store := store_of(value)) is not None})


def written_down(transformer: Any) -> str | None:
    """Write a fitted transformer as text, without weights; None where no file could hold it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = save(transformer, Path(folder, "extractor.hybridus"), include_weights=False)
        except TypeError:
            return None
        return base64.b64encode(file.read_bytes()).decode()


def read_again(text: str) -> Any:
    """Make the transformer that was written down; no code of the text runs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "extractor.hybridus")
        file.write_bytes(base64.b64decode(text))
        return load(file)


def _parts(transformer: Any) -> list[tuple[str, Any]]:
    if isinstance(transformer, Pipeline):
        return list(transformer.steps)
    return list(transformer.transformer_list)


def _check(transformer: Any) -> None:
    if isinstance(transformer, Pipeline | FeatureUnion):
        for _, part in _parts(transformer):
            if not isinstance(part, str):
                _check(part)
    elif not isinstance(transformer, (DeepFeatureExtractor, TextureFeatures, *_PREPARING)):
        raise TypeError(
            f"extractor: {type(transformer).__name__} may learn from images, so its rows would "
            "depend on which were seen; expected DeepFeatureExtractor, TextureFeatures, what "
            "prepares images for them, or a Pipeline or FeatureUnion of these. Scalers and heads "
            "come later: fit_out_of_core"
        )
