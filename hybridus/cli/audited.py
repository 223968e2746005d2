"""Data that were looked at: their digest, and what an audit found, kept beside the finished folds.

The audit of the same data is not repeated: it is found again by their digest.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridus._version import __version__
from hybridus.cli.console import NOTES, tell

if TYPE_CHECKING:
    import numpy as np

    from hybridus.cli.data import Data
    from hybridus.protocol.audit import Audit

_TABLES = ("findings", "pairs", "samples", "shortcuts")


def digest_of(dataset: Data, value_range: tuple[float, float] | None = None) -> str:
    """Digest of images, as they are read, of labels, and of masks where there are any.

    Files that cannot be decoded, or whose values lie on another scale, are told now.
    """
    import hashlib

    from hybridus._environment import n_threads
    from hybridus.inputs.images import as_images, content_key
    from hybridus.inputs.masks import as_masks
    from hybridus.inputs.resizing import map_ahead

    images = as_images(dataset.images, value_range=value_range)
    digest = hashlib.blake2b(dataset.target.astype("<i8").tobytes(), digest_size=16)
    for key in map_ahead(
        lambda index: content_key(images[index]), range(len(images)), n_threads=n_threads()
    ):
        digest.update(key)
    if dataset.masks is not None:
        for mask in as_masks(dataset.masks):
            digest.update(content_key(mask))
    return digest.hexdigest()


def look_at(
    data: Data, digest: str, study: Path, value_range: tuple[float, float] | None = None
) -> Audit:
    """Audit images, labels and masks, or read what an audit of the same found before.

    Suspected labels are not looked for, which takes longest; `hybridus audit` does. What was found
    is not kept here, but by `keep`, once nothing speaks against the comparison any more.
    """
    from hybridus.protocol.audit import audit

    known = _given(data)
    if (kept := recall(data, digest, study, value_range)) is not None:
        tell(f"audit    of these {len(data.images)} images is known from an earlier run")
        return kept
    given = "no groups given: " * (known is None)
    tell(f"audit    {given}looking for duplicates among {len(data.images)} images")
    with NOTES.status("looking at the images"):  # nothing where there is no terminal
        return audit(
            data.images,
            data.target,
            data.masks,
            groups=known,
            model=None,
            value_range=value_range,
            names=data.names,
            class_names=data.target_names,
        )


def keep(found: Audit, data: Data, digest: str, study: Path) -> None:
    """Write what an audit found into the folder of the study, whole or not at all."""
    from hybridus.inputs.files import replacing

    file = _file(study, digest, _given(data))
    if file.exists():
        return
    about: dict[str, Any] = {
        name: getattr(found, name).to_dict(orient="split", index=False) for name in _TABLES
    }
    about |= {"groups": found.groups.tolist(), "threshold": found.threshold}
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(about, default=_plain), encoding="utf-8")


def _file(study: Path, digest: str, groups: np.ndarray | None) -> Path:
    """Where an audit lies: its rules are those of a version, and given groups are joined."""
    import hashlib

    told = repr([digest, __version__, None if groups is None else list(map(str, groups))])
    return study / f"audit-{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"


def _given(data: Data) -> np.ndarray | None:
    """Return groups that somebody told of; not those that an audit found."""
    return data.groups if data.grouped_by == "given" else None


def recall(
    data: Data, digest: str, study: Path, value_range: tuple[float, float] | None = None
) -> Audit | None:
    """Read what was kept; None where there is nothing, or nothing that is whole."""
    import numpy as np
    import pandas as pd

    from hybridus.inputs.images import as_images
    from hybridus.protocol.audit import Audit

    try:
        about = json.loads(_file(study, digest, _given(data)).read_text(encoding="utf-8"))
        tables = {name: pd.DataFrame(**about[name]) for name in _TABLES}
        groups = np.array(about["groups"], dtype=np.intp)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if len(groups) != len(data.images) or len(tables["samples"]) != len(groups):
        return None
    known: dict[str, Any] = {
        **tables,
        "groups": groups,
        "threshold": float(about["threshold"]),
        "label_errors": None,
        "_images": as_images(data.images, value_range=value_range),
    }
    return Audit(**{field.name: known[field.name] for field in fields(Audit)})


def _plain(value: Any) -> Any:
    """Make plain what NumPy gave."""
    return value.item() if hasattr(value, "item") else str(value)
