"""Records: the frozen, checked form in which everything from outside enters the graph. Instants are aware, in UTC."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from graph.errors import RecordError
from graph.keys import AccountKey, EntityKey, IdentityKey, ItemKey, PlatformKey, UserKey
from graph.schema import check_event_type, check_relationship_type

Scalar = str | int | float | bool
AttributeValue = Scalar | Sequence[str]
Attributes = Mapping[str, AttributeValue]


def _check_instant(at: datetime | None, what: str, of: str) -> None:
    if at is not None and at.tzinfo is not UTC:
        raise RecordError(f"{what} {of} is {at.isoformat()}: give an aware instant in UTC")


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform."""

    key: PlatformKey


@dataclass(frozen=True, slots=True)
class User:
    """A person."""

    key: UserKey


@dataclass(frozen=True, slots=True)
class Account:
    """What one platform knows of a person."""

    key: AccountKey


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a platform. None means that the source does not say."""

    key: ItemKey
    title: str | None = None
    text: str | None = None
    """A description, beyond the title."""
    url: str | None = None
    created_at: datetime | None = None
    attributes: Attributes = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_instant(self.created_at, "created_at of", self.key)

    @property
    def description(self) -> str:
        """What the language model reads: title and text, or "" when the source gives neither."""
        return ". ".join(part for part in (self.title, self.text) if part)


@dataclass(frozen=True, slots=True)
class Entity:
    """Knowledge around items: a category, a creator, a tag, or any kind that a source names."""

    key: EntityKey
    name: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing an account did with an item: the relationship (:Account)-[:TYPE {event_id, …}]->(:Item)."""

    event_id: str
    """The source's, or `event_digest` of what happened: the same event twice is one event."""
    type: str
    account: AccountKey
    item: ItemKey
    at: datetime
    weight: float = 1.0
    """How much it says that the person wants the item; negative for a dislike."""
    value: float | None = None
    """A rating, a count, a duration: what the source gives."""
    sequence: int | None = None
    """The source's own order of a person's events, where instants tie."""
    context: Attributes = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_event_type(self.type)
        if self.at.tzinfo is not UTC:
            _check_instant(self.at, "event", self.event_id)
        if not self.event_id or len(self.event_id) > 256:
            raise RecordError(f"event_id {self.event_id[:40]!r} has {len(self.event_id)} characters: give 1 to 256")
        if not math.isfinite(self.weight) or (self.value is not None and not math.isfinite(self.value)):
            raise RecordError(
                f"event {self.event_id} has weight {self.weight} and value {self.value}: give finite numbers"
            )


@dataclass(frozen=True, slots=True)
class Link:
    """(:Account)-[:OF {evidence, at}]->(:User): this account belongs to this person, and why we think so."""

    account: AccountKey
    user: UserKey
    evidence: str
    """What joined them, such as "identity-table"; LONE when nothing has: such a link never replaces another."""
    at: datetime | None = None


LONE = "lone"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why two accounts may be one person: both have the same identity, or one has logged in with the other.

    A fact is its two ends, so it is one record whoever says it and however often; the first who said it is kept.
    """

    account: AccountKey
    other: AccountKey | IdentityKey
    """An identity that the account has; or an account that is the same person's, then the later of the two in order."""
    source: str
    """Who says so: a mapping's file, or what the operator gave."""
    at: datetime | None = None
    """Since when; None: always."""

    def __post_init__(self) -> None:
        _check_instant(self.at, "evidence about", self.account)
        if isinstance(self.other, AccountKey):
            if self.account == self.other:
                raise RecordError(f"{self.account} cannot be linked with itself: give two accounts")
            first, second = sorted((self.account, self.other))
            object.__setattr__(self, "account", first)
            object.__setattr__(self, "other", second)

    @property
    def kind(self) -> str:
        """login between two accounts; else the identity's, such as mail or phone."""
        return self.other.kind if isinstance(self.other, IdentityKey) else LOGIN

    @property
    def id(self) -> str:
        """32 hexadecimal characters of its ends."""
        return hashlib.blake2b(f"{self.account}\x1f{self.other}".encode(), digest_size=16).hexdigest()

    @property
    def is_statement(self) -> bool:
        """Whether it says that two accounts are one person, rather than that both have the same identity."""
        return isinstance(self.other, AccountKey)

    @property
    def is_within_a_platform(self) -> bool:
        """Whether it says in so many words that two accounts of one platform are one person."""
        return isinstance(self.other, AccountKey) and self.account.platform == self.other.platform

    @property
    def strength(self) -> float:
        """How likely it is right, between 0 and 1."""
        return STRENGTHS.get(self.kind, UNKNOWN_STRENGTH)


LOGIN = "login"
STRENGTHS: Mapping[str, float] = {LOGIN: 0.95, "mail": 0.9, "phone": 0.8}
"""How likely evidence of a kind is right: an order, in which an address and a number together go before a login."""
UNKNOWN_STRENGTH = 0.5


@dataclass(frozen=True, slots=True)
class Relation:
    """Any other relationship: IN_CATEGORY, BY, TAGGED, FOLLOWS, SAME_WORK, LEADS_TO, or what a source names."""

    type: str
    source: ItemKey | EntityKey | AccountKey
    target: ItemKey | EntityKey | AccountKey
    properties: Attributes = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_relationship_type(self.type)


Node = Platform | User | Account | Item | Entity
Edge = Event | Relation


def canonical_json(values: Attributes) -> str:
    """The one text of an attribute map: sorted keys, no spaces, unicode as it is."""
    if not values:
        return "{}"
    return json.dumps(dict(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def event_digest(type: str, account: AccountKey, item: ItemKey, at: datetime, sequence: int | None = None) -> str:
    """An event_id for a source that gives none: 32 hexadecimal characters of account, item, type, time and order."""
    order = "" if sequence is None else str(sequence)
    text = "\x1f".join((type, account, item, f"{at.timestamp():.6f}", order))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
