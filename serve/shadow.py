"""The shadow: a bundle that is asked what it would have shown, besides and after; nobody sees it, a metric counts."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from serve.metrics import Metrics
from serve.recommender import Recommendations, Recommender, Signal

AT_ONCE: Final = 8
"""Comparisons that wait or run; what comes while there are so many is not compared, so answers are not held up."""

_LOG = logging.getLogger("isthmus.models")


class Shadow:
    """Compares lists on a thread of its own."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(1, "shadow")
        self._places = threading.Semaphore(AT_ONCE)

    def compare(
        self,
        shadow: Recommender | None,
        signals: Sequence[Signal],
        shown: Recommendations,
        limit: int,
        platforms: Sequence[str] | None,
    ) -> None:
        """Count how much of the list that is shown the shadow would show to the same person; at once, or not at all.

        Filters and exclusions are not asked of the shadow: what they leave out counts against it.
        """
        if shadow is None or not shown.items or not self._places.acquire(blocking=False):
            return
        expected = {item["item_id"] for item in shown.items}
        self._pool.submit(self._compare, shadow, signals, expected, limit, platforms)

    def close(self) -> None:
        """End the thread when what it has begun is done."""
        self._pool.shutdown(cancel_futures=True)

    def _compare(
        self,
        shadow: Recommender,
        signals: Sequence[Signal],
        expected: set[str],
        limit: int,
        platforms: Sequence[str] | None,
    ) -> None:
        try:
            known = None if platforms is None else [name for name in platforms if name in shadow.bundle.platforms]
            if known != []:
                found = shadow.recommend(signals, limit=limit, platforms=known, explain=False)
                same = sum(item["item_id"] in expected for item in found.items)
                self._metrics.shadow.observe(same / len(expected))
        except Exception:
            _LOG.exception("the shadow %s failed, what is shown does not depend on it", shadow.version)
        finally:
            self._places.release()
