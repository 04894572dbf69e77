"""Variants: the bundles that answer side by side, and which of them answers whom; by a hash, so nobody moves about."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from graph.keys import UserKey
from serve.recommender import Recommender

DEFAULT = "default"


@dataclass(frozen=True, eq=False)
class Variant:
    """One bundle's answers under the name by which they are counted."""

    name: str
    recommender: Recommender
    share: float
    """Of the people, in (0, 1]."""


@dataclass(frozen=True, eq=False)
class Variants:
    """All that answer. A request takes one and ends with it, whatever is activated meanwhile."""

    variants: Sequence[Variant]
    """At least one; the first answers those of whom nothing is known. Their shares add up to 1."""
    shadow: Recommender | None = None
    """Is asked besides and shown to nobody."""

    @classmethod
    def alone(cls, recommender: Recommender) -> Self:
        """One bundle for everybody."""
        return cls([Variant(DEFAULT, recommender, 1.0)])

    def of(self, person: UserKey | None) -> Variant:
        """The variant of a person: always the same while the shares are."""
        if person is None or len(self.variants) == 1:
            return self.variants[0]
        place, passed = place_of(person), 0.0
        for variant in self.variants:
            passed += variant.share
            if place < passed:
                return variant
        return self.variants[-1]


def place_of(person: UserKey) -> float:
    """Where a person stands in [0, 1), evenly spread."""
    digest = hashlib.blake2b(person.encode(), digest_size=8, person=b"isthmus variant").digest()
    return int.from_bytes(digest) / 2**64
