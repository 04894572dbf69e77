"""Row → record, or the reason why not. A mapping is compiled once into closures; those run for each row.

Raw ids of accounts and persons go into `Keyring` and come out as pseudonyms; no record, reason or value holds one.
"""

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final, NoReturn, TypeVar
from zoneinfo import ZoneInfo

from graph.errors import KeyFormatError
from graph.keys import (
    MAX_KEY_LENGTH,
    AccountKey,
    EntityKey,
    IdentityKey,
    ItemKey,
    Pseudonyms,
    UserKey,
    check_platform,
)
from graph.records import Attributes, Entity, Evidence, Item, Relation
from ingest.identity import normal_identity
from ingest.mapping import (
    Accounts,
    Entities,
    EntityRule,
    Events,
    Follows,
    Identities,
    Instant,
    ItemLinks,
    Items,
    Knowledge,
    Mapping,
    PlatformRule,
    Relations,
    Section,
)
from ingest.rules import Rule
from ingest.sources.rows import LIST_SEPARATOR

Values = Sequence[str]
"""The fields of a row, in the order of the file's columns."""

_CACHED: Final = 1_000_000
"""Distinct ids whose keys are held; at this many the cache begins anew, so memory has a bound."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a row is not taken."""

    field: str
    """The field of the mapping's section, such as at; "" for the row as a whole."""
    value: str
    """The value that broke the rule; empty where it would be an account's or a person's id."""
    detail: str
    """What is wrong with it, as the end of a sentence that begins with the value; it repeats no part of the row."""
    rule: Rule


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
    """What a table or a knowledge base says of an item of the platform."""

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


def account_reader(
    section: Section, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], AccountKey | None]:
    """Compile what says whose a row is, however broken the rest of it; None where the row does not say."""
    match section:
        case Accounts():
            column, rule = section.id, mapping.platform
        case Events():
            column, rule = section.account, mapping.platform
        case Follows():
            column, rule = section.account, mapping.platform
        case Identities():
            column, rule = section.account, _identity_platform(section, mapping)
        case _:
            return lambda _: None
    platform_of, at = platform_reader(rule, columns), columns.index(column)

    def account_of(values: Values) -> AccountKey | None:
        try:
            return account_key(keyring, platform_of(values), values[at], "account")
        except Refused:
            return None

    return account_of


def item_parser(
    section: Items, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], ParsedItem | Rejected]:
    """Compile the parser of a catalogue's rows."""
    platform_of = platform_reader(mapping.platform, columns)
    id_at = columns.index(section.id)
    title_of, text_of, url_of = (_optional(column, columns) for column in (section.title, section.text, section.url))
    created_of = instant_reader(section.created_at, columns, "created_at") if section.created_at else None
    created_at = columns.index(section.created_at.column) if section.created_at else 0
    attributes_of = attributes_reader(section.attributes, columns)
    names_of = [(_names(rule, columns), rule.kind, rule.relation) for rule in section.entities]
    entity_of = _entities()

    def parse(values: Values) -> ParsedItem | Rejected:
        try:
            key = item_key(keyring, platform_of(values), values[id_at], "id")
            created = created_of(values) if created_of is not None and values[created_at] else None
            item = Item(key, title_of(values), text_of(values), url_of(values), created, attributes_of(values))
            found: dict[tuple[str, str], tuple[Entity, Relation]] = {}
            for names, kind, relation in names_of:
                for name in names(values):
                    entity = entity_of("entities", kind, name)
                    found[relation, entity.key] = entity, Relation(relation, key, entity.key)
            return ParsedItem(item, tuple(found.values()))
        except Refused as reject:
            return reject.reason

    return parse


def account_parser(
    section: Accounts, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], ParsedAccount | Rejected]:
    """Compile the parser of a list of accounts."""
    platform_of = platform_reader(mapping.platform, columns)
    id_at = columns.index(section.id)
    since = instant_reader(section.at, columns) if section.at else None
    since_at = columns.index(section.at.column) if section.at else 0
    named = {"mail": section.mail, "phone": section.phone}
    shared = [(kind, columns.index(column)) for kind, column in named.items() if column is not None]
    logins = [(platform, columns.index(column)) for platform, column in section.logins.items()]
    source = mapping.path.name

    def parse(values: Values) -> ParsedAccount | Rejected:
        try:
            account = account_key(keyring, platform_of(values), values[id_at], "id")
            at = since(values) if since is not None and values[since_at].strip() else None
            found: list[Evidence] = []
            for kind, place in shared:
                if raw := values[place].strip():
                    normal = normal_identity(kind, raw)
                    if normal is None:
                        refuse(
                            kind, "", f"is neither {_MEANT[kind]} nor a hash of one in hexadecimal", Rule.NO_IDENTITY
                        )
                    found.append(Evidence(account, keyring.identity(kind, normal), source, at))
            for platform, place in logins:
                if values[place].strip():
                    other = account_key(keyring, platform, values[place], "logins")
                    if other == account:
                        refuse("logins", "", "is the account itself", Rule.ITSELF)
                    found.append(Evidence(account, other, source, at))
            return ParsedAccount(account, tuple(found))
        except Refused as reject:
            return reject.reason

    return parse


def identity_parser(
    section: Identities, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], tuple[AccountKey, UserKey] | Rejected]:
    """Compile the parser of an identity table."""
    platform_of = platform_reader(_identity_platform(section, mapping), columns)
    account_at, person_at = columns.index(section.account), columns.index(section.person)

    def parse(values: Values) -> tuple[AccountKey, UserKey] | Rejected:
        try:
            account = account_key(keyring, platform_of(values), values[account_at], "account")
            return account, keyring.user(values[person_at])
        except KeyFormatError:
            return Rejected("person", "", "is empty or not text", Rule.EMPTY)
        except Refused as reject:
            return reject.reason

    return parse


def follow_parser(
    section: Follows, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], Relation | Rejected]:
    """Compile the parser of a table of who follows whom."""
    platform_of = platform_reader(mapping.platform, columns)
    account_at, follows_at = columns.index(section.account), columns.index(section.follows)

    def parse(values: Values) -> Relation | Rejected:
        try:
            platform = platform_of(values)
            account = account_key(keyring, platform, values[account_at], "account")
            followed = account_key(keyring, platform, values[follows_at], "follows")
            if account == followed:
                refuse("follows", "", "is the account itself", Rule.ITSELF)
            return Relation("FOLLOWS", account, followed)
        except Refused as reject:
            return reject.reason

    return parse


def entity_parser(
    section: Entities, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], Entity | Rejected]:
    """Compile the parser of a table of entities."""
    id_at = columns.index(section.id)
    name_of, attributes_of = _optional(section.name, columns), attributes_reader(section.attributes, columns)

    def parse(values: Values) -> Entity | Rejected:
        try:
            key = EntityKey(section.kind, values[id_at])
        except KeyFormatError:
            return Rejected("id", values[id_at], _NAME_FORM, Rule.KEY_FORM)
        return Entity(key, name_of(values) or key.name, attributes_of(values))

    return parse


def relation_parser(
    section: Relations, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], ParsedTriple | Rejected]:
    """Compile the parser of a table of one relation."""
    platform_of = platform_reader(mapping.platform, columns)
    item_at, target_at = columns.index(section.item), columns.index(section.target)
    type, kind = section.type, section.kind
    entity_of = _entities()

    def parse(values: Values) -> ParsedTriple | Rejected:
        try:
            platform = platform_of(values)
            item = item_key(keyring, platform, values[item_at], "item")
            if kind == "item":
                other = item_key(keyring, platform, values[target_at], "target")
                return _between_items(type, item, other, "target")
            entity = entity_of("target", kind, values[target_at].strip())
            return ParsedTriple(Relation(type, item, entity.key), entity)
        except Refused as reject:
            return reject.reason

    return parse


def link_parser(
    section: ItemLinks, mapping: Mapping, columns: Sequence[str], keyring: Keyring
) -> Callable[[Values], tuple[str, ItemKey] | Rejected]:
    """Compile the parser of the table that says which item an id of the knowledge base is."""
    platform = mapping.platform.name or ""
    item_at, entity_at = columns.index(section.item), columns.index(section.entity)

    def parse(values: Values) -> tuple[str, ItemKey] | Rejected:
        try:
            entity = values[entity_at].strip() or refuse("entity", "", "is empty", Rule.EMPTY)
            return entity, item_key(keyring, platform, values[item_at], "item")
        except Refused as reject:
            return reject.reason

    return parse


def triple_parser(
    section: Knowledge, mapping: Mapping, columns: Sequence[str], keyring: Keyring, links: Map[str, ItemKey]
) -> Callable[[Values], ParsedTriple | Rejected]:
    """Compile the parser of triples; `links` says which ids of the knowledge base are items of the platform.

    Where the section has no table of links, such an id is the platform's own.
    """
    triples = section.triples
    head_at, relation_at, tail_at = (columns.index(c) for c in (triples.head, triples.relation, triples.tail))
    rules = section.relations
    entity_of = _entities()
    platform = mapping.platform.name or ""

    def item_of(field: str, id: str) -> ItemKey:
        if section.links is None:
            return item_key(keyring, platform, id, field)
        return links.get(id) or refuse(field, id, _UNLINKED, Rule.UNLINKED)

    def parse(values: Values) -> ParsedTriple | Rejected:
        try:
            name = values[relation_at].strip()
            rule = rules.get(name)
            if rule is None:
                refuse("relation", name, "is not among the mapping's relations", Rule.UNKNOWN_RELATION)
            ends = [("head", values[head_at].strip()), ("tail", values[tail_at].strip())]
            (near_field, near), (far_field, far) = reversed(ends) if rule.inverse else ends
            item = item_of(near_field, near)
            if rule.kind == "item":
                return _between_items(rule.type, item, item_of(far_field, far), far_field)
            entity = entity_of(far_field, rule.kind, far)
            return ParsedTriple(Relation(rule.type, item, entity.key), entity)
        except Refused as reject:
            return reject.reason

    return parse


def _between_items(type: str, item: ItemKey, other: ItemKey, field: str) -> ParsedTriple:
    if item == other:
        refuse(field, other.id, f"is the item itself, which cannot be {type} of itself", Rule.ITSELF)
    return ParsedTriple(Relation(type, item, other), None)


_MEANT: Final = {"mail": "a mail address", "phone": "a telephone number with 6 to 15 digits"}

Key = TypeVar("Key")


def _remember(known: dict[str, Key], raw: str, key: Key) -> None:
    if len(known) >= _CACHED:
        known.clear()
    known[raw] = key


class Refused(Exception):  # noqa: N818  (a way out of a parser, never seen outside)
    def __init__(self, reason: Rejected) -> None:
        super().__init__(reason.detail)
        self.reason = reason


def refuse(field: str, value: str, detail: str, rule: Rule) -> NoReturn:
    raise Refused(Rejected(field, value, detail, rule))


_UNLINKED: Final = "is not linked to an item of this platform"
_ID_FORM: Final = f"is not an id: use 1 to {MAX_KEY_LENGTH} of the characters A-Z a-z 0-9 _ : @ . - (platform included)"
_PLATFORM_FORM: Final = (
    "is not a platform name: use 1-64 of a-z 0-9 _ . - beginning with a letter, and neither 'account' nor 'user'"
)
_NAME_FORM: Final = f"is not a name: give 1 to {MAX_KEY_LENGTH} printable characters (kind included)"


def _identity(raw: str) -> str:
    """An id of an account or person, ready for the hash; the error does not repeat it."""
    text = raw.strip()
    if not text:
        raise KeyFormatError("the id is empty")
    return text


def account_key(keyring: Keyring, platform: str, raw: str, field: str) -> AccountKey:
    try:
        return keyring.account(platform, raw)
    except KeyFormatError:
        refuse(field, "", "is empty", Rule.EMPTY)


def item_key(keyring: Keyring, platform: str, raw: str, field: str) -> ItemKey:
    try:
        return keyring.item(platform, raw)
    except KeyFormatError:
        refuse(field, raw, *((_ID_FORM, Rule.KEY_FORM) if raw.strip() else ("is empty", Rule.EMPTY)))


def _identity_platform(section: Identities, mapping: Mapping) -> PlatformRule:
    if section.platform is None:
        return mapping.platform
    return PlatformRule(column=section.platform, names=mapping.platform.names)


def platform_reader(rule: PlatformRule, columns: Sequence[str]) -> Callable[[Values], str]:
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
            except KeyFormatError:
                refuse("platform", raw, *((_PLATFORM_FORM, Rule.KEY_FORM) if raw.strip() else ("is empty", Rule.EMPTY)))
            if len(known) < _CACHED:
                known[raw] = name
        return name

    return platform_of


def _optional(column: str | None, columns: Sequence[str]) -> Callable[[Values], str | None]:
    if column is None:
        return lambda _: None
    at = columns.index(column)
    return lambda values: values[at].replace(LIST_SEPARATOR, " ").strip() or None


def attributes_reader(named: Map[str, str], columns: Sequence[str]) -> Callable[[Values], Attributes]:
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


def instant_reader(
    rule: Instant, columns: Sequence[str], field: str = "at", latest: datetime | None = None
) -> Callable[[Values], datetime]:
    read = _number_of_time(rule, columns, field) if rule.is_number else _text_of_time(rule, columns, field)
    if rule.earliest is None and latest is None:
        return read
    at = columns.index(rule.column)
    first = datetime.combine(rule.earliest or date.min, time.min, UTC)
    last = latest or datetime.combine(date.max, time.max, UTC)

    def within(values: Values) -> datetime:
        instant = read(values)
        if instant < first:
            refuse(field, values[at], f"is before {first:%Y-%m-%d}, the earliest of the mapping", Rule.TOO_EARLY)
        if instant > last:
            refuse(field, values[at], f"is {instant:%Y-%m-%d}, later than when it is read", Rule.IN_THE_FUTURE)
        return instant

    return within


def _number_of_time(rule: Instant, columns: Sequence[str], field: str) -> Callable[[Values], datetime]:
    at = columns.index(rule.column)
    scale = 1000 if rule.format == "milliseconds" else 1
    from_timestamp = datetime.fromtimestamp
    detail = f"is no instant when read as {rule.format} since 1970"

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
            refuse(field, text, detail, Rule.NOT_AN_INSTANT)
        try:
            return from_timestamp(float(text) / scale, UTC)
        except (ValueError, OverflowError, OSError):
            refuse(field, text, *((detail, Rule.NOT_AN_INSTANT) if text.strip() else ("is empty", Rule.EMPTY)))

    return from_number


def _text_of_time(rule: Instant, columns: Sequence[str], field: str) -> Callable[[Values], datetime]:
    at = columns.index(rule.column)
    from_iso, from_pattern, pattern = datetime.fromisoformat, datetime.strptime, rule.format
    iso = pattern == "iso"
    zone = UTC if rule.zone is None else ZoneInfo(rule.zone)
    detail = "is not ISO 8601, such as 2024-05-01T12:00:00Z" if iso else f"is not of the form {pattern}"

    def from_text(values: Values) -> datetime:
        text = values[at].strip()
        try:
            instant = from_iso(text) if iso else from_pattern(text, pattern)
            if instant.tzinfo is None:
                if zone is UTC:
                    return instant.replace(tzinfo=UTC)
                local, instant = instant, instant.replace(tzinfo=zone).astimezone(UTC)
                if instant.astimezone(zone).replace(tzinfo=None) != local:
                    refuse(field, text, f"is in the hour that {rule.zone} skipped", Rule.NO_SUCH_TIME)
                return instant
            return instant.astimezone(UTC)
        except (ValueError, OverflowError):
            refuse(field, text, *((detail, Rule.NOT_AN_INSTANT) if text else ("is empty", Rule.EMPTY)))

    return from_text


def _entities() -> Callable[[str, str, str], Entity]:
    """Field, kind and name → entity, made once per distinct name."""
    made: dict[tuple[str, str], Entity] = {}

    def entity_of(field: str, kind: str, name: str) -> Entity:
        entity = made.get((kind, name))
        if entity is None:
            try:
                key = EntityKey(kind, name)
            except KeyFormatError:
                refuse(field, name, _NAME_FORM, Rule.KEY_FORM)
            if len(made) >= _CACHED:
                made.clear()
            made[kind, name] = entity = Entity(key, key.name)
        return entity

    return entity_of


_TRUE: Final = frozenset({"1", "1.0", "true", "yes", "y", "t", "x"})


def _names(rule: EntityRule, columns: Sequence[str]) -> Callable[[Values], list[str]]:
    """The names of entities in a row."""
    if rule.column is None:
        flags = [(name, columns.index(name)) for name in rule.flags]
        return lambda values: [name for name, at in flags if values[at].strip().lower() in _TRUE]
    at, separators = columns.index(rule.column), rule.separator

    def names(values: Values) -> list[str]:
        text = values[at]
        for separator in separators:
            text = text.replace(separator, LIST_SEPARATOR)
        return [name for part in text.split(LIST_SEPARATOR) if (name := part.strip())]

    return names
