"""What serving says when it cannot: problems for callers (RFC 9457), errors for operators.

IsthmusError
└── ServeError           the server cannot start or go on; its text is a sentence for the operator
    ├── BindError        an address that may not be used or is taken
    ├── KeysError        a key, or the file of their hashes, that cannot be used
    └── OutboxError      the outbox cannot be opened, read or written
Problem                  one answer other than 2xx, as application/problem+json
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from graph.errors import IsthmusError

PROBLEM_JSON: Final = "application/problem+json"


class ServeError(IsthmusError):
    """The server cannot start or go on."""


class BindError(ServeError):
    """An address that may not be used, or that another process uses."""


class KeysError(ServeError):
    """A key, or the file of their hashes, that cannot be used."""


class OutboxError(ServeError):
    """The outbox cannot be opened, read or written."""


class Problem(Exception):  # noqa: N818 - what RFC 9457 calls it
    """One answer other than 2xx. `kind` names it in the type URI `urn:isthmus:problem:<kind>`."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str] | tuple[str, str, int]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = errors
        """(JSON pointer into the request's body or "?name" of a query parameter, what is wrong there, and where there
        is more than one place in a text: the characters before it)"""
        self.headers = dict(headers or {})

    def body(self, instance: str | None = None, request_id: str | None = None) -> dict[str, Any]:
        """The members of RFC 9457, with our `errors` and `request_id`."""
        members: dict[str, Any] = {
            "type": f"urn:isthmus:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": masked(self.detail),
        }
        if instance is not None:
            members["instance"] = masked(instance)
        if self.errors:
            members["errors"] = [
                dict(zip(("pointer", "detail", "position"), (masked(pointer), masked(detail), *rest), strict=False))
                for pointer, detail, *rest in self.errors
            ]
        if request_id is not None:
            members["request_id"] = request_id
        return members

    def response(self, instance: str, request_id: str) -> Response:
        """The HTTP answer."""
        return Response(
            orjson.dumps(self.body(instance, request_id)), self.status, self.headers, media_type=PROBLEM_JSON
        )


_IDENTITY: Final = re.compile(
    r"[^\s'\"/:?&=,]+(?:@|%40)[^\s'\"/:?&=,]+\.[^\s'\"/:?&=,]+"  # a mail address
    r"|(?:\+|%2B)\d[\d ()./-]{6,}\d"  # a telephone number with its country
    r"|isthmus_[A-Za-z0-9_-]{20,}"  # a key of ours
)


def masked(text: str) -> str:
    """The text with `…` for what reads like a mail address, a telephone number or a key; who asks may log errors."""
    return _IDENTITY.sub("…", text)


def invalid(error: ValidationError, prefix: str = "") -> Problem:
    """The 422 for a body that does not fit its model: one pointer per mistake, at most 20 of them."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [(prefix + "".join(f"/{escape(part)}" for part in one["loc"]), _sentence(one["msg"])) for one in found]
    more = "" if len(errors) <= 20 else f", the first 20 of {len(errors)} are listed"
    return Problem(422, "invalid-request", f"{_plural(len(errors))} in the body{more}", errors=errors[:20])


def escape(part: object) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


def _plural(count: int) -> str:
    return "one mistake" if count == 1 else f"{count} mistakes"
