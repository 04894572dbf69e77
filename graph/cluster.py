"""The Ray that a verb works with: that of this process, one to join, or one of its own on this machine alone."""

import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import Any

from graph.errors import ClusterError

_LOG = logging.getLogger("isthmus.ray")


def start_ray(address: str | None = None, **options: Any) -> bool:
    """Let `ray` be initialised in this process.

    Args:
        address: the cluster to join; None starts one that nothing else joins, and once more if it does not come up,
            since Ray gives its processes half a minute, which a busy machine may not have.
        options: of `ray.init`.
    Returns: whether it was not yet: then it is the caller's to shut down.
    Raises: ClusterError.
    """
    import ray

    if ray.is_initialized():
        return False
    given = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR, **options}
    if address is not None:
        try:
            ray.init(address=address, **given)
        except Exception as error:
            raise ClusterError(f"the Ray at {address} cannot be joined ({error}): see that it runs there") from error
        return True
    before = _children()
    for is_last in (False, True):
        try:
            ray.init(address="local", _node_ip_address="127.0.0.1", **given)
            break
        except Exception as error:
            for pid in _children() - before:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if is_last:
                raise ClusterError(
                    f"Ray does not start on this machine ({error}): give it more memory or less work"
                ) from error
            _LOG.warning("Ray did not start, trying once more: %s", error)
    return True


def _children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}
