"""The real thing: Ray Serve, HAProxy, two replicas and HTTP on a free port of this machine, over a real bundle."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from graph.keys import Pseudonyms, lone_user
from graph.store import open_store
from serve.security import free_port
from tests.planted import person, plant, taste_of
from tests.serve.tiny import write_tiny_bundle

pytestmark = pytest.mark.timeout(900)  # starting Ray took 214 s on a machine four times overloaded, 15 s on an idle one
SECRET = b"sixteen bytes or more"
SPACE_0 = person("space-0")
ROOT = Path(__file__).parents[2]

PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from serve.deployment import run

    var, bundle, store, port, secret = sys.argv[1:]
    server = run(Path(bundle), store, var=Path(var), pseudonym_secret=bytes.fromhex(secret), port=int(port), replicas=2)
    print("up", flush=True)
    for line in sys.stdin:
        try:
            print("swapped", server.swap(Path(line.strip())), flush=True)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    server.stop()
    print("stopped", flush=True)
    """
)


class Serving(NamedTuple):
    process: subprocess.Popen[str]
    client: httpx.Client
    var: Path
    bundles: tuple[Path, Path]
    port: int

    def swap(self, bundle: Path) -> str:
        self.process.stdin.write(f"{bundle}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    var = tmp_path_factory.mktemp("var")
    bundles = write_tiny_bundle(var / "bundles", 1), write_tiny_bundle(var / "bundles", 2)
    with open_store(f"sqlite:///{var / 'graph.db'}") as store:
        plant(store)
    port = free_port()
    arguments = [str(var), str(bundles[0]), f"sqlite:///{var / 'graph.db'}", str(port), SECRET.hex()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=var,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "up\n"
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield Serving(process, client, var, bundles, port)
            process.stdin.close()
            assert process.stdout.readline() == "stopped\n"
            assert process.wait(60) == 0
        finally:
            process.kill()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "something still listens after stop"


def event(id: str, **fields) -> dict:
    return {
        "event_id": id,
        "type": "RATED",
        "account_id": "films:bob@mail.example",
        "item_id": "films:garden-0",
        "occurred_at": "2026-05-01T12:00:00Z",
        "value": 5,
    } | fields


def test_a_known_person_gets_their_taste_with_paths_that_add_up(serving: Serving):
    response = serving.client.post("/v1/recommendations", json={"user_id": SPACE_0.user, "limit": 5})
    assert response.status_code == 200
    answer = response.json()
    assert not answer["degraded"]
    assert {taste_of(item["item_id"]) for item in answer["items"]} == {"space"}
    for item in answer["items"]:
        total = item["base"] + sum(path["contribution"] for path in item["paths"])
        assert total == pytest.approx(item["score"], abs=1e-4)
    assert "category:space" in json.dumps(answer)


def test_an_event_changes_the_same_persons_next_answer_on_every_replica(serving: Serving):
    for n in range(10):
        who = {"account_id": f"films:bob-{n}", "limit": 5}
        before = serving.client.post("/v1/recommendations", json=who).json()
        assert {item["source"] for item in before["items"]} == {"fallback"}
        sent = serving.client.post("/v1/events", json={"events": [event(f"b-{n}", account_id=f"films:bob-{n}")]})
        assert sent.status_code == 202
        assert sent.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
        for _ in range(6):
            # A connection each, so that the answers come from both replicas.
            after = httpx.post(f"http://127.0.0.1:{serving.port}/v1/recommendations", json=who, timeout=30).json()
            assert {taste_of(item["item_id"]) for item in after["items"]} == {"garden"}
            assert "films:garden-0" not in {item["item_id"] for item in after["items"]}


def test_events_reach_the_store_and_their_account_only_as_a_pseudonym(serving: Serving):
    sent = serving.client.post("/v1/events", json={"events": [event("drained"), event("drained")]})
    assert sent.json() == {"accepted": 1, "duplicates": 1, "rejected": []}
    user = lone_user(Pseudonyms(SECRET).account("films", "bob@mail.example"))
    deadline = time.monotonic() + 30
    with open_store(f"sqlite:///{serving.var / 'graph.db'}") as store:
        while not store.history(user):
            assert time.monotonic() < deadline, "the event did not reach the store"
            time.sleep(0.1)
        assert [each.event_id for each in store.history(user)] == ["drained"]
    for path in serving.var.rglob("*"):
        if path.is_file():
            assert b"bob@mail" not in path.read_bytes(), path


def test_a_person_never_seen_and_the_short_forms(serving: Serving):
    events = {"events": [{"item_id": "books:crime-1", "type": "PURCHASED"}], "target_platforms": ["music"], "limit": 3}
    answer = serving.client.post("/v1/recommendations", json=events).json()
    assert {(item["platform"], taste_of(item["item_id"])) for item in answer["items"]} == {("music", "crime")}
    unknown = serving.client.get("/v1/users/user:nobody/recommendations", params={"limit": 2}).json()
    assert [item["source"] for item in unknown["items"]] == ["fallback"] * 2
    assert len(serving.client.get("/v1/items/films:crime-0/similar", params={"limit": 4}).json()["items"]) == 4


def test_the_pages_of_a_list_are_turned_by_any_replica(serving: Serving):
    who = {"events": [{"item_id": "books:crime-1", "type": "PURCHASED"}], "filter": "number > 2", "limit": 7}
    found, cursor = [], None
    while not found or cursor is not None:
        # A connection each: it may reach another replica.
        url = f"http://127.0.0.1:{serving.port}/v1/recommendations"
        answer = httpx.post(url, json=who | ({"cursor": cursor} if cursor else {}), timeout=30).json()
        found += [item["item_id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert len(set(found)) == len(found) == 3 * 3 * 5
    assert all(int(item.rpartition("-")[2]) > 2 for item in found)


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "/v1/recommendations", {"content": b"{", "headers": {"content-type": "application/json"}}, 422),
        ("POST", "/v1/recommendations", {"json": {"user_id": "user:a", "diversity": 2}}, 422),
        ("POST", "/v1/recommendations", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
        ("DELETE", "/v1/recommendations", {}, 405),
        ("GET", "/v1/nothing", {}, 404),
        ("GET", "/v1/items/films:unheard-of/similar", {}, 404),
    ],
)
def test_errors_are_problems_over_http_too(serving: Serving, method: str, path: str, fields: dict, status: int):
    response = serving.client.request(method, path, **fields)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert [response.json()["request_id"]] == response.headers.get_list("x-request-id")


def test_a_body_that_is_too_large_is_413_however_large(serving: Serving):
    for size in ((1 << 20) + 1, 50 << 20):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as raw:
            kind = "Content-Type: application/json"
            head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {size}\r\n\r\n"
            raw.sendall(head.encode())
            sent = 0
            try:
                while sent < size:
                    sent += raw.send(b" " * min(65536, size - sent))
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = raw.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
        assert b"application/problem+json" in answer
    assert serving.client.get("/livez").status_code == 200


def test_metrics_add_up_over_replicas(serving: Serving):
    def counted() -> float:
        page = httpx.get(f"http://127.0.0.1:{serving.port}/metrics", timeout=30).text
        assert len(page) < 30_000
        lines = [line for line in page.splitlines() if line.startswith('isthmus_requests_total{route="/livez"')]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    before = counted()
    for _ in range(12):
        httpx.get(f"http://127.0.0.1:{serving.port}/livez", timeout=30)
    assert counted() == before + 12


def test_only_this_machine_reaches_http(serving: Serving):
    """Ray's own ports are another matter (docs/security.md); HTTP, statistics and replicas are on 127.0.0.1."""
    listening = {
        line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
    }
    assert f"0100007F:{serving.port:04X}" in listening
    assert f"00000000:{serving.port:04X}" not in listening
    configuration = haproxy_configuration(serving)
    binds = [line.strip() for line in configuration.splitlines() if line.strip().startswith("bind ")]
    ports = [int(line.rpartition(":")[2].split()[0]) for line in binds]
    assert len(ports) == 3
    for port in ports:
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening


def test_the_proxy_is_guarded(serving: Serving):
    configuration = haproxy_configuration(serving)
    assert "timeout http-request 10s" in configuration
    assert "mode 600 level admin" in configuration
    (page,) = {line.split()[2] for line in configuration.splitlines() if "errorfile 50" in line}
    assert b"Content-Type: application/problem+json\r\n" in Path(page).read_bytes()


def haproxy_configuration(serving: Serving) -> str:
    texts = [path.read_text() for path in Path("/tmp").glob("isthmus-*/*/haproxy.cfg")]  # noqa: S108
    (text,) = [text for text in texts if f"127.0.0.1:{serving.port}\n" in text]
    return text


def test_a_bundle_is_swapped_in_place_and_a_broken_one_is_refused(serving: Serving):
    first, second = serving.bundles
    assert serving.client.get("/readyz").json()["model_version"] == first.name
    assert serving.swap(second) == f"swapped {second.name}"
    assert serving.client.get("/readyz").json()["model_version"] == second.name
    answer = serving.client.post("/v1/recommendations", json={"user_id": SPACE_0.user}).json()
    assert answer["model_version"] == second.name
    said = serving.swap(serving.var)
    assert said.startswith("BundleError")
    assert "holds no bundle" in said
    assert serving.client.get("/readyz").json()["model_version"] == second.name


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_a_port_in_use_is_one_clear_sentence(serving: Serving):
    store = f"sqlite:///{serving.var / 'graph.db'}"
    done = started(str(serving.var), str(serving.bundles[0]), store, str(serving.port), SECRET.hex())
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"serve.errors.BindError: port {serving.port} of 127.0.0.1 is in use by another process: "
        "stop it or give another port with --port"
    )


def test_a_damaged_bundle_is_one_clear_sentence(serving: Serving, tmp_path: Path):
    bundle = write_tiny_bundle(tmp_path, 3)
    (bundle / "bias.npy").write_bytes(b"")
    store = f"sqlite:///{serving.var / 'graph.db'}"
    done = started(str(serving.var), str(bundle), store, str(free_port()), SECRET.hex())
    assert done.returncode != 0
    assert "bias.npy is not what was released" in done.stderr.strip().splitlines()[-1]
