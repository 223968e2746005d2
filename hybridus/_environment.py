"""Environment of the process: threads that it may use, folders that it reads and writes."""

import os
import stat
import warnings
from functools import cache
from pathlib import Path

from hybridus.exceptions import CacheWarning


def n_threads() -> int:
    """Threads this process may use: what joblib or the user set, else the cores at hand.

    joblib writes its limit for a worker into ``OMP_NUM_THREADS``.
    """
    from joblib import cpu_count

    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, int(limit)) if limit.isdigit() else cpu_count()


def cache_folder(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Folder of everything kept between runs, as one and the same path however it is written.

    What is `chosen`, else ``HYBRIDUS_CACHE``, else the user's cache folder.
    """
    folder = chosen or os.environ.get("HYBRIDUS_CACHE")
    if not folder:
        from platformdirs import user_cache_dir

        folder = user_cache_dir("hybridus", appauthor=False)
    return Path(os.path.realpath(os.path.expanduser(folder)))


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user's eyes alone.

    Warns
    -----
    CacheWarning
        Where the folder is there and others may write to it; once a folder and process.
    """
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    if others_may_write(folder):
        warnings.warn(
            f"others may write to the cache folder {str(folder)!r}, and what is kept there decides "
            "features: it is guarded against damage, not against them. Take the right from them "
            f"(chmod go-w {str(folder)!r}), or choose a folder of your own with HYBRIDUS_CACHE",
            CacheWarning,
            stacklevel=2,
        )


_looked_at: set[Path] = set()


def others_may_write(folder: Path) -> bool:
    """Whether other users may change what is in a folder; False where the system has no modes."""
    if not hasattr(os, "getuid"):
        return False
    status = folder.stat()
    if status.st_uid not in (os.getuid(), 0):
        return True
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_of_one(status.st_gid, status.st_uid)


def _is_of_one(group_id: int, user_id: int) -> bool:
    """Whether a group is a user's own, as systems make one for each user."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(group_id), pwd.getpwuid(user_id)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def weight_folders() -> list[Path]:
    """Folders of pretrained weights, from ``HYBRIDUS_WEIGHTS``, separated as in ``PATH``."""
    listed = os.environ.get("HYBRIDUS_WEIGHTS", "").split(os.pathsep)
    return [Path(folder).expanduser() for folder in listed if folder]


def keras_home() -> Path:
    """Folder in which Keras keeps downloads: its own where it exists, else one of ours.

    Keras writes a configuration file at its first import; hybridus leaves nothing outside its own
    folder.
    """
    if chosen := os.environ.get("KERAS_HOME"):
        return Path(chosen).expanduser()
    own = Path("~/.keras").expanduser()
    return own if (own / "keras.json").exists() else cache_folder() / "keras"


def docs_address() -> str:
    """Address of the documentation, without a slash at its end; empty where none is known.

    ``HYBRIDUS_DOCS``, an address or a folder that `make docs` wrote, else what the project's
    metadata name as "Documentation".
    """
    chosen = os.environ.get("HYBRIDUS_DOCS", "")
    if not chosen:
        return _published_docs()
    folder = Path(chosen).expanduser()
    if folder.is_absolute() and folder.is_dir():
        return folder.resolve().as_uri()
    return chosen.rstrip("/")


@cache
def _published_docs() -> str:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        urls = metadata("hybridus").get_all("Project-URL") or []
    except PackageNotFoundError:  # a folder on the path, not installed
        return ""
    named = dict(url.split(", ", 1) for url in urls if ", " in url)
    return named.get("Documentation", "").rstrip("/")


class ForkGuard:
    """Refuses a child that was forked after `what` had started in its parent.

    Its threads do not exist in the child, and a call would never return.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._started_in = 0

    def check(self) -> None:
        """Note the process at the first call; later ones must come from it.

        Raises
        ------
        RuntimeError
            In a forked child.
        """
        self._started_in = self._started_in or os.getpid()
        if os.getpid() != self._started_in:
            raise RuntimeError(
                f"this process was forked after {self._what} had started, and a network would hang "
                "in it. Use joblib's default backend (loky), threads, or multiprocessing's 'spawn' "
                "start method"
            )
