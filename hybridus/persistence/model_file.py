"""Model files: `save`, `load` and `read_card`; a zip of a card and of what skops writes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from hybridus.exceptions import ModelFileError
from hybridus.inputs.files import replacing
from hybridus.persistence.card import ModelCard, describe
from hybridus.persistence.contents import check_contents, check_members
from hybridus.persistence.portable import portable, settled

FORMAT = 1
_ABOUT, _MODEL = "hybridus.json", "model.skops"
_PARTS = re.compile("|".join(map(re.escape, (_ABOUT, _MODEL))))
_MOST_ABOUT = 2**22  # bytes of a card


def save(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    include_weights: bool = True,
    card: ModelCard | Mapping[str, Any] | None = None,
) -> Path:
    """Write a fitted estimator to one file, which can be opened without trust in who wrote it.

    Unlike a pickle, and so a file of joblib's, it holds plain data alone: no code runs when it is
    opened.

    Parameters
    ----------
    estimator : estimator
        Fitted: any of ours, a pipeline of ours and scikit-learn's; of a search the best estimator
        is kept. Folders in ``cache=`` are not kept: what is loaded uses the default cache.
    path : str or path-like
        By custom ``NAME.hybridus``. The file appears whole or not at all.
    include_weights : bool, default=True
        Put the networks into the file, exported. Then it answers on machines that have neither
        weights nor TensorFlow. False keeps their digests alone: the same weights must be at hand
        wherever it is used, and TensorFlow.
    card : ModelCard or dict, default=None
        What the estimator does not know itself: names of classes, data, scores. See `ModelCard`.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        Before `fit`.
    TypeError
        Where it holds something that such files do not: estimators of other packages, functions,
        callbacks.
    ValueError
        For a card that does not fit.

    Notes
    -----
    Included networks run on OpenVINO in float32; those that were trained with
    ``precision="bfloat16"`` then answer a little otherwise, by up to 1e-2 of a probability.

    Examples
    --------
    >>> import tempfile
    >>> import hybridus
    >>> scans = hybridus.make_breast_phantoms(12, image_size=32, random_state=0)
    >>> pipe = hybridus.make_hybrid_classifier(
    ...     "mobilenet_v2_0.35", "logreg", weights="bundled", image_size=32, cache=False
    ... ).fit(scans.images, scans.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = hybridus.save(pipe, f"{folder}/m.hybridus", card={"classes": ["n", "m", "b"]})
    ...     again, card = hybridus.load(file), hybridus.read_card(file)
    >>> bool((again.predict(scans.images) == pipe.predict(scans.images)).all()), card.classes
    (True, ('n', 'm', 'b'))
    """
    import skops.io

    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    check_is_fitted(estimator)
    copied = portable(estimator, carry=include_weights)
    about = describe(copied, card, included=include_weights)
    try:
        model = skops.io.dumps(copied)
        check_contents(model)
    except Exception as error:
        raise TypeError(
            f"{type(estimator).__name__} cannot be written to a model file ({error}); joblib.dump "
            "writes it, to a file that only those who trust you should open"
        ) from error
    told = {
        "hybridus_model": FORMAT,
        "card": about.as_dict(),
        "sha256": hashlib.sha256(model).hexdigest(),
    }
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(_ABOUT, json.dumps(told, indent=1, default=str))
        archive.writestr(_MODEL, model)
    return Path(path)


def load(path: str | os.PathLike[str]) -> Any:
    """Open a file of `save`.

    No code of the file runs: types are compared with a list of our own before anything is made, and
    sizes before anything is read.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    estimator
        Fitted, as it was saved.

    Raises
    ------
    FileNotFoundError
        Where there is no file.
    hybridus.exceptions.ModelFileError
        For a file that is damaged, of a newer hybridus, of another kind (such as joblib's), or
        holds anything that is no part of a model. It is a ValueError.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        Where it was written under another version of scikit-learn.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from hybridus import TextureFeatures, load, make_breast_phantoms, save
    >>> scans = make_breast_phantoms(9, image_size=32, random_state=0)
    >>> model = make_pipeline(TextureFeatures(), SVC()).fit(scans.images, scans.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load(save(model, f"{folder}/model.hybridus"))
    >>> bool((again.predict(scans.images) == model.predict(scans.images)).all())
    True
    """
    import skops.io

    about, model = _read(path)
    if hashlib.sha256(model).hexdigest() != about["sha256"]:
        raise ModelFileError(f"{_named(path)} is damaged: it does not hold what was written")
    try:
        check_contents(model)
        with warnings.catch_warnings():
            # of skops, where types are trusted that it trusts already
            warnings.simplefilter("ignore", FutureWarning)
            estimator = skops.io.loads(model, trusted=skops.io.get_untrusted_types(data=model))
        return settled(estimator)
    except MemoryError:
        raise
    except Exception as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{_named(path)} cannot be opened as a model: {told:.300}") from error


def read_card(path: str | os.PathLike[str]) -> ModelCard:
    """Read the card of a file of `save`, and nothing else of it.

    Raises
    ------
    FileNotFoundError, hybridus.exceptions.ModelFileError
        As `load` does.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from hybridus import TextureFeatures, make_breast_phantoms, read_card, save
    >>> scans = make_breast_phantoms(9, image_size=32, random_state=0)
    >>> model = make_pipeline(TextureFeatures(), SVC()).fit(scans.images, scans.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save(model, f"{folder}/model.hybridus", card={"classes": scans.target_names})
    ...     card = read_card(file)
    >>> card.task, card.classes
    ('classify', ('normal', 'malignant', 'benign'))
    """
    about, _ = _read(path, model=False)
    try:
        return ModelCard.from_dict(about["card"])
    except (TypeError, ValueError, KeyError) as error:
        raise ModelFileError(f"{_named(path)} has no card that can be read: {error}") from error


def _read(path: str | os.PathLike[str], *, model: bool = True) -> tuple[dict[str, Any], bytes]:
    """Read what stands beside the model, and the model as it lies there, unchecked."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{_named(path)}: no such file")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            check_members(archive, os.path.getsize(path), _PARTS)
            if archive.getinfo(_ABOUT).file_size > _MOST_ABOUT:
                raise ValueError("its card is too large")
            about = json.loads(archive.read(_ABOUT))
            if not isinstance(about, dict) or not isinstance(about.get("hybridus_model"), int):
                raise ValueError("it does not say what it is")
            if about["hybridus_model"] > FORMAT:
                raise ModelFileError(
                    f"{_named(path)} was written by a newer hybridus (format "
                    f"{about['hybridus_model']}, known here is {FORMAT}): pip install -U hybridus"
                )
            return about, archive.read(_MODEL) if model else b""
    except ModelFileError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # whatever a file may do to those who read it
        raise ModelFileError(
            f"{_named(path)} is no model file of hybridus, or a damaged one ({error}). Files of "
            "joblib or pickle are opened with joblib.load, which runs code from them: only where "
            "you trust who wrote them"
        ) from error


def _named(path: Any) -> str:
    return repr(os.fspath(path))
