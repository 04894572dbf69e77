"""100,000 events sent three times, at once, to two replicas: is the graph the one that they make when sent once?

    python -m benchmarks.replay

The three senders go through the same events in different orders, over HTTP on 127.0.0.1, in requests of 1,000. Once
sent means: in order, by one sender, to an application of its own with a store of its own. The graphs are compared by
the checksum of every label and relationship type (`graph.store.checksum`).
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.freshness import SECRET, Start, plain, served
from benchmarks.serving import _item, write_random_bundle

NUM_ITEMS: Final = 2_000
PEOPLE: Final = 5_000
SENDERS: Final = 3


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--plain", action="store_true", help="two uvicorn processes, asked in turn, and no Ray")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _compare(Path(folder), options.events, plain if options.plain else served)


def _compare(folder: Path, count: int, start: Start) -> None:
    from graph.store import checksum, open_store

    bundle = write_random_bundle(folder / "bundles", NUM_ITEMS)
    requests = [_events(start, min(start + 1000, count)) for start in range(0, count, 1000)]
    thrice, once = folder / "thrice", folder / "once"
    thrice.mkdir()
    with start(bundle, f"sqlite:///{thrice / 'graph.db'}", thrice) as url, ThreadPoolExecutor(SENDERS) as pool:
        started = time.perf_counter()
        counted = list(pool.map(lambda seed: _send(url, requests, seed), range(SENDERS)))
        sent_s = time.perf_counter() - started
        _wait_until_drained(url())
        drained_s = time.perf_counter() - started
    _send_once(bundle, once, requests)
    with open_store(f"sqlite:///{thrice / 'graph.db'}") as one, open_store(f"sqlite:///{once / 'graph.db'}") as other:
        sums = checksum(one), checksum(other)
        stored = sum(count for type, count in one.counts().edges.items() if type in one.event_types())
    accepted, duplicates = (sum(each[n] for each in counted) for n in (0, 1))
    alike = "yes" if sums[0] == sums[1] else "NO"
    print(
        "| sent | accepted | duplicates | in the store | checksums alike | events/s acknowledged | all stored after s |"
    )
    print("|--:|--:|--:|--:|---|--:|--:|")
    print(
        f"| {SENDERS} × {count:,} | {accepted:,} | {duplicates:,} | {stored:,} | {alike} "
        f"| {SENDERS * count / sent_s:,.0f} | {drained_s:.0f} |"
    )
    if sums[0] != sums[1] or accepted != stored:
        raise SystemExit("the graphs differ")


def _events(start: int, end: int) -> list[dict[str, Any]]:
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        {
            "event_id": f"e-{n}",
            "type": ("RATED", "PURCHASED")[n % 2],
            "account_id": f"films:person-{n * 7919 % PEOPLE}",
            "item_id": str(_item(n * 104_729 % NUM_ITEMS)),
            "occurred_at": (begin + timedelta(seconds=n)).isoformat(),
            "value": float(1 + n % 5),
        }
        for n in range(start, end)
    ]


def _send(url: Callable[[], str], requests: Sequence[Sequence[dict[str, Any]]], seed: int) -> tuple[int, int]:
    """Accepted and duplicates of all requests, in an order that the seed draws; a 503 is tried again."""
    accepted = duplicates = 0
    with httpx.Client(timeout=60) as client:
        for request in random.Random(seed).sample(requests, len(requests)):
            while (answer := client.post(url() + "/v1/events", json={"events": request})).status_code == 503:
                time.sleep(0.2)
            counts = answer.json()
            if answer.status_code != 202 or counts["rejected"]:
                raise SystemExit(f"{answer.status_code}: {answer.text[:300]}")
            accepted, duplicates = accepted + counts["accepted"], duplicates + counts["duplicates"]
    return accepted, duplicates


def _wait_until_drained(url: str) -> None:
    while "\nisthmus_outbox_pending 0\n" not in httpx.get(f"{url}/metrics", timeout=60).text:
        time.sleep(0.2)


def _send_once(bundle: Path, var: Path, requests: Sequence[Sequence[dict[str, Any]]]) -> None:
    from fastapi.testclient import TestClient

    from graph.keys import Pseudonyms
    from graph.store import open_store
    from models.bundle import Bundle
    from models.ranker import Ranker
    from serve.app import create_app
    from serve.drain import drain
    from serve.live import Live, StoreGate
    from serve.metrics import Metrics
    from serve.outbox import Outbox
    from serve.recommender import Recommender
    from serve.service import Service

    opened = Bundle.open(bundle)
    with open_store(f"sqlite:///{var / 'graph.db'}") as store, Outbox(var / "outbox.db") as outbox:
        gate = StoreGate(lambda: open_store(store.url))
        service = Service(Live(outbox, gate), outbox, Pseudonyms(SECRET), Metrics())
        service.recommender = Recommender(opened, Ranker(opened))
        with TestClient(create_app(service)) as client:
            for request in requests:
                client.post("/v1/events", json={"events": request}).raise_for_status()
        service.close()
        gate.close()
        while drain(outbox, store):
            pass


if __name__ == "__main__":
    main()
