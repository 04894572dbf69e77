"""Latency and throughput of POST /v1/recommendations on 50,000 items of 64 dimensions, over real HTTP on 127.0.0.1.

    python benchmarks/serving.py            about 3 minutes; --seconds 2 --clients 1 for a quick look

Beside it, in the same run: an empty endpoint of the same Ray Serve, and a plain uvicorn as the floor. The load comes
from a process of its own over kept-alive connections, each with one request at a time. The bundle is made of random
numbers in the real format; a person has 50 events.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

NUM_ITEMS: Final = 50_000
DIM: Final = 64
NUM_PEOPLE: Final = 200
HISTORY: Final = 50
MAX_REQUESTS: Final = 5_000
WARM_UP: Final = 50
PLATFORMS: Final = ("films", "shop")


class Load(NamedTuple):
    """What a client process does: bodies in turn, to one path, over some connections."""

    port: int
    method: str
    path: str
    bodies: Sequence[str]
    clients: int
    seconds: float


class Measured(NamedTuple):
    """Milliseconds of each answered request, and how long all took."""

    latencies: Sequence[float]
    seconds: float

    def row(self) -> tuple[float, float, float]:
        """p50 and p99 in ms, requests/s"""
        p50, p99 = np.percentile(self.latencies, [50, 99])
        return float(p50), float(p99), len(self.latencies) / self.seconds


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument(
        "--clients",
        type=int,
        nargs="+",
        default=[1, 8],
        help="connections at once; of more than 16 to a replica some are refused",
    )
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--items", type=int, default=NUM_ITEMS)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        measured = asyncio.run(_apply(Load(*json.load(sys.stdin))))
        print(json.dumps(measured))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _compare(Path(folder), options)


def _compare(folder: Path, options: argparse.Namespace) -> None:
    from serve.deployment import run
    from serve.security import free_port

    bundle = write_random_bundle(folder / "bundles", options.items)
    _fill_store(f"sqlite:///{folder / 'graph.db'}", options.items)
    people = [json.dumps({"user_id": f"user:{n}"}) for n in range(NUM_PEOPLE)]
    unexplained = [json.dumps({"user_id": f"user:{n}", "explain": False}) for n in range(NUM_PEOPLE)]
    guests = [json.dumps({"events": events, "explain": False}) for events in _guests(options.items)]
    port = free_port()
    started = time.perf_counter()
    server = run(
        bundle,
        f"sqlite:///{folder / 'graph.db'}",
        var=folder,
        pseudonym_secret=b"0" * 32,
        port=port,
        replicas=options.replicas,
    )
    print(
        f"{options.items} items x {DIM}; {options.replicas} replica(s) up after {time.perf_counter() - started:.0f} s\n"
    )
    import ray.serve  # after `run`, which decides how Ray Serve runs

    with server, _plain_uvicorn() as plain:
        deployment = ray.serve.deployment(name="Empty", max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
        ray.serve.run(deployment(ray.serve.ingress(_build_empty)(_Empty)).bind(), name="empty", route_prefix="/empty")
        cases = {
            "plain uvicorn, empty": (plain, "GET", "/", [""]),
            "Ray Serve, empty": (port, "GET", "/empty", [""]),
            "person never seen, without reasons": (port, "POST", "/v1/recommendations", guests),
            "known person, without reasons": (port, "POST", "/v1/recommendations", unexplained),
            "known person, with reasons": (port, "POST", "/v1/recommendations", people),
        }
        print("| clients | endpoint | p50 ms | p99 ms | requests/s | of Ray Serve, empty |")
        print("|--:|---|--:|--:|--:|--:|")
        for clients in options.clients:
            rows = {name: _measure(Load(*case, clients, options.seconds)).row() for name, case in cases.items()}
            base = rows["Ray Serve, empty"][2]
            for name, (p50, p99, rate) in rows.items():
                print(f"| {clients} | {name} | {p50:.2f} | {p99:.2f} | {rate:.0f} | {rate / base:.2f} |", flush=True)


def _measure(load: Load) -> Measured:
    command = [sys.executable, __file__, "--load"]
    done = subprocess.run(command, input=json.dumps(load), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise SystemExit(f"the load on {load.path} failed: {done.stderr.strip()[-500:]}")
    return Measured(*json.loads(done.stdout))


async def _apply(load: Load) -> Measured:
    requests = [
        (
            f"{load.method} {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        for body in load.bodies
    ]
    latencies: list[float] = []
    asked = 0

    async def client(until: float) -> None:
        nonlocal asked
        reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
        while time.perf_counter() < until and asked < MAX_REQUESTS + WARM_UP:
            request = requests[asked % len(requests)]
            asked += 1
            start = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{load.path} answered {head[:30]!r} {body[:300]!r}")
            latencies.append(1000 * (time.perf_counter() - start))
        writer.close()

    await asyncio.gather(*(client(time.perf_counter() + 0.5) for _ in range(load.clients)))
    latencies.clear()
    asked = 0
    start = time.perf_counter()
    await asyncio.gather(*(client(start + load.seconds) for _ in range(load.clients)))
    return Measured(latencies, time.perf_counter() - start)


class _Empty:
    """A deployment that does nothing."""


async def _empty(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def _build_empty() -> Any:
    return _empty


@contextmanager
def _plain_uvicorn() -> Iterator[int]:
    from serve.security import free_port

    port = free_port()
    program = (
        f"import uvicorn; from benchmarks.serving import _empty; uvicorn.run(_empty, port={port}, log_level='error')"
    )
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=root) as process:
        try:
            while _refused(port):
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def write_random_bundle(directory: Path, num_items: int, dim: int = DIM, seed: int = 0) -> Path:
    """A bundle of random numbers in the real format, two platforms, three relations, 50 LEADS_TO weights an item."""
    import torch
    from scipy.sparse import csr_array, csr_matrix

    from graph.vocabulary import Vocabulary
    from models.bundle import Catalogue, write_bundle
    from models.encoder import EncoderConfig, HistoryEncoder
    from models.flagship import Flagship
    from models.leads_to import LeadsTo

    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    keys = sorted(_item(n) for n in range(num_items))
    config = EncoderConfig(dim=dim)
    names = ("own", "IN_CATEGORY", "TOGETHER")
    parts = {name: random.normal(0, 0.1, (num_items, dim)).astype(np.float32) for name in names}
    weights = random.normal(0, 0.05, 50 * num_items).astype(np.float32)
    targets = random.integers(0, num_items, 50 * num_items)
    categories = 100
    incidence = csr_matrix(
        (np.ones(num_items, np.float32), (np.arange(num_items), random.integers(0, categories, num_items))),
        shape=(num_items, categories),
    )
    flagship = Flagship(
        HistoryEncoder(2, len(PLATFORMS), config).eval(),
        torch.zeros(len(PLATFORMS), dim, dim),
        0.1 * torch.randn(len(PLATFORMS), dim),
        config.max_history,
        np.asarray(sum(parts.values()), dtype=np.float32),
        random.normal(0, 0.1, num_items).astype(np.float32),
        parts,
        np.array([PLATFORMS.index(key.platform) for key in keys]),
        LeadsTo(csr_array((weights, (np.repeat(np.arange(num_items), 50), targets)), shape=(num_items, num_items))),
    )
    return write_bundle(
        directory,
        flagship,
        Catalogue(
            Vocabulary(keys),
            [key.platform for key in keys],
            [f"Item {n}" for n in range(num_items)],
            [None] * num_items,
        ),
        config,
        event_types=["PURCHASED", "RATED"],
        platforms=PLATFORMS,
        knowledge={"IN_CATEGORY": (incidence, [f"category:{n}" for n in range(categories)])},
        facts={},
    )


def _item(n: int) -> Any:
    from graph.keys import ItemKey

    return ItemKey(PLATFORMS[n % len(PLATFORMS)], str(n))


def _fill_store(url: str, num_items: int) -> None:
    from graph.keys import AccountKey, PlatformKey, UserKey
    from graph.records import Account, Event, Item, Link, Platform
    from graph.store import open_store

    random = np.random.default_rng(1)
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    accounts = [AccountKey("films", str(n)) for n in range(NUM_PEOPLE)]
    events = [
        Event(f"e-{n}-{i}", "RATED", accounts[n], _item(int(item)), begin + timedelta(hours=i))
        for n in range(NUM_PEOPLE)
        for i, item in enumerate(random.integers(0, num_items, HISTORY))
    ]
    with open_store(url) as store:
        store.ensure_schema()
        store.upsert_nodes([Platform(PlatformKey(name)) for name in PLATFORMS])
        store.upsert_nodes([Account(account) for account in accounts])
        store.upsert_nodes([Item(key) for key in dict.fromkeys(event.item for event in events)])
        store.link([Link(account, UserKey(account.digest), "benchmark") for account in accounts])
        store.upsert_edges(events)


def _guests(num_items: int) -> list[list[dict[str, str]]]:
    random = np.random.default_rng(2)
    return [
        [{"item_id": str(_item(int(item))), "type": "RATED"} for item in random.integers(0, num_items, HISTORY)]
        for _ in range(NUM_PEOPLE)
    ]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
