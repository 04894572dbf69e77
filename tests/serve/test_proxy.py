"""The real HAProxy under the mended configuration, in front of a small server of this process."""

import asyncio
import json
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from serve import proxy
from serve.security import free_port
from tests.serve.test_outbox import wait_until

SERVER = "check{% if config.observe_mark_down_enabled %} observe layer4"


class Behind:
    """Answers each request when it is told to, and counts how many there are at once."""

    def __init__(self) -> None:
        self.port, self.now, self.most, self.asked = free_port(), 0, 0, 0
        self.loop = asyncio.new_event_loop()
        self.go = asyncio.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.server = self.loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", self.port))
        self.loop.run_forever()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(asyncio.sleep(0.05))
        self.loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.now, self.asked = self.now + 1, self.asked + 1
                self.most = max(self.most, self.now)
                await self.go.wait()
                self.now -= 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class Front(NamedTuple):
    port: int
    behind: Behind


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    script = Path(proxy.environment(tmp_path)["RAY_SERVE_HAPROXY_BINARY_PATH"])
    script.write_text(script.read_text().replace("timeout http-request 10s", "timeout http-request 1s"))
    behind, port = Behind(), free_port()
    errors = "".join(f"    errorfile {status} /nowhere/500.http\n" for status in (502, 503, 504))
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        "defaults\n    mode http\n    timeout client 30s\n    timeout connect 5s\n    timeout server 30s\n"
        f"{errors}frontend http_frontend\n    bind 127.0.0.1:{port}\n    default_backend app\n"
        "backend app\n    http-reuse always\n"
        f"    server one 127.0.0.1:{behind.port} check observe layer4 error-limit 3\n"
    )
    with subprocess.Popen([script, "-db", "-f", str(configuration)]) as process:
        wait_until(lambda: listens(port))
        yield Front(port, behind)
        process.terminate()
    behind.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_ray_still_writes_servers_in_the_form_that_is_mended():
    with warnings.catch_warnings(action="ignore"):
        from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    assert SERVER in HAPROXY_CONFIG_TEMPLATE


def test_what_a_replica_has_no_time_for_is_refused_at_once_and_the_rest_is_answered(front: Front):
    wanted = proxy.MAX_AT_ONCE + 24

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.port}", timeout=30) as client:
            asked = [asyncio.create_task(client.get("/")) for _ in range(wanted)]
            refused = 0
            while refused < 24:
                await asyncio.sleep(0.01)
                refused = sum(task.done() for task in asked)
            front.behind.loop.call_soon_threadsafe(front.behind.go.set)
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask())
    assert sorted(answer.status_code for answer in answers) == [200] * proxy.MAX_AT_ONCE + [503] * 24
    assert front.behind.most == proxy.MAX_AT_ONCE
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["type"] == "urn:isthmus:problem:unavailable"


def test_a_caller_who_does_not_end_the_body_takes_no_place_and_is_told(front: Front):
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        said = b""
        while part := slow.recv(65536):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["type"] == "urn:isthmus:problem:slow-request"
    assert front.behind.asked == 0
