"""What the server counts, as a small Prometheus page; where PROMETHEUS_MULTIPROC_DIR is set, over all replicas."""

import os
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("isthmus_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.seconds = Histogram(
            "isthmus_request_seconds",
            "Time from the request's head to the answer.",
            ("route",),
            registry=registry,
            buckets=_BUCKETS,
        )
        self.events = Counter(
            "isthmus_events", "Events sent: accepted, duplicate or rejected.", ("result",), registry=registry
        )
        self.recommendations = Counter(
            "isthmus_recommendations",
            "Answers by where they came from (model, fallback) and whether the store was missing.",
            ("source", "degraded"),
            registry=registry,
        )
        self.shadow = Histogram(
            "isthmus_shadow_overlap",
            "Share of a list that the shadow would have shown too.",
            registry=registry,
            buckets=(0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0),
        )

    def page(self, *, variants: Iterable[tuple[str, str, float]], pending: int, refused: int, store_up: bool) -> bytes:
        """The page as it is now.

        Args:
            variants: name, version and share of each bundle that answers.
        """
        counted = self._registry
        if self._shared:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        shares = {f'{{variant="{name}",version="{version}"}}': share for name, version, share in variants}
        return generate_latest(counted) + gauges_page(
            ("isthmus_bundle", "Bundles that answer, and the share of people each answers.", shares),
            ("isthmus_outbox_pending", "Acknowledged events on their way to the store.", {"": pending}),
            ("isthmus_outbox_refused", "Acknowledged events the store refuses, kept in the outbox.", {"": refused}),
            ("isthmus_store_up", "1 if the store answered when it was last asked.", {"": int(store_up)}),
        )


def gauges_page(*gauges: tuple[str, str, Mapping[str, float]]) -> bytes:
    """Facts of this moment (name, meaning, value by labels), the same in every replica: read rather than counted."""
    lines = []
    for name, help, values in gauges:
        lines += [f"# HELP {name} {help}", f"# TYPE {name} gauge"]
        lines += [f"{name}{labels} {value:g}" for labels, value in values.items()]
    return "".join(f"{line}\n" for line in lines).encode()
