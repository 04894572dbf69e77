"""The log of the replicas: a JSON object a line, one file for all of them, of bounded size."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve import logs
from serve.access import Guard
from serve.app import create_app
from serve.keys import Keyring, make
from serve.service import Service

ROOT = Path(__file__).parents[2]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The file that this process logs to."""
    logger = logging.getLogger("isthmus")
    level, handlers = logger.level, list(logger.handlers)
    logs.write_logs(tmp_path / "logs")
    yield tmp_path / "logs" / "serve.jsonl"
    logger.setLevel(level)
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)
        handler.close()


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def of_requests(file: Path) -> list[dict[str, object]]:
    """Without what other threads say."""
    return [line for line in lines(file) if "request_id" in line]


def test_each_request_is_a_line_with_its_id_route_status_time_and_the_name_of_its_key(service: Service, log: Path):
    text, key = make("shop", ["read"], 0)
    service.guard = Guard(Keyring([key.line()]))
    with TestClient(create_app(service)) as client:
        headers = {"Authorization": f"Bearer {text}", "X-Request-ID": "mine-1"}
        client.get("/v1/items/films:crime-0/similar?limit=1", headers=headers)
        client.get("/v1/nothing/here", headers={"X-Request-ID": "mine-2"})
    first, second = of_requests(log)
    assert (first["request_id"], first["route"], first["status"]) == ("mine-1", "/v1/items/{item_id}/similar", 200)
    assert (first["key"], first["method"], first["level"], first["message"]) == ("shop", "GET", "INFO", "request")
    assert isinstance(first["ms"], float)
    assert first["ms"] > 0
    assert {"at", "logger", "process"} <= first.keys()
    assert (second["request_id"], second["route"], second["status"], second["key"]) == ("mine-2", "unknown", 401, None)
    assert "crime-0" not in log.read_text(), "a path may hold whom it is about; the route does not"
    assert log.stat().st_mode & 0o777 == 0o600


def test_what_failed_is_a_line_with_the_request_it_belongs_to(service: Service, log: Path, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(type(service.recommender), "recommend", broken)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        said = client.post("/v1/recommendations", json={"account_id": "films:a"}).json()
    failed, asked = of_requests(log)
    assert failed["request_id"] == asked["request_id"] == said["request_id"]
    assert (failed["level"], asked["status"]) == ("ERROR", 500)
    assert "test_logs.py" in str(failed["message"])


def test_a_log_that_cannot_be_written_costs_no_answer(service: Service, log: Path, monkeypatch, capsys):
    monkeypatch.setattr(logs, "MAX_BYTES", 1)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        assert client.get("/readyz").status_code == 200
        shutil.rmtree(log.parent)
        assert client.get("/readyz").status_code == 200
    assert "Logging error" in capsys.readouterr().err


def test_several_processes_share_a_file_that_is_put_aside_when_full_and_lose_no_line(tmp_path: Path):
    program = (
        "import logging, sys; from pathlib import Path; from serve import logs\n"
        "logs.MAX_BYTES = 40_000\n"
        "logs.write_logs(Path(sys.argv[1])); log = logging.getLogger('isthmus.x')\n"
        "for n in range(150): log.info('line', extra={'of': sys.argv[2], 'n': n})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, tmp_path, str(n)], cwd=ROOT) for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    kept = lines(tmp_path / "serve.jsonl.1") + lines(tmp_path / "serve.jsonl")
    assert sorted((one["of"], one["n"]) for one in kept) == sorted((str(of), n) for of in range(3) for n in range(150))
    assert all(file.stat().st_size < 45_000 for file in tmp_path.glob("serve.jsonl*"))
