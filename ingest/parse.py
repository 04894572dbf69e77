"""Row → record, or the reason why not. A mapping is compiled once into closures; those run for each row.

Raw ids of accounts and persons go into `Keyring` and come out as pseudonyms; no record, reason or value holds one.
"""

import math
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn, TypeVar

from graph.errors import KeyFormatError, RecordError
from graph.keys import AccountKey, EntityKey, IdentityKey, ItemKey, Pseudonyms, UserKey, check_platform
from graph.records import Attributes, Entity, Event, Evidence, Item, Relation, event_digest
from ingest.identity import normal_identity
from ingest.mapping import (
    Accounts,
    Events,
    Identities,
    Instant,
    ItemLinks,
    Items,
    Knowledge,
    Mapping,
    PlatformRule,
    TypeRule,
    ValueRule,
)
from ingest.sources.rows import LIST_SEPARATOR

Values = Sequence[str]
"""The fields of a row, in the order of the file's columns."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When events happened whose source knows no times."""

_CACHED: Final = 1_000_000
"""Distinct ids whose keys are held; at this many the cache begins anew, so memory has a bound."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a row is not taken."""

    field: str
    """The field of the mapping's section, such as at; "" for the row as a whole."""
    value: str
    """The value that broke the rule; empty where it would be an account's or a person's id."""
    rule: str
    """What is wrong with it, as the end of a sentence that begins with the value."""


@dataclass(frozen=True, slots=True)
class ParsedItem:
    """An item with the knowledge that its row names."""

    item: Item
    entities: tuple[tuple[Entity, Relation], ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedAccount:
    """An account with what its row says about whose it is."""

    account: AccountKey
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedTriple:
    """A triple that touches an item of the platform."""

    relation: Relation
    entity: Entity | None
    """What it leads to; None where that is another item."""


class Keyring:
    """Keys of raw ids, made once per distinct id."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._accounts: dict[str, dict[str, AccountKey]] = {}
        self._items: dict[str, dict[str, ItemKey]] = {}

    def accounts(self, platform: str) -> dict[str, AccountKey]:
        """Raw id → key of a platform's accounts so far; the same dictionary at every call."""
        return self._accounts.setdefault(platform, {})

    def items(self, platform: str) -> dict[str, ItemKey]:
        """Raw id → key of a platform's items so far; the same dictionary at every call."""
        return self._items.setdefault(platform, {})

    def account(self, platform: str, raw: str) -> AccountKey:
        """The pseudonymous key of an account; raises KeyFormatError for an empty id."""
        known = self.accounts(platform)
        key = known.get(raw)
        if key is None:
            key = self._pseudonyms.account(platform, _identity(raw))
            _remember(known, raw, key)
        return key

    def user(self, raw: str) -> UserKey:
        """The pseudonymous key of a person; raises KeyFormatError for an empty id."""
        return self._pseudonyms.user(_identity(raw))

    def identity(self, kind: str, normal: str) -> IdentityKey:
        """The pseudonymous key of a mail address or telephone number in its one spelling."""
        return self._pseudonyms.identity(kind, normal)

    def item(self, platform: str, raw: str) -> ItemKey:
        """The key of an item; raises KeyFormatError."""
        known = self.items(platform)
        key = known.get(raw)
        if key is None:
            key = ItemKey(platform, raw.strip())
            _remember(known, raw, key)
        return key


def item_parser(
    section: Items, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], ParsedItem | Rejected]:
    """Compile the parser of a catalogue's rows."""
    platform_of = _platform(mapping.platform, columns)
    id_at = columns.index(section.id)
    title_of, text_of, url_of = (_optional(column, columns) for column in (section.title, section.text, section.url))
    created_of = _instant(section.created_at, columns, "created_at") if section.created_at else None
    created_at = columns.index(section.created_at.column) if section.created_at else 0
    attributes_of = _attributes(section.attributes, columns)
    rules = [(columns.index(r.column), r.separator, r.kind, r.relation) for r in section.entities]
    entity_of = _entities()

    def parse(values: Values) -> ParsedItem | Rejected:
        try:
            key = _item_key(keyring, platform_of(values), values[id_at], "id")
            created = created_of(values) if created_of is not None and values[created_at] else None
            item = Item(key, title_of(values), text_of(values), url_of(values), created, attributes_of(values))
            found: dict[tuple[str, str], tuple[Entity, Relation]] = {}
            for at, separator, kind, relation in rules:
                for name in _names(values[at], separator):
                    entity = entity_of("entities", kind, name)
                    found[relation, entity.key] = entity, Relation(relation, key, entity.key)
            return ParsedItem(item, tuple(found.values()))
        except _Reject as reject:
            return reject.reason

    return parse


def account_parser(
    section: Accounts, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], ParsedAccount | Rejected]:
    """Compile the parser of a list of accounts."""
    platform_of = _platform(mapping.platform, columns)
    id_at = columns.index(section.id)
    since = _instant(section.at, columns) if section.at else None
    since_at = columns.index(section.at.column) if section.at else 0
    named = {"mail": section.mail, "phone": section.phone}
    shared = [(kind, columns.index(column)) for kind, column in named.items() if column is not None]
    logins = [(platform, columns.index(column)) for platform, column in section.logins.items()]
    source = mapping.path.name

    def parse(values: Values) -> ParsedAccount | Rejected:
        try:
            account = _account_key(keyring, platform_of(values), values[id_at], "id")
            at = since(values) if since is not None and values[since_at].strip() else None
            found: list[Evidence] = []
            for kind, place in shared:
                if raw := values[place].strip():
                    normal = normal_identity(kind, raw)
                    if normal is None:
                        _reject(kind, "", f"is neither {_MEANT[kind]} nor a hash of one in hexadecimal")
                    found.append(Evidence(account, keyring.identity(kind, normal), source, at))
            for platform, place in logins:
                if values[place].strip():
                    other = _account_key(keyring, platform, values[place], "logins")
                    if other == account:
                        _reject("logins", "", "is the account itself")
                    found.append(Evidence(account, other, source, at))
            return ParsedAccount(account, tuple(found))
        except _Reject as reject:
            return reject.reason

    return parse


def identity_parser(
    section: Identities, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], tuple[AccountKey, UserKey] | Rejected]:
    """Compile the parser of an identity table."""
    rule = PlatformRule(column=section.platform, names=mapping.platform.names) if section.platform else mapping.platform
    platform_of = _platform(rule, columns)
    account_at, person_at = columns.index(section.account), columns.index(section.person)

    def parse(values: Values) -> tuple[AccountKey, UserKey] | Rejected:
        try:
            account = _account_key(keyring, platform_of(values), values[account_at], "account")
            return account, keyring.user(values[person_at])
        except KeyFormatError:
            return Rejected("person", "", "is empty or not text")
        except _Reject as reject:
            return reject.reason

    return parse


def event_parser(
    section: Events, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], Event | Rejected]:
    """Compile the parser of a file of events."""
    platform_of = _platform(mapping.platform, columns)
    account_at, item_at = columns.index(section.account), columns.index(section.item)
    constant = section.type.constant
    type_of = _event_type(section.type, columns)
    at_of = _instant(section.at, columns) if section.at else lambda _: EPOCH
    value_of = _value(section.value, columns) if section.value else None
    sequence_of = _sequence(columns.index(section.sequence)) if section.sequence else None
    context_of = _attributes(section.context, columns)
    id_at = columns.index(section.id) if section.id else None
    accounts_of, items_of = keyring.accounts, keyring.items
    only = mapping.platform.name
    known_accounts, known_items = (accounts_of(only), items_of(only)) if only else ({}, {})

    def parse(values: Values) -> Event | Rejected:
        try:
            raw_account, raw_item = values[account_at], values[item_at]
            platform = only or platform_of(values)
            accounts, items = (known_accounts, known_items) if only else (accounts_of(platform), items_of(platform))
            account = accounts.get(raw_account) or _account_key(keyring, platform, raw_account, "account")
            item = items.get(raw_item) or _item_key(keyring, platform, raw_item, "item")
            type, weight = constant or type_of(values)
            at = at_of(values)
            sequence = None if sequence_of is None else sequence_of(values)
            value = None
            if value_of is not None:
                value, sign = value_of(values)
                weight *= sign
            if id_at is None:
                event_id = event_digest(type, account, item, at, sequence)
            else:
                event_id = f"{platform}:{values[id_at].strip() or _reject('id', '', 'is empty')}"
            return Event(event_id, type, account, item, at, weight, value, sequence, context_of(values))
        except _Reject as reject:
            return reject.reason
        except RecordError as error:
            return Rejected("", "", str(error))

    return parse


def link_parser(
    section: ItemLinks, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], tuple[str, ItemKey] | Rejected]:
    """Compile the parser of the table that says which item an id of the knowledge base is."""
    platform = mapping.platform.name or ""
    item_at, entity_at = columns.index(section.item), columns.index(section.entity)

    def parse(values: Values) -> tuple[str, ItemKey] | Rejected:
        try:
            entity = values[entity_at].strip() or _reject("entity", "", "is empty")
            return entity, _item_key(keyring, platform, values[item_at], "item")
        except _Reject as reject:
            return reject.reason

    return parse


def triple_parser(
    section: Knowledge, columns: Sequence[str], items: Map[str, ItemKey]
) -> Callable[[Values], ParsedTriple | Rejected]:
    """Compile the parser of triples; `items` says which ids of the knowledge base are items of the platform."""
    triples = section.triples
    head_at, relation_at, tail_at = (columns.index(c) for c in (triples.head, triples.relation, triples.tail))
    rules = section.relations
    entity_of = _entities()

    def parse(values: Values) -> ParsedTriple | Rejected:
        try:
            name = values[relation_at].strip()
            rule = rules.get(name) or _reject("relation", name, "is not among the mapping's relations")
            ends = [("head", values[head_at].strip()), ("tail", values[tail_at].strip())]
            (near_field, near), (far_field, far) = reversed(ends) if rule.inverse else ends
            item = items.get(near) or _reject(near_field, near, "is not linked to an item of this platform")
            if rule.kind == "item":
                other = items.get(far) or _reject(far_field, far, "is not linked to an item of this platform")
                return ParsedTriple(Relation(rule.type, item, other), None)
            entity = entity_of(far_field, rule.kind, far)
            return ParsedTriple(Relation(rule.type, item, entity.key), entity)
        except _Reject as reject:
            return reject.reason

    return parse


_MEANT: Final = {"mail": "a mail address", "phone": "a telephone number with 6 to 15 digits"}

Key = TypeVar("Key")


def _remember(known: dict[str, Key], raw: str, key: Key) -> None:
    if len(known) >= _CACHED:
        known.clear()
    known[raw] = key


class _Reject(Exception):  # noqa: N818  (a way out of a parser, never seen outside)
    def __init__(self, reason: Rejected) -> None:
        super().__init__(reason.rule)
        self.reason = reason


def _reject(field: str, value: str, rule: str) -> NoReturn:
    raise _Reject(Rejected(field, value, rule))


def _identity(raw: str) -> str:
    """An id of an account or person, ready for the hash; the error does not repeat it."""
    text = raw.strip()
    if not text:
        raise KeyFormatError("the id is empty")
    return text


def _account_key(keyring: Keyring, platform: str, raw: str, field: str) -> AccountKey:
    try:
        return keyring.account(platform, raw)
    except KeyFormatError:
        _reject(field, "", "is empty")


def _item_key(keyring: Keyring, platform: str, raw: str, field: str) -> ItemKey:
    try:
        return keyring.item(platform, raw)
    except KeyFormatError as error:
        _reject(field, raw, str(error) if raw.strip() else "is empty")


def _platform(rule: PlatformRule, columns: Sequence[str]) -> Callable[[Values], str]:
    if rule.column is None:
        name = rule.name or ""
        return lambda _: name
    at = columns.index(rule.column)
    known = dict(rule.names)

    def platform_of(values: Values) -> str:
        raw = values[at]
        name = known.get(raw)
        if name is None:
            try:
                name = check_platform("-".join(raw.lower().split()))
            except KeyFormatError as error:
                _reject("platform", raw, str(error))
            if len(known) < _CACHED:
                known[raw] = name
        return name

    return platform_of


def _optional(column: str | None, columns: Sequence[str]) -> Callable[[Values], str | None]:
    if column is None:
        return lambda _: None
    at = columns.index(column)
    return lambda values: values[at].strip() or None


def _attributes(named: Map[str, str], columns: Sequence[str]) -> Callable[[Values], Attributes]:
    """The named columns that are not empty; a list stays a list."""
    if not named:
        nothing: Attributes = {}
        return lambda _: nothing
    places = [(name, columns.index(column)) for name, column in named.items()]
    return lambda values: {
        name: values[at].split(LIST_SEPARATOR) if LIST_SEPARATOR in values[at] else values[at]
        for name, at in places
        if values[at]
    }


def _instant(rule: Instant, columns: Sequence[str], field: str = "at") -> Callable[[Values], datetime]:
    at = columns.index(rule.column)
    scale = 1000 if rule.format == "milliseconds" else 1
    from_timestamp, from_iso = datetime.fromtimestamp, datetime.fromisoformat

    def from_number(values: Values) -> datetime:
        text = values[at]
        try:
            if scale == 1:
                return from_timestamp(int(text), UTC)
            whole, rest = divmod(int(text), scale)
            return from_timestamp(whole, UTC).replace(microsecond=rest * 1000)
        except ValueError:
            pass
        except (OverflowError, OSError):
            _reject(field, text, f"is no instant when read as {rule.format} since 1970")
        try:
            return from_timestamp(float(text) / scale, UTC)
        except (ValueError, OverflowError, OSError):
            _reject(field, text, f"is no instant when read as {rule.format} since 1970")

    def from_text(values: Values) -> datetime:
        text = values[at].strip()
        try:
            instant = from_iso(text)
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        except (ValueError, OverflowError):
            _reject(field, text, "is not ISO 8601, such as 2024-05-01T12:00:00Z")

    return from_text if rule.format == "iso" else from_number


def _event_type(rule: TypeRule, columns: Sequence[str]) -> Callable[[Values], tuple[str, float]]:
    if (constant := rule.constant) is not None:
        return lambda _: constant
    at = columns.index(rule.column or "")
    types = {value: (to.as_, to.resolved_weight) for value, to in rule.values.items()}

    def type_of(values: Values) -> tuple[str, float]:
        found = types.get(values[at]) or types.get(values[at].strip())
        if found is None:
            _reject("type", values[at], f"is none of the mapping's types: {', '.join(types)}")
        return found

    return type_of


def _sequence(at: int) -> Callable[[Values], int | None]:
    def sequence_of(values: Values) -> int | None:
        text = values[at]
        if not text:
            return None
        try:
            number = int(text)
        except ValueError:
            _reject("sequence", text, "is not a whole number")
        if not -(2**63) <= number < 2**63:
            _reject("sequence", text, "is beyond 64 bits")
        return number

    return sequence_of


def _value(rule: ValueRule, columns: Sequence[str]) -> Callable[[Values], tuple[float | None, int]]:
    """The value and the sign it gives the weight; an empty field is no value."""
    at = columns.index(rule.column)
    low, high = rule.scale or (-math.inf, math.inf)
    positive_from = -math.inf if rule.positive_from is None else rule.positive_from

    def value_of(values: Values) -> tuple[float | None, int]:
        text = values[at]
        if not text:
            return None, 1
        try:
            number = float(text)
        except ValueError:
            _reject("value", text, "is not a number")
        if not math.isfinite(number):
            _reject("value", text, "is not a finite number")
        if not low <= number <= high:
            _reject("value", text, f"is beyond the scale {low:g} to {high:g}")
        return number, 1 if number >= positive_from else -1

    return value_of


def _entities() -> Callable[[str, str, str], Entity]:
    """Field, kind and name → entity, made once per distinct name."""
    made: dict[tuple[str, str], Entity] = {}

    def entity_of(field: str, kind: str, name: str) -> Entity:
        entity = made.get((kind, name))
        if entity is None:
            try:
                key = EntityKey(kind, name)
            except KeyFormatError as error:
                _reject(field, name[:80], str(error))
            if len(made) >= _CACHED:
                made.clear()
            made[kind, name] = entity = Entity(key, key.name)
        return entity

    return entity_of


def _names(text: str, separator: str | None) -> list[str]:
    parts = text.split(LIST_SEPARATOR)
    if separator is not None:
        parts = [name for part in parts for name in part.split(separator)]
    return [name for part in parts if (name := part.strip())]
