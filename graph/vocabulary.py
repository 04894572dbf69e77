"""Vocabulary: the one place where keys become rows of a matrix and rows become keys again."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from graph.errors import KeyFormatError


class Vocabulary:
    """Keys of one node type in a fixed order: row r of any matrix about that type is `keys[r]`."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys: Sequence[str] = tuple(str(key) for key in keys)
        self._rows = {key: row for row, key in enumerate(self.keys)}
        if len(self._rows) != len(self.keys):
            seen: set[str] = set()
            twice = next(key for key in self.keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise KeyFormatError(f"{twice!r} is twice in a vocabulary of {len(self.keys)} keys: give each key once")

    def row(self, key: str) -> int:
        """The row of a key; KeyError names the key if it is not here."""
        return self._rows[key]

    def get(self, key: str) -> int | None:
        """The row of a key, or None."""
        return self._rows.get(key)

    def rows(self, keys: Iterable[str]) -> NDArray[np.int64]:
        """[len(keys)] rows; KeyError names the first key that is not here."""
        return np.fromiter((self._rows[key] for key in keys), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(self.checksum)

    @cached_property
    def checksum(self) -> str:
        """32 hexadecimal characters over keys and order; what shares rows must share it."""
        digest = hashlib.blake2b(digest_size=16)
        for key in self.keys:
            digest.update(key.encode() + b"\n")
        return digest.hexdigest()
