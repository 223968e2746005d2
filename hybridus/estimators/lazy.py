"""Lazy collections of Dask: images that are encoded when, and where, somebody asks for them.

The only door to Dask. It is never imported unless a caller hands over one of its collections.
"""

import sys


def runs_in_task() -> bool:
    """Whether this thread does a task of a Dask worker."""
    known = sys.modules.get("distributed.utils")
    return hasattr(getattr(known, "thread_state", None), "execution_state")
