"""What asking an Isthmus can fail with.

ClientError
├── Problem          the server answered with an error (RFC 9457)
└── Unreachable      no answer came
"""

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """An answer that was not had."""


class Unreachable(ClientError):  # noqa: N818 - named as httpx names its own
    """The server was not reached, or did not answer in time, twice."""


class Problem(ClientError):  # noqa: N818 - what RFC 9457 calls it
    """The server's own account of what was wrong."""

    def __init__(self, status: int, body: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.status = status
        """The HTTP status."""
        self.kind = str(body.get("type", "about:blank")).rpartition(":")[2]
        """Such as unknown-item or rate-limit."""
        self.detail = str(body.get("detail", "the server gave no reason"))
        self.errors: Sequence[Mapping[str, Any]] = body.get("errors") or ()
        """Where in the request: `pointer` and `detail` of each mistake."""
        self.request_id: str | None = body.get("request_id")
        """What the server's log calls this request."""
        self.retry_after_s = retry_after_s
        """When to ask again, for 429 and 503."""
        where = "".join(f"; {one.get('pointer')}: {one.get('detail')}" for one in self.errors[:3])
        named = f" (request {self.request_id})" if self.request_id else ""
        super().__init__(f"{status} {self.kind}: {self.detail}{where}{named}")
