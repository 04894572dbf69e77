"""How many requests a key has made this minute, counted over all replicas of a machine in one small file a key."""

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serve.keys import Key

WINDOW_S: Final = 60.0

_COUNT: Final = struct.Struct("<dQ")


class Quota:
    """A minute begins with a key's first request after the last one ended; in it, so many requests pass and no more.

    The clock is the machine's own since it started (CLOCK_MONOTONIC), which its processes share; a lock that a killed
    process held is given back by the system.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            folder: shared by the replicas of one run of the server, and by nobody else.
        """
        self._folder = folder
        self._clock = clock
        self._counts: dict[str, tuple[int, mmap.mmap]] = {}

    def take(self, key: Key) -> float | None:
        """Count a request of `key`: None if it may pass, else the seconds until the next minute begins."""
        if not key.per_minute:
            return None
        descriptor, page = self._counts.get(key.name) or self._open(key.name)
        now = self._clock()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            began, used = _COUNT.unpack_from(page)
            if not began <= now < began + WINDOW_S:
                began, used = now, 0
            if used >= key.per_minute:
                return float(began + WINDOW_S - now)
            _COUNT.pack_into(page, 0, began, used + 1)
            return None
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give back the files; safe to call again."""
        for descriptor, page in self._counts.values():
            page.close()
            os.close(descriptor)
        self._counts.clear()

    def _open(self, name: str) -> tuple[int, mmap.mmap]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / name, os.O_CREAT | os.O_RDWR, 0o600)
        os.truncate(descriptor, _COUNT.size)
        self._counts[name] = opened = descriptor, mmap.mmap(descriptor, _COUNT.size)
        return opened
