"""What a column of an export seems to hold, judged by its name and its first values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, Literal

from ingest.sources.rows import LIST_SEPARATOR

Role = Literal["account", "item", "person", "platform", "follow", "time", "type", "rating", "count", "title", "text"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS: Final[Mapping[Role, frozenset[str]]] = {
    "account": _words(
        "user users account customer client reviewer member visitor buyer shopper viewer listener reader learner "
        "student subscriber uid who login email mail owner rater voter patron guest"
    ),
    "item": _words(
        "item product sku asin isbn movie film book artist album song track video show episode course lesson article "
        "news post question recipe restaurant business game app listing offer goods pid iid title_id content"
    ),
    "person": _words("person people human identity household"),
    "platform": _words("platform site service"),
    "follow": _words("friend follower followee following follows followed trustee truster target"),
    "time": _words("time timestamp date datetime at ts when created published released day unix on"),
    "type": _words("type event action kind behavior behaviour activity verb"),
    "rating": _words("rating stars star score overall grade mark rate"),
    "count": _words("plays play count weight listens quantity qty amount times duration minutes watched"),
    "title": _words("title name headline label"),
    "text": _words("description text summary body abstract overview plot synopsis blurb about"),
}
"""Words of a column's name that speak for a role."""

ENTITIES: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(
        _words("genre genres category categories class department topic topics"), ("category", "IN_CATEGORY")
    ),
    **dict.fromkeys(_words("tag tags keyword keywords"), ("tag", "TAGGED")),
    **dict.fromkeys(_words("author authors artist creator director writer actor actors"), ("creator", "BY")),
    **dict.fromkeys(_words("brand maker manufacturer publisher studio store"), ("brand", "MADE_BY")),
}
"""Words of a column's name → kind of entity and relation."""

ATTRIBUTES: Final = _words("year price language country duration pages runtime")
"""Words of a column's name that speak for an attribute of an item."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_MOST: Final = 0.95
"""A share of the values that says that all are meant so: exports have a few odd ones."""


@dataclass(frozen=True)
class Column:
    """A column and its first values."""

    name: str
    values: Sequence[str]
    """Those that are not empty."""
    rows: int
    """Rows that were looked at."""
    words: frozenset[str] = field(init=False)
    """The words of its name, in lower case: reviewerID has reviewer and id."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", frozenset(word.lower() for word in _WORD.findall(self.name)))

    def may_be(self, role: Role) -> bool:
        """Whether its name speaks for a role."""
        return not self.words.isdisjoint(WORDS[role])

    @cached_property
    def distinct(self) -> frozenset[str]:
        return frozenset(self.values)

    @cached_property
    def numbers(self) -> Sequence[float]:
        """Its values as numbers; empty when any of them is none."""
        try:
            return [float(value) for value in self.values]
        except ValueError:
            return ()

    @property
    def whole(self) -> bool:
        return bool(self.numbers) and all(number.is_integer() for number in self.numbers)

    @property
    def unique(self) -> bool:
        """Whether it has a value of its own in every row."""
        return len(self.distinct) == self.rows > 0

    @cached_property
    def instant(self) -> Literal["seconds", "milliseconds", "iso"] | None:
        """The format of instants that its values have, between 1973 and 2100."""
        if self.numbers:
            for name, scale in (("seconds", 1), ("milliseconds", 1000)):
                if _most(1e8 * scale <= number < 4.2e9 * scale for number in self.numbers):
                    return "seconds" if name == "seconds" else "milliseconds"
            return None
        return "iso" if self.values and _most(_is_iso(value) for value in self.values) else None

    @cached_property
    def separator(self) -> str | None:
        """What parts several names in its values, when something does; lists of the source's own need none."""
        if any(LIST_SEPARATOR in value for value in self.values):
            return None
        for mark in "|;,":
            if sum(mark in value for value in self.values) > len(self.values) * (1 - _MOST):
                return mark
        return None

    @property
    def length(self) -> float:
        """Characters of a value, in the mean."""
        return sum(map(len, self.values)) / max(1, len(self.values))

    @property
    def words_within(self) -> bool:
        """Whether most of its values are texts of a few letters and more: a title, not a code."""
        return _most(len(value) > 3 and any(map(str.isalpha, value)) for value in self.values) and self.length >= 6

    def seen(self) -> str:
        """What its values are, in a few words; no text and no long number is repeated: it may be somebody's."""
        if not self.values:
            return "empty"
        if self.numbers:
            low, high = min(self.numbers), max(self.numbers)
            return f"numbers {low:g} to {high:g}" if low > -1e6 and high < 1e6 else f"{len(self.distinct):,} numbers"
        texts = "one text" if len(self.distinct) == 1 else f"{len(self.distinct):,} texts"
        return f"{texts} of {self.length:.0f} characters"


def scale_of(column: Column) -> tuple[float, float] | None:
    """The usual scale that its numbers fit."""
    low, high = min(column.numbers), max(column.numbers)
    usual = ((1, 5), (0.5, 5), (0, 5), (1, 10), (0, 10), (0, 1), (0, 100)) if high > 1 else ((0, 1),)
    return next((scale for scale in usual if scale[0] <= low and high <= scale[1]), None)


def _most(found: Iterable[bool]) -> bool:
    judged = list(found)
    return bool(judged) and sum(judged) >= _MOST * len(judged)


def _is_iso(value: str) -> bool:
    try:
        datetime.fromisoformat(value.strip())
    except ValueError:
        return False
    return True
