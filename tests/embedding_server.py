"""A server of embeddings on this machine: it speaks the OpenAI API, and refuses on order."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

KEY: Final = "sk-canary-4711"
WIDTH: Final = 8

Refusal = tuple[int, Mapping[str, str], str]
"""Status, headers, body."""


def direction(text: str) -> NDArray[np.float32]:
    """[WIDTH] the unit vector that the server has for a text."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    vector = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


class EmbeddingServer:
    """What it was asked, and what it is to say next."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Mapping[str, Any]] = []
        self.keys: list[str | None] = []
        self.refusals: list[Refusal] = []
        """Given in this order before anything is answered."""
        self.counts = True
        """Whether answers say how many tokens a request took: one for every four bytes."""
        self.width = WIDTH

    def answer(self, texts: Sequence[str]) -> Mapping[str, Any]:
        """Vectors of length 3, last text first, as the API allows."""
        rows = [
            {"object": "embedding", "index": row, "embedding": [3 * float(x) for x in direction(text)[: self.width]]}
            for row, text in enumerate(texts)
        ]
        tokens = sum(len(text.encode()) // 4 for text in texts)
        return {"object": "list", "data": rows[::-1]} | ({"usage": {"total_tokens": tokens}} if self.counts else {})


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """Run one on a free port of the loopback address, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said.requests.append(body)
            said.keys.append(self.headers.get("authorization"))
            if self.path != "/v1/embeddings":
                self._say(404, {}, '{"error": {"message": "no such path"}}')
            elif said.refusals:
                self._say(*said.refusals.pop(0))
            else:
                self._say(200, {"content-type": "application/json"}, json.dumps(said.answer(body["input"])))

        def _say(self, status: int, headers: Mapping[str, str], body: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test looks at `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    said = EmbeddingServer(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield said
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
