"""The Ray that reads texts and big exports: one that runs already, one to join, or one of this process's own."""

import contextlib
import logging
import os
from collections.abc import Iterator

from graph.cluster import start_ray


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Use the Ray of this process, or join the one at `address`, or start one and stop it at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray Data announces every pipeline, and that its actors' arguments are kept where Ray keeps arguments.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    own = start_ray(address)
    try:
        yield
    finally:
        if own:
            import ray

            ray.shutdown()
