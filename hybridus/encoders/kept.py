"""Networks kept on disk, so that a fresh process needs no Keras: written, read back and cleared.

They lie in the folder ``networks`` of the cache folder, one folder for each network, named by its
fingerprint. What is read back must be whole: each file holds a digest of its contents and of what
it stands for. That defends against damage, and not against someone who can write to the folder.
"""

import contextlib
import hashlib
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybridus._environment import make_private
from hybridus.exceptions import CacheWarning
from hybridus.inputs.files import replacing

Contents = Mapping[str, bytes]

# https://bford.info/cachedir: programs that make backups leave such folders out.
_TAG_NAME = "CACHEDIR.TAG"
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder was made by hybridus, which makes again what is deleted here.\n"
)
_FOLDER = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"(\.[0-9a-f]{8}-)?(network|compiled-[0-9a-f]{16})\.npz|\.making")
_PATIENCE = 900  # seconds; longer than Keras takes for any network
_told: set[Path] = set()


def keep(cache: Path, fingerprint: str, name: str, contents: Contents) -> None:
    """Write contents; where there is no room or no right to, the network serves unkept.

    Parameters
    ----------
    cache : Path
        The cache folder.
    fingerprint : str
        The network, with all that decides it.
    name : str
        What of the network this is: "network", or "compiled-" with a digest.
    contents : mapping of str to bytes
    """
    folder = cache / "networks" / fingerprint
    written = {**contents, "digest": _digest(fingerprint, name, contents)}
    arrays: dict[str, Any] = {key: np.frombuffer(part, np.uint8) for key, part in written.items()}
    with contextlib.suppress(OSError):
        make_private(folder)
        tag = folder.parent / _TAG_NAME
        if not tag.exists():
            with replacing(tag) as temporary:
                temporary.write_text(_TAG, encoding="utf-8")
        with replacing(folder / f"{name}.npz") as temporary:
            np.savez(temporary, **arrays)


def recall(cache: Path, fingerprint: str, name: str, keys: set[str]) -> Contents | None:
    """Read contents back; None where they are absent, or are not what was written.

    Warns
    -----
    CacheWarning
        Where a file is there that is not what it should be; once a folder and process.
    """
    path = cache / "networks" / fingerprint / f"{name}.npz"
    try:
        # Opened here, since np.load leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            contents = {key: stored[key].tobytes() for key in stored}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        refuse(cache, str(path), str(error))
        return None
    digest = contents.pop("digest", None)
    if set(contents) != keys or digest != _digest(fingerprint, name, contents):
        refuse(cache, str(path), "it does not hold what was written")
        return None
    return contents


def is_kept(cache: Path, fingerprint: str, name: str) -> bool:
    """Whether there is a file of that name; `recall` tells whether it is whole."""
    return (cache / "networks" / fingerprint / f"{name}.npz").is_file()


@contextlib.contextmanager
def one_at_a_time(cache: Path, fingerprint: str) -> Iterator[None]:
    """Let one process at a time make a network; where nothing can be locked nobody waits.

    The lock of a process that ends, or is killed, ends with it.
    """
    from filelock import FileLock, Timeout

    folder = cache / "networks" / fingerprint
    lock = None
    with contextlib.suppress(OSError, NotImplementedError, Timeout):
        make_private(folder)
        lock = FileLock(folder / ".making")
        lock.acquire(timeout=_PATIENCE)
    try:
        yield
    finally:
        if lock is not None and lock.is_locked:
            lock.release()
            with contextlib.suppress(OSError):  # who waits for it finds what was made
                (folder / ".making").unlink()


def refuse(cache: Path, what: str, reason: str) -> None:
    """Say once that something in a cache folder is not what it should be."""
    if cache in _told:
        return
    _told.add(cache)
    warnings.warn(
        f"{what} in the cache folder {str(cache)!r} is damaged ({reason}); it is made again. Check "
        "the disk if this comes back",
        CacheWarning,
        stacklevel=2,
    )


def kept_networks(cache: Path) -> tuple[int, int]:
    """Count the networks that are kept and their bytes."""
    files = [file for file in _files(cache) if file.suffix == ".npz"]
    return len({file.parent for file in files}), sum(file.stat().st_size for file in files)


def clear_networks(cache: Path) -> tuple[int, int, list[Path]]:
    """Delete the networks that are kept, and nothing that hybridus did not write.

    Returns
    -------
    n_networks, n_bytes : int
        What was deleted.
    left : list of Path
        What lies among them and was left, since it is not ours.
    """
    networks = cache / "networks"
    count, size = kept_networks(cache)
    for file in list(_files(cache)):
        file.unlink()
        with contextlib.suppress(OSError):  # something else lies there
            file.parent.rmdir()
    if not networks.is_dir():
        return count, size, []
    left = sorted(path for path in networks.iterdir() if path.name != _TAG_NAME)
    if not left and _is_ours(networks):
        (networks / _TAG_NAME).unlink()
        with contextlib.suppress(OSError):
            networks.rmdir()
    return count, size, left


def _files(cache: Path) -> Iterator[Path]:
    """Files of ours: those of our names, in folders of our names, under a folder with our tag."""
    networks = cache / "networks"
    if not _is_ours(networks):
        return
    for folder in networks.iterdir():
        if _FOLDER.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            yield from (f for f in folder.iterdir() if _FILE.fullmatch(f.name) and f.is_file())


def _is_ours(networks: Path) -> bool:
    try:
        return (networks / _TAG_NAME).read_text(encoding="utf-8") == _TAG
    except (OSError, ValueError):
        return False


def _digest(fingerprint: str, name: str, contents: Contents) -> bytes:
    digest = hashlib.sha256(repr([fingerprint, name]).encode())
    for key, value in sorted(contents.items()):
        digest.update(repr([key, len(value)]).encode())
        digest.update(value)
    return digest.digest()
