"""How soon what is posted shows, and what answers do while the graph store is down; over HTTP, with two replicas.

    python -m benchmarks.freshness              both; --only freshness or --only store-down

Freshness: an event, a new session's first click, or the deletion of an item is posted, and the list that it has to
change is asked for again and again over new connections, which go to either replica, until six answers in a row show
it. Counted is the time from sending to the last answer that did not show it, or to the acknowledgement.

Store down: the store's address refuses connections, then accepts them and stays silent. Reads of four kinds, and a
tenth events, are sent at a steady rate meanwhile.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import numpy as np

from benchmarks.serving import NUM_PEOPLE, _fill_store, _item, write_random_bundle

NUM_ITEMS: Final = 10_000
SECRET: Final = b"0" * 32
IN_A_ROW: Final = 6
RATE: Final = 20
"""Requests/s while the store is down."""


def main() -> None:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["freshness", "store-down"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each way to be down")
    parser.add_argument("--plain", action="store_true", help="two uvicorn processes, asked in turn, and no Ray")
    parser.add_argument("--replica", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replica:
        _be_replica(*options.replica)
        return
    start = plain if options.plain else served
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if options.only != "store-down":
            _freshness(Path(folder) / "fresh", options.rounds, start)
        if options.only != "freshness":
            _store_down(Path(folder) / "down", options.seconds, start)


Start: TypeAlias = Callable[[Path, str, Path], AbstractContextManager[Callable[[], str]]]
"""From a bundle, a store and a folder: two replicas, and what gives the URL to ask next."""


@contextmanager
def served(bundle: Path, store: str, var: Path) -> Iterator[Callable[[], str]]:
    """Two replicas as isthmus serve has them."""
    from serve.deployment import run
    from serve.security import free_port

    with run(bundle, store, var=var, pseudonym_secret=SECRET, port=free_port(), replicas=2) as server:
        yield lambda: server.url


@contextmanager
def plain(bundle: Path, store: str, var: Path) -> Iterator[Callable[[], str]]:
    """The same replicas, each in a uvicorn of its own."""
    from serve.deployment import replica_options
    from serve.registry import Registry
    from serve.security import free_port

    Registry(var / "bundles", var).at_start(bundle)
    options = var / "options" / "options.json"
    options.parent.mkdir()
    options.write_text(json.dumps(replica_options(store, var, SECRET)))
    ports = [free_port() for _ in range(2)]
    command = [sys.executable, "-m", "benchmarks.freshness", "--replica", str(options)]
    urls = cycle([f"http://127.0.0.1:{port}" for port in ports])
    with ExitStack() as stack:
        for port in ports:
            process = stack.enter_context(subprocess.Popen([*command, str(port)]))
            stack.callback(process.kill)
        for _ in ports:
            url = next(urls)
            while not _answers(url):
                time.sleep(0.1)
        yield lambda: next(urls)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _be_replica(options: str, port: str) -> None:
    import uvicorn

    from serve.deployment import Replica

    replica = Replica(options)
    uvicorn.run(replica.__serve_build_asgi_app__(), port=int(port), log_level="error")


def _freshness(var: Path, rounds: int, start: Start) -> None:
    store = f"sqlite:///{var / 'graph.db'}"
    var.mkdir()
    _fill_store(store, NUM_ITEMS)
    bundle = write_random_bundle(var / "bundles", NUM_ITEMS)
    cases: dict[str, Callable[[Callable[[], str], int], float]] = {
        "event → changed list of a known person": _event,
        "first click of a session → list of its own": _session,
        "deleted item → in no list": _deletion,
    }
    print("| what | times | p50 ms | p95 ms | slowest ms | goal p95 |")
    print("|---|--:|--:|--:|--:|--:|")
    with start(bundle, store, var) as url:
        for name, case in cases.items():
            taken = [1000 * case(url, n) for n in range(rounds)]
            p50, p95 = np.percentile(taken, [50, 95])
            print(f"| {name} | {rounds} | {p50:.0f} | {p95:.0f} | {max(taken):.0f} | 2000 |", flush=True)


def _event(url: Callable[[], str], n: int) -> float:
    who = {"user_id": f"user:{n % NUM_PEOPLE}"}
    item = _list(url, who)[0]
    event = _new_event(f"e-{n}", item, account_id=f"films:a-{n}")
    who = {"account_id": f"films:a-{n}"}
    before = _list(url, who)
    return _until(url, "POST", "/v1/events", {"events": [event]}, lambda: _list(url, who) != before)


def _session(url: Callable[[], str], n: int) -> float:
    who = {"session_id": f"films:s-{n}"}
    event = _new_event(f"s-{n}", str(_item(n)), session_id=f"films:s-{n}")
    return _until(url, "POST", "/v1/events", {"events": [event]}, lambda: _source(url, who) == "model")


def _deletion(url: Callable[[], str], n: int) -> float:
    who = {"user_id": f"user:{n % NUM_PEOPLE}"}
    item = _list(url, who)[0]
    return _until(url, "DELETE", f"/v1/items/{item}", None, lambda: item not in _list(url, who))


def _until(url: Callable[[], str], method: str, path: str, body: Any, shows: Callable[[], bool]) -> float:
    """Seconds from sending to the last answer that did not show it, or to the acknowledgement."""
    sent = time.perf_counter()
    httpx.request(method, url() + path, json=body, timeout=30).raise_for_status()
    last = time.perf_counter()
    in_a_row = 0
    while in_a_row < IN_A_ROW:
        in_a_row += 1
        if not shows():
            last, in_a_row = time.perf_counter(), 0
    return last - sent


def _answer(url: Callable[[], str], who: dict[str, Any]) -> dict[str, Any]:
    response = httpx.post(f"{url()}/v1/recommendations", json=who | {"explain": False}, timeout=30)
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer


def _list(url: Callable[[], str], who: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in _answer(url, who)["items"]]


def _source(url: Callable[[], str], who: dict[str, Any]) -> str:
    return str(_answer(url, who)["items"][0]["source"])


def _new_event(id: str, item: str, **who: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    return {"event_id": id, "type": "PURCHASED", "item_id": item, "occurred_at": at} | who


def _store_down(var: Path, seconds: float, start: Start) -> None:
    from serve.security import free_port

    var.mkdir()
    bundle = write_random_bundle(var / "bundles", NUM_ITEMS)
    port = free_port()
    store = f"neo4j://neo4j:none@127.0.0.1:{port}/neo4j"
    print("\n| the store | reads | p50 ms | p99 ms | failed | not said to be degraded | goal p99 |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with start(bundle, store, var) as url:
        accepted = _load(url, "refuses connections", seconds, 0)
        with closing(_silent(port)):
            accepted += _load(url, "accepts them and is silent", seconds, accepted)
        page = httpx.get(f"{url()}/metrics", timeout=30).text
    kept = next(line.split()[1] for line in page.splitlines() if line.startswith("isthmus_outbox_pending "))
    print(f"\n{accepted} events acknowledged meanwhile, {kept} wait in the outbox")
    if int(float(kept)) != accepted:
        raise SystemExit("acknowledged events were lost")


def _silent(port: int) -> socket.socket:
    server = socket.create_server(("127.0.0.1", port), backlog=256)

    def accept() -> None:
        taken = []
        while True:
            try:
                taken.append(server.accept())
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    return server


def _load(url: Callable[[], str], how: str, seconds: float, first: int) -> int:
    """Reads of four kinds at a steady rate, a tenth of all requests events; prints a line, returns events accepted."""
    taken: list[float] = []
    failed = undegraded = accepted = 0
    reads: Sequence[tuple[str, str, Any]] = (
        ("POST", "/v1/recommendations", {"user_id": "user:1"}),
        ("POST", "/v1/recommendations", {"account_id": "films:a", "explain": False}),
        ("GET", "/v1/users/user:1/events", None),
        ("GET", "/v1/users/user:1/recommendations", None),
    )
    begin = time.perf_counter()
    with httpx.Client(timeout=30) as client:
        for n in range(int(seconds * RATE)):
            time.sleep(max(0.0, begin + n / RATE - time.perf_counter()))
            if n % 10 == 0:
                event = _new_event(f"d-{first}-{n}", str(_item(n)), account_id=f"films:a-{n}")
                accepted += client.post(url() + "/v1/events", json={"events": [event]}).json()["accepted"]
                continue
            method, path, body = reads[n % len(reads)]
            start = time.perf_counter()
            response = client.request(
                method, url() + path, content=body and json.dumps(body), headers=_JSON if body else {}
            )
            taken.append(1000 * (time.perf_counter() - start))
            failed += response.status_code != 200
            undegraded += response.status_code == 200 and not response.json()["degraded"]
    p50, p99 = np.percentile(taken, [50, 99])
    print(f"| {how} | {len(taken)} | {p50:.1f} | {p99:.0f} | {failed} | {undegraded} | 300 |", flush=True)
    return accepted


_JSON: Final = {"content-type": "application/json"}


if __name__ == "__main__":
    main()
