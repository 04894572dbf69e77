"""The Ray that reads texts and big exports: one that runs already, one to join, or one of this process's own."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Use the Ray of this process, or join the one at `address`, or start one and stop it at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"_node_ip_address": "127.0.0.1"} if address is None else {}
    # Ray Data announces every pipeline, and that its actors' arguments are kept where Ray keeps arguments.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init(
        address=address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **own
    )
    try:
        yield
    finally:
        ray.shutdown()
