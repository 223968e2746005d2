"""The process's environment: threads it may use and folders it reads and writes."""

import os
from pathlib import Path


def n_threads() -> int:
    """Threads this process may use: what joblib or the user set, else the cores at hand.

    joblib writes its limit for a worker into ``OMP_NUM_THREADS``.
    """
    from joblib import cpu_count

    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, int(limit)) if limit.isdigit() else cpu_count()


def cache_folder() -> Path:
    """Folder of everything kept between runs: ``HYBRIDUS_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("HYBRIDUS_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("hybridus")


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user's eyes alone."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


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


def refuse_fork(started_in: int, what: str) -> None:
    """Raise in a child that was forked after `what` had started in process `started_in`.

    Raises
    ------
    RuntimeError
        In such a child, where the threads of `what` do not exist and a call would never return.
    """
    if os.getpid() != started_in:
        raise RuntimeError(
            f"this process was forked after {what} had started, and a network would hang in it. "
            "Use joblib's default backend (loky), threads, or multiprocessing's 'spawn' start "
            "method"
        )
