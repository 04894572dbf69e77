"""What becomes of answers when replicas are killed or hang, models swapped, callers too many, slow or over their limit.

    python -m benchmarks.resilience                     about 5 minutes; --replicas 2 for two
    python -m benchmarks.resilience --only stall limit  parts of it

A real `isthmus serve` with keys on 127.0.0.1, a bundle of random numbers in the real format, people with 50 events
each. The load comes from one process of its own over kept-alive connections; on two cores it takes its share of
them, so capacity is that of a machine which is its own client.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.serving import NUM_PEOPLE, _fill_store, write_random_bundle
from isthmus_client import Isthmus, Problem

PARTS: Final = ("steady", "kill", "stall", "overload", "slow", "limit", "swap", "soak")
SWAPS: Final = 20
DAMAGED: Final = 5
MAX_CONNECTIONS: Final = 512
TIMEOUT_S: Final = 10.0
LIMIT: Final = 60
"""Used up within a second, so that what stands beside another key is refusals alone."""


class Load(NamedTuple):
    """Requests at a rate, whether the answers come or not; rate 0: eight clients, each after its last answer."""

    port: int
    key: str
    rate: float
    seconds: float
    retry: bool = False
    """Whether a request that fails (503, a connection that breaks) is sent once more after a short wait."""
    read: bool = False
    """Whether answers are read, to compare lists."""


class Answer(NamedTuple):
    """One request: when it was due, the seconds it took, its status (0: none came, twice where it was retried)."""

    at: float
    seconds: float
    status: int
    list: tuple[str, str] = ("", "")
    """The version of the model, and a digest of person and items; empty where answers are not read."""


class Setting(NamedTuple):
    """The server under test."""

    port: int
    key: str
    limited: str
    admin: str
    bundles: Sequence[Path]
    """Two whole ones, the one in use first, then damaged ones."""
    replicas: int
    capacity: float


def main() -> None:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--kill-seconds", type=float, default=40.0, help="a replica is killed every 10 s of these")
    parser.add_argument("--soak-seconds", type=float, default=60.0)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(asyncio.run(_apply(Load(*json.load(sys.stdin))))))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _serving(Path(folder), options) as setting:
        print(f"{options.items} items, {setting.replicas} replica(s), capacity {setting.capacity:.0f} requests/s")
        print("\n| part | measured | figure |\n|---|---|--:|")
        parts: Mapping[str, Callable[[], Mapping[str, str]]] = {
            "steady": lambda: _steady(setting),
            "kill": lambda: _kill(setting, options.kill_seconds),
            "stall": lambda: _stall(setting),
            "overload": lambda: _overload(setting),
            "slow": lambda: _slow(setting),
            "limit": lambda: _limit(setting),
            "swap": lambda: _swap(setting),
            "soak": lambda: _soak(setting, options.soak_seconds),
        }
        for part in options.only:
            for measured, figure in parts[part]().items():
                print(f"| {part} | {measured} | {figure} |", flush=True)


@contextmanager
def _serving(folder: Path, options: argparse.Namespace) -> Iterator[Setting]:
    from serve.deployment import run
    from serve.keys import make
    from serve.security import free_port

    bundle = write_random_bundle(folder / "bundles", options.items)
    other = write_random_bundle(folder / "bundles", options.items, seed=1)
    store = f"sqlite:///{folder / 'graph.db'}"
    _fill_store(store, options.items)
    text, key = make("bench", ["read"], 0)
    limited, limited_key = make("limited", ["read"], LIMIT)
    admin, admin_key = make("admin", ["read", "admin"], 0)
    port = free_port()
    lines = [key.line(), limited_key.line(), admin_key.line()]
    with run(bundle, store, var=folder, pseudonym_secret=bytes(32), keys=lines, port=port, replicas=options.replicas):
        _load(Load(port, text, 0, 2))
        answers = _load(Load(port, text, 0, 4))
        good = [answer for answer in answers if answer.status == 200]
        bundles = [bundle, other, *(_damaged(other, number) for number in range(DAMAGED))]
        yield Setting(port, text, limited, admin, bundles, options.replicas, len(good) / 4)


def _steady(setting: Setting) -> dict[str, str]:
    """50 requests/s for 10 s."""
    answers = _load(Load(setting.port, setting.key, 50, 10))
    p50, p95, p99 = (f"{1000 * _percentile(answers, q):.0f}" for q in (50, 95, 99))
    return {
        "50 requests/s: p50; p95; p99, ms": f"{p50}; {p95}; {p99}",
        "requests; not 200": f"{len(answers)}; {sum(answer.status != 200 for answer in answers)}",
    }


def _kill(setting: Setting, seconds: float) -> dict[str, str]:
    """A replica is ended by SIGKILL every 10 s under load."""
    load = Load(setting.port, setting.key, min(50, 0.5 * setting.capacity), seconds, retry=True)
    killed = 0
    with _in_background(load) as answers:
        until = time.monotonic() + seconds - 5
        time.sleep(3)
        while time.monotonic() < until:
            os.kill(_replicas()[killed % len(_replicas())], signal.SIGKILL)
            killed += 1
            time.sleep(10)
    good = sum(answer.status == 200 for answer in answers)
    bad = [round(answer.at, 1) for answer in answers if answer.status != 200]
    return {
        f"success with one retry, {killed} kills, {load.rate:.0f} requests/s": f"{good / len(answers):.2%}",
        "failed, at second": f"{len(bad)}" + (f" ({bad[0]}–{bad[-1]})" if bad else ""),
    }


def _stall(setting: Setting) -> dict[str, str]:
    """A replica is stopped (SIGSTOP) and never goes on: seconds until as many as before answer without it."""
    before = _replicas()
    os.kill(before[0], signal.SIGSTOP)
    began = time.monotonic()
    failed = 0
    while time.monotonic() - began < 90:
        answers = _load(Load(setting.port, setting.key, 10, 1, retry=True))
        failed += sum(answer.status != 200 for answer in answers)
        now = _replicas()
        if before[0] not in now and len(now) >= setting.replicas and all(one.status == 200 for one in answers):
            break
    replaced = time.monotonic() - began
    with contextlib.suppress(ProcessLookupError):
        os.kill(before[0], signal.SIGKILL)
    return {"hung replica replaced after, s": f"{replaced:.0f}", "requests without an answer meanwhile": f"{failed}"}


def _overload(setting: Setting) -> dict[str, str]:
    """Five times what it can do, for 8 s."""
    half = 0.5 * setting.capacity
    normal = _load(Load(setting.port, setting.key, half, 6))
    usual = _percentile([one for one in normal if one.status == 200], 99)
    answers = _load(Load(setting.port, setting.key, 5 * setting.capacity, 8))
    after = _load(Load(setting.port, setting.key, half, 12))
    accepted = [one for one in answers if one.status == 200]
    refused = [one for one in answers if one.status == 503]
    slow = [one.at for one in after if one.status != 200 or one.seconds > 2 * usual]
    return {
        "normal (half of capacity) p99, ms": f"{1000 * usual:.0f}",
        "accepted p99, ms": f"{1000 * _percentile(accepted, 99):.0f}",
        "accepted, requests/s": f"{len(accepted) / 8:.0f}",
        "refused (503) p50; p99, ms": f"{1000 * _percentile(refused, 50):.0f}; {1000 * _percentile(refused, 99):.0f}",
        "sent; refused; neither": f"{len(answers)}; {len(refused)}; {len(answers) - len(accepted) - len(refused)}",
        "recovered after, s (last answer over twice the normal p99)": f"{max(slow, default=0.0):.1f}",
    }


def _slow(setting: Setting) -> dict[str, str]:
    """Callers that begin a request and never end it: a hundred in the head, a hundred in the body."""
    rate = 0.3 * setting.capacity
    usual = _percentile(_load(Load(setting.port, setting.key, rate, 5)), 95)
    head = f"POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {setting.key}\r\n"
    body = f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    sockets = [socket.create_connection(("127.0.0.1", setting.port)) for _ in range(200)]
    for number, one in enumerate(sockets):
        one.sendall((head if number % 2 else body).encode())
    answers = _load(Load(setting.port, setting.key, rate, 5))
    time.sleep(10)
    still = 0
    for one in sockets:
        one.setblocking(False)
        with contextlib.suppress(ConnectionError):
            try:
                while one.recv(65536):
                    pass
            except BlockingIOError:
                still += 1
        one.close()
    good = sum(answer.status == 200 for answer in answers)
    return {
        "p95 before; beside 200 slow callers, ms": f"{1000 * usual:.0f}; {1000 * _percentile(answers, 95):.0f}",
        "answered 200": f"{good} of {len(answers)}",
        "slow callers still connected after 15 s": f"{still}",
    }


def _limit(setting: Setting) -> dict[str, str]:
    """One key asks far over its limit while another goes on."""
    rate = 0.2 * setting.capacity
    alone = _load(Load(setting.port, setting.key, rate, 8))
    with _in_background(Load(setting.port, setting.limited, 100, 10)) as over:
        time.sleep(1)
        beside = _load(Load(setting.port, setting.key, rate, 8))
    before, after = _percentile(alone, 95), _percentile(beside, 95)
    passed = sum(one.status == 200 for one in over)
    return {
        f"passed of a limit of {LIMIT}; refused with 429": f"{passed}; {sum(one.status == 429 for one in over)}",
        "another key's p95 alone; beside it, ms": f"{1000 * before:.1f}; {1000 * after:.1f}",
    }


def _damaged(bundle: Path, number: int) -> Path:
    """A copy with one byte changed in one of its files."""
    copy = bundle.with_name(f"{number:012x}")
    shutil.copytree(bundle, copy)
    files = sorted(file for file in copy.rglob("*") if file.is_file() and file.name != "manifest.json")
    file = files[number % len(files)]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(bundle.name, copy.name))
    return copy


def _swap(setting: Setting) -> dict[str, str]:
    """Models are swapped and damaged ones offered under load; a list is of one model, as that model makes it."""
    took, refused = [], 0
    load = Load(setting.port, setting.key, 0.3 * setting.capacity, 1.5 * (SWAPS + DAMAGED), read=True)
    with (
        _in_background(load) as answers,
        Isthmus(f"http://127.0.0.1:{setting.port}", key=setting.admin, timeout_s=60) as isthmus,
    ):
        for number in range(SWAPS):
            bundle = setting.bundles[(number + 1) % 2]
            began = time.monotonic()
            isthmus.request("PUT", "/v1/models/active", json={"version": bundle.name})
            took.append(time.monotonic() - began)
            if number % (SWAPS // DAMAGED) == 0:
                try:
                    damaged = setting.bundles[2 + number * DAMAGED // SWAPS]
                    isthmus.request("PUT", "/v1/models/active", json={"version": damaged.name})
                except Problem:
                    refused += 1
            time.sleep(0.5)
    lists = {answer.list for answer in answers if answer.list[0]}
    of_whom = {(version, digest.partition(" ")[0]) for version, digest in lists}
    return {
        f"{len(took)} swaps: median; slowest, s": f"{statistics.median(took):.1f}; {max(took):.1f}",
        "damaged bundles refused": f"{refused} of {DAMAGED}",
        "requests; not 200": f"{len(answers)}; {sum(answer.status != 200 for answer in answers)}",
        "models seen; people with two lists of one model": (
            f"{len({version for version, _ in of_whom})}; {len(lists) - len(of_whom)}"
        ),
    }


def _soak(setting: Setting, seconds: float) -> dict[str, str]:
    """Memory of the replicas (resident, in MiB) after a fifth of the time and at its end."""
    with _in_background(Load(setting.port, setting.key, 0.5 * setting.capacity, seconds)) as answers:
        time.sleep(seconds / 5)
        before = sum(map(_resident, _replicas()))
        time.sleep(seconds * 4 / 5 - 1)
        after = sum(map(_resident, _replicas()))
    return {
        f"memory after {seconds / 5:.0f} s, MiB": f"{before:.0f}",
        f"memory after {seconds:.0f} s, MiB": f"{after:.0f} ({after / before - 1:+.1%})",
        "requests; not 200": f"{len(answers)}; {sum(answer.status != 200 for answer in answers)}",
    }


def _percentile(answers: Sequence[Answer], q: float) -> float:
    return float(np.percentile([answer.seconds for answer in answers], q)) if answers else float("nan")


def _replicas() -> list[int]:
    """Pids of our replicas: Ray writes what an actor is into its title."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ServeReplica:isthmus:Replica" in (folder / "cmdline").read_bytes() and _is_ours(int(folder.name)):
                found.append(int(folder.name))
    return sorted(found)


def _is_ours(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _load(load: Load) -> list[Answer]:
    with _in_background(load) as answers:
        pass
    return answers


@contextmanager
def _in_background(load: Load) -> Iterator[list[Answer]]:
    """A process that applies the load; the list is filled when the block has ended and the load too."""
    command = [sys.executable, "-m", "benchmarks.resilience", "--load"]
    root = Path(__file__).parents[1]
    answers: list[Answer] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(process.communicate(json.dumps(load))[0]))
        reader.start()
        try:
            yield answers
        finally:
            reader.join()
    if process.returncode:
        raise SystemExit("the load could not be applied")
    answers.extend(Answer(at, seconds, status, tuple(told)) for at, seconds, status, told in json.loads(said[0]))


async def _apply(load: Load) -> list[Answer]:
    bodies = [json.dumps({"user_id": f"user:{n}"}) for n in range(NUM_PEOPLE)]
    requests = [
        (
            f"POST /v1/recommendations HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {load.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        for body in bodies
    ]
    idle: list[tuple[Any, Any]] = []
    answers: list[Answer] = []
    start = time.perf_counter()

    async def once(number: int) -> tuple[int, tuple[str, str]]:
        told = "", ""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", load.port)
                writer.write(requests[number])
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return 0, told
        if load.read and head[9:12] == b"200":
            answer = json.loads(body)
            items = " ".join(f"{item['item_id']} {item['score']:.4f}" for item in answer["items"])
            told = answer["model_version"], f"{number} {hashlib.sha256(items.encode()).hexdigest()}"
        if b"connection: close" in head.lower():
            writer.close()
        else:
            idle.append((reader, writer))
        return int(head[9:12]), told

    async def ask(number: int, due: float) -> None:
        status, told = await once(number % len(requests))
        if load.retry and status in (0, 503):
            await asyncio.sleep(0.5)
            status, told = await once(number % len(requests))
        answers.append(Answer(due - start, time.perf_counter() - due, status, told))

    if load.rate:
        running: set[asyncio.Task[None]] = set()
        for number in range(int(load.rate * load.seconds)):
            due = start + number / load.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if len(running) < MAX_CONNECTIONS:
                task = asyncio.create_task(ask(number, time.perf_counter()))
                running.add(task)
                task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        return answers

    async def client(first: int) -> None:
        number = first
        while time.perf_counter() < start + load.seconds:
            await ask(number, time.perf_counter())
            number += 8

    await asyncio.gather(*(client(first) for first in range(8)))
    return answers


if __name__ == "__main__":
    main()
