"""The notebook that asks a running server runs against one, and writes nothing there."""

import threading
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import uvicorn
from nbclient import NotebookClient

from serve.app import create_app
from serve.security import free_port
from serve.service import Service
from tests.serve.test_outbox import wait_until

ANSWERS = Path(__file__).parents[2] / "notebooks" / "answers.ipynb"


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """Where the service answers over HTTP."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(service), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_it_is_stored_without_outputs():
    notebook = nbformat.read(ANSWERS, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_it_asks_the_server_that_is_named_and_draws_why(url: str, service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ISTHMUS_URL", url)
    notebook = nbformat.read(ANSWERS, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ANSWERS.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert f"the model {service.recommender.version} answers; the store is up" in text
    assert "fallback" in text
    missed = float(text.partition("at most: ")[2].split()[0])
    assert missed < 1e-4
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert service.outbox.counts() == (0, 0)
