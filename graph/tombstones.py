"""Tombstones on disk: who was erased stays refused when the store is made anew, and while it does not answer."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from graph.keys import AccountKey, UserKey, tombstone

FILE: Final = "tombstones"


class Tombstones:
    """The file `var/tombstones`, one hash a line; any number of processes may read it beside one that writes."""

    def __init__(self, var: Path) -> None:
        self._path = var / FILE
        self._seen = (-1, -1)
        self._hashes: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._read()))

    def erased(self, keys: Collection[AccountKey | UserKey]) -> set[str]:
        """Those of the accounts and persons that were erased."""
        hashes = self._read()
        return {str(key) for key in keys if tombstone(key.digest) in hashes} if hashes else set()

    def add(self, hashes: Iterable[str]) -> None:
        """Write hashes down; on return they are on the disk."""
        new = sorted(set(hashes) - self._read())
        if not new:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write("".join(f"{each}\n" for each in new))
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> frozenset[str]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return frozenset()
        if (seen := (found.st_mtime_ns, found.st_size)) != self._seen:
            self._hashes = frozenset(self._path.read_text().split())
            self._seen = seen
        return self._hashes
