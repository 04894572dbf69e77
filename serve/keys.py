"""Bearer keys: known here by their hashes alone, each with a name, scopes and a number of requests a minute.

A line describes one, in the configuration (`keys`, ISTHMUS_KEYS) and in the file `var/keys` alike:

    shop read,write 600 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self, get_args

from serve.errors import KeysError

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
PREFIX: Final = "isthmus_"
"""Every key begins so: programs that look for leaked secrets find it by that."""
LOOK_AGAIN_S: Final = 1.0
"""How soon a change of the file is seen."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LOG: Final = logging.getLogger("isthmus.serve")


@dataclass(frozen=True, slots=True)
class Key:
    """Who asks, and what they may do."""

    name: str
    scopes: frozenset[Scope]
    per_minute: int
    """Requests in a minute; 0 is without a limit."""
    digest: bytes
    """SHA-256 of the key, which has 256 random bits."""

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read one line. Raises: KeysError, which never shows the hash."""
        parts = line.split()
        name = parts[0] if parts and _NAME.fullmatch(parts[0]) else None
        if name is None or len(parts) != 4:
            raise KeysError(
                f"the key {name or 'on a line'} is not written as `name scopes requests-a-minute sha256`: "
                "make one with isthmus key, such as: isthmus key shop --scopes read,write"
            )
        scopes = set(parts[1].split(","))
        unknown = sorted(scopes - set(SCOPES))
        if unknown:
            raise KeysError(f"the key {name} has the unknown scope {unknown[0]!r}: use {', '.join(SCOPES)}")
        if not (parts[2].isascii() and parts[2].isdecimal()):
            raise KeysError(f"the key {name} has {parts[2]!r} requests a minute: give a number, 0 for no limit")
        if not re.fullmatch(r"[0-9a-f]{64}", parts[3]):
            raise KeysError(f"the key {name} has no SHA-256 of 64 hexadecimal digits: make it anew with isthmus key")
        known = frozenset(scope for scope in SCOPES if scope in scopes)
        return cls(name, known, int(parts[2]), bytes.fromhex(parts[3]))

    def line(self) -> str:
        """As it is written in the file."""
        scopes = ",".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name} {scopes} {self.per_minute} {self.digest.hex()}"


def make(name: str, scopes: Iterable[str], per_minute: int) -> tuple[str, Key]:
    """A new key and what is kept of it: the first is shown once and stored nowhere. Raises: KeysError."""
    text = PREFIX + secrets.token_urlsafe(32)
    return text, Key.parse(f"{name} {','.join(scopes)} {per_minute} {_digest(text.encode()).hex()}")


def add(file: Path, key: Key) -> None:
    """Add a key to the file, which only its owner can read; one with this name stays valid beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(key.line() + "\n")


def read(file: Path) -> list[Key]:
    """The keys in a file; empty lines and those that begin with # say nothing. Raises: KeysError."""
    try:
        if file.stat().st_mode & 0o077:
            raise KeysError(f"others than its owner can read {file}: chmod 600 {file}")
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"the keys in {file} cannot be read: {error}") from None
    return [Key.parse(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


class Keyring:
    """All keys that are valid now: those that were given, those of a file as it is now, and the server's own.

    Raises: KeysError where a line or the file cannot be read at the start; later the keys known before go on.
    """

    def __init__(
        self, lines: Sequence[str] = (), file: Path | None = None, *, own: bytes | None = None, required: bool = False
    ) -> None:
        """
        Args:
            own: the hash of a key that the server asks itself with; it may do everything.
            required: whether to refuse requests without a key even where none is configured.
        """
        self._given = [Key.parse(line) for line in lines]
        self._file = file
        self._own = [] if own is None else [Key("isthmus", frozenset(SCOPES), 0, own)]
        self._required = required
        self._seen: tuple[int, int] | None = None
        self._keys = self._given + ([] if file is None or not file.exists() else read(file))
        self._seen = self._stamp()
        self._look_at = time.monotonic() + LOOK_AGAIN_S

    def are_needed(self) -> bool:
        """Whether a request needs a key; once that is so it stays so."""
        self._look()
        self._required = self._required or bool(self._keys)
        return self._required

    def find(self, authorization: bytes) -> Key | None:
        """The key in the header `Authorization: Bearer …`; every hash is compared, each in constant time."""
        kind, _, text = authorization.partition(b" ")
        digest = _digest(text.strip()) if kind.lower() == b"bearer" else b""
        found = None
        for key in (*self._own, *self._keys):
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _look(self) -> None:
        """Read the file anew where it has changed."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_AGAIN_S
        stamp = self._stamp()
        if self._file is None or stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._keys = self._given + (read(self._file) if stamp is not None else [])
        except KeysError as error:
            _LOG.error("the keys known before go on: %s", error)
        else:
            _LOG.info("the keys are now %s", ", ".join(sorted({key.name for key in self._keys})) or "none")

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = None if self._file is None else self._file.stat()
        except OSError:
            found = None
        return None if found is None else (found.st_ino, found.st_mtime_ns)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
