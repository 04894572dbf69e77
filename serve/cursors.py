"""Cursors: the rest of a frozen list inside a signed token, so that any replica turns the page and none keeps it."""

import base64
import binascii
import hashlib
import hmac
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serve.errors import Problem

LIFETIME_S: Final = 1800
"""How long a list can be gone through, from its first page on."""

_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">BIH8s8s")
_LATER: Final = 0xFFFFFFFF
_SIGNATURE_BYTES: Final = 16


@dataclass(frozen=True)
class Rest:
    """What is left of a list."""

    rows: NDArray[np.int64]
    """[K] of the bundle's own items; -1 for the next of `later`."""
    later: Sequence[str]
    """Keys of items that came after the bundle."""

    def __len__(self) -> int:
        return len(self.rows)


class Cursors:
    """Writes and reads them under one key, which all replicas have."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, request: bytes) -> bytes:
        """What stands for a request inside a cursor; says nothing about it to whoever has no key."""
        return hashlib.blake2b(request, key=self._key, digest_size=8, person=b"request").digest()

    def write(self, version: str, request: bytes, rest: Rest, expires: int | None = None) -> str:
        """The cursor to the rest of a list.

        Args:
            version: of the bundle whose items these are.
            request: the digest of what was asked.
            expires: seconds since 1970; None for the first page, which begins the lifetime.
        """
        until = int(time.time()) + LIFETIME_S if expires is None else expires
        head = _HEAD.pack(_FORMAT, until, len(rest), request, self._version(version))
        rows = np.where(rest.rows < 0, _LATER, rest.rows).astype("<u4")
        content = head + rows.tobytes() + "\n".join(rest.later).encode()
        return base64.urlsafe_b64encode(self._signature(content) + content).decode().rstrip("=")

    def read(self, text: str, version: str, request: bytes, pointer: str) -> tuple[Rest, int]:
        """What is left, and until when; raises Problem: 422 for a wrong cursor, 410 for one that is over."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _wrong("this is no cursor: send next_cursor as it came", pointer) from None
        content = raw[_SIGNATURE_BYTES:]
        if len(content) < _HEAD.size or not hmac.compare_digest(raw[:_SIGNATURE_BYTES], self._signature(content)):
            raise _wrong("this is no cursor of this server: send next_cursor as it came", pointer)
        form, expires, count, of_request, of_version = _HEAD.unpack_from(content)
        if form != _FORMAT or of_request != request:
            raise _wrong("the cursor belongs to another request: repeat all its fields but limit and explain", pointer)
        if time.time() > expires:
            raise Problem(410, "cursor-expired", f"lists end after {LIFETIME_S // 60} minutes: ask without a cursor")
        if of_version != self._version(version):
            raise Problem(410, "cursor-expired", "another model answers since this list was made: ask without a cursor")
        rows = np.frombuffer(content, "<u4", count, _HEAD.size).astype(np.int64)
        later = content[_HEAD.size + rows.size * 4 :].decode()
        return Rest(np.where(rows == _LATER, -1, rows), later.split("\n") if later else []), expires

    def _signature(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, key=self._key, digest_size=_SIGNATURE_BYTES, person=b"cursor").digest()

    def _version(self, version: str) -> bytes:
        return hashlib.blake2b(version.encode(), digest_size=8).digest()


def _wrong(detail: str, pointer: str) -> Problem:
    return Problem(422, "invalid-cursor", detail, errors=[(pointer, detail)])
