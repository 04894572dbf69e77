"""The mapping: one YAML file that describes what a platform exports, checked; its errors name file and line.

    platform: food                                   # or {column: site} where one file holds several platforms
    items: {file: food/items.csv.gz, id: item, title: title}
    events:
      file: food/events-*.csv.gz                     # under the data directory, or s3://…; * and ? match several
      account: account
      item: item
      type: PURCHASED                                # or {column: kind, values: {buy: PURCHASED, look: VIEWED}}
      at: {column: timestamp, format: seconds}       # milliseconds, iso (a column's name alone), '%d.%m.%Y %H:%M'
    identities: {file: identities.csv.gz, person: person, platform: platform, account: account}
    accounts: {file: food/customers.csv, id: account, mail: email, phone: mobile, logins: {kitchen: kitchen_id}}

Further tables, where a platform has them:

    follows: {file: friends.csv, account: user, follows: friend}
    entities: {file: artists.csv, kind: creator, id: artist, name: full_name, attributes: {born: year}}
    relations: {file: prerequisites.csv, item: course, target: needs, type: REQUIRES}
    knowledge:
      triples: {file: kg.tsv, head: head, relation: relation, tail: tail}
      links: {file: links.csv, item: item, entity: entity}  # left out where heads are the platform's own items
      relations: {film.film.directed_by: {type: DIRECTED_BY, kind: creator}}

Each of these is one section or a list of them.
"""

import difflib
import math
from collections.abc import Hashable, Iterator, Sequence
from collections.abc import Mapping as Map
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from graph.keys import EntityKey, check_platform
from graph.preference import scale_of
from graph.records import Attributes
from graph.schema import DEFAULT_EVENT_WEIGHTS, STRUCTURAL_TYPES, check_event_type, check_relationship_type
from ingest.errors import MappingError
from ingest.sources.files import QUERIED, TOPIC

Location = tuple[int | str, ...]
"""Where in the YAML: ("events", 0, "at", "column")."""

Format = Literal["csv", "tsv", "jsonl", "literals", "parquet", "recbole", "xml"]

SUFFIXES: Final[Map[str, Format]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xml": "xml",
    **dict.fromkeys((".inter", ".item", ".user", ".kg", ".link", ".net"), "recbole"),
}
"""What a file's name says of its format, before .gz or .zst."""
FORMATS: Final[tuple[str, ...]] = get_args(Format)

_COLUMN: Final = "names a column"
Column = Annotated[str, Field(min_length=1), _COLUMN]
MaybeColumn = Annotated[Annotated[str, Field(min_length=1)] | None, _COLUMN]
Columns = Annotated[dict[str, str], _COLUMN]
"""Property name → column."""
_KEYS_NAME_COLUMNS: Final = "its keys name columns"


def _several(value: Any) -> Any:
    """A text alone is a list of one."""
    if not isinstance(value, str | list | tuple):
        raise ValueError("give a text, or a list of texts")
    return (value,) if isinstance(value, str) else value


class _Part(BaseModel):
    """A part of a mapping; unknown keys are errors, and a bare text stands for the field named by `short`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    short: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, data: Any) -> Any:
        if isinstance(data, str) and cls.short:
            return {cls.short: data}
        names = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            if key not in names:
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key {key}{hint}",
                    {"key": repr(key), "raw": key, "hint": suggestion(str(key), names)},
                )
        return data


class PlatformRule(_Part):
    """A platform's name, or the column that holds it."""

    short = "name"

    name: str | None = None
    column: MaybeColumn = None
    names: dict[str, str] = {}
    """Column's value → platform; any other value is lower-cased, with - for spaces."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.name is None) == (self.column is None):
            raise ValueError("give a platform's name, or {column: …} where the file holds several platforms")
        for name in [self.name] if self.name is not None else self.names.values():
            check_platform(name)
        return self


class Instant(_Part):
    """A column of instants."""

    short = "column"

    column: Column
    format: str = "iso"
    """seconds or milliseconds since 1970, ISO 8601, or a pattern of Python's strptime such as "%d/%m/%Y %H:%M"."""
    zone: str | None = None
    """What a time without an offset is in, such as Europe/Berlin; UTC when left out. Of the two instants that a time
    names when clocks are put back, the earlier is meant."""
    earliest: date | None = None
    """An instant before this day is a bad row: 1970-01-01 may stand for unknown."""

    @property
    def is_number(self) -> bool:
        return self.format in {"seconds", "milliseconds"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.is_number and self.format != "iso":
            _check_pattern(self.format)
        if self.zone is not None:
            if self.is_number:
                raise ValueError(f"zone is {self.zone}, but {self.format} since 1970 are in UTC: leave the zone out")
            _check_zone(self.zone)
        return self


class Section(_Part):
    """What every section says: where its rows are."""

    file: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
    """A name, or a list of them: relative to the data directory, or fsspec URLs (s3://…). * ? and […] match several
    files of the same columns, ** any folders. What is packed with gzip or zstd is recognised by its bytes. A topic of
    Kafka is kafka://host:port/topic, its messages are JSON."""
    format: Format | None = None
    """From the suffix when left out: .csv, .tsv, .jsonl, .ndjson, .parquet, .xml or RecBole's, then .gz or .zst."""
    delimiter: Annotated[str, Field(min_length=1)] | None = None
    """Between fields: a character for csv (, by default), any text for tsv (a tab by default), which has no quotes."""
    columns: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """csv and tsv: the names of all fields, in order, where the file has no header. jsonl and xml: names of keys that
    the first thousand records may lack."""
    where: Annotated[dict[str, Annotated[tuple[str, ...], BeforeValidator(_several)]], _KEYS_NAME_COLUMNS] = {}
    """Column → the values that a row of this section has; other rows of the file are not read as its own."""
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    """Texts that stand for nothing, such as NULL or N/A; a field that is one of them is empty."""

    @field_validator("missing", mode="before")
    @classmethod
    def _check_missing(cls, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                raise ValueError(f"YAML makes {text!r} of one of these texts: put them in quotes, as ['NULL', '-1']")
        return value

    @model_validator(mode="after")
    def _check_file(self) -> Self:
        try:
            newline = "\n".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding {self.encoding!r} is unknown: write utf-8, latin-1, cp1252 …") from None
        if newline != b"\n":
            raise ValueError(f"encoding {self.encoding} cannot be read line by line: convert the file to utf-8 first")
        format = self.resolved_format
        if format != "jsonl" and (topic := next((file for file in self.file if file.startswith(TOPIC)), None)):
            raise ValueError(f"format is {format}, and the messages of {topic} are read as JSON: leave the format out")
        if self.delimiter is not None and format not in {"csv", "tsv"}:
            raise ValueError(f"a delimiter is for csv and tsv, {self.file[0]} is {format}")
        if self.delimiter is not None and len(self.delimiter) > 1 and format == "csv":
            raise ValueError(f"the delimiter {self.delimiter!r} has several characters: add format: tsv")
        if self.columns and format in {"parquet", "recbole"}:
            raise ValueError(
                f"columns are for csv, tsv, jsonl and xml: {self.file[0]} is {format}, which names its own"
            )
        if twice := next((name for name in self.columns if self.columns.count(name) > 1), None):
            raise ValueError(f"columns has {twice!r} twice: give each column a name of its own")
        return self

    @property
    def resolved_format(self) -> Format:
        if self.format is not None:
            return self.format
        formats = {format_of(name): name for name in self.file}
        if None in formats:
            raise ValueError(f"{formats[None]!r} has a suffix that says no format: add format: {', '.join(FORMATS)}")
        if len(formats) > 1:
            raise ValueError(f"{' and '.join(formats.values())} are of two formats: give each a section of its own")
        return next(format for format in formats if format)


def format_of(file: str) -> Format | None:
    """The format that a file's name says, if it says one."""
    if file.startswith(TOPIC):
        return "jsonl"
    if "://" in file:
        file = next(part for part in file.split("::") if "://" in part)  # simplecache::s3://bucket/a.csv
        file = file.partition("?")[0] if file.startswith(QUERIED) else file
    return SUFFIXES.get(PurePosixPath(file.removesuffix(".gz").removesuffix(".zst")).suffix)


class EntityRule(_Part):
    """A column that names entities around an item: categories, tags, creators."""

    column: MaybeColumn = None
    flags: Annotated[tuple[str, ...], _COLUMN] = ()
    """In the place of `column`: columns that hold 1 (or true, yes) where an item has the entity of their name."""
    kind: str
    """category, tag, creator …: the first part of the entity's key."""
    relation: str
    """IN_CATEGORY, TAGGED, BY …: from item to entity."""
    separator: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_several)] = ()
    """Between several names in one field; where a list of them is given, any of it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.column is None) == (not self.flags):
            raise ValueError("give the column that names the entities, or the columns that are flags: [Action, Drama]")
        EntityKey(self.kind, "x")
        _check_relation(self.relation)
        return self


class Items(Section):
    """The platform's catalogue."""

    id: Column
    title: MaybeColumn = None
    text: MaybeColumn = None
    url: MaybeColumn = None
    created_at: Instant | None = None
    attributes: Columns = {}
    entities: tuple[EntityRule, ...] = ()


class Accounts(Section):
    """Accounts, for those that may have no event yet, and what says whose they are."""

    id: Column
    mail: MaybeColumn = None
    """Mail addresses, or hashes of them in hexadecimal (SHA-256 of the address in lower case meets the address)."""
    phone: MaybeColumn = None
    """Telephone numbers with their country's code, or hashes of them."""
    logins: Columns = {}
    """Platform → column of the account there that was used to log in here."""
    at: Instant | None = None
    """Since when a row is so; always, when left out."""

    @model_validator(mode="after")
    def _check_platforms(self) -> Self:
        for platform in self.logins:
            check_platform(platform)
        return self


class Identities(Section):
    """Which accounts are one person."""

    person: Column
    account: Column
    platform: MaybeColumn = None
    """The column of the account's platform; the mapping's own platform when left out."""


class ItemTable(Section):
    """Which item an id belongs to that is no item's own: the question of an answer, the album of a track."""

    id: Column
    item: Column


class EventType(_Part):
    """What an event becomes."""

    short = "as"

    as_: str = Field(alias="as")
    """The relationship type, such as RATED."""
    weight: float | None = None
    """How much it says that the person wants the item; from graph.schema when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_event(self.as_, self.weight)
        return self

    @property
    def resolved_weight(self) -> float:
        return DEFAULT_EVENT_WEIGHTS[self.as_] if self.weight is None else self.weight


class TypeRule(_Part):
    """One type for every event of the file, or a column whose values are mapped to types."""

    short = "as"

    as_: str | None = Field(default=None, alias="as")
    weight: float | None = None
    column: MaybeColumn = None
    values: dict[str, EventType] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.as_ is None) == (self.column is None):
            raise ValueError("give a type such as RATED, or {column: …, values: {…}}")
        if self.column is not None and not self.values:
            raise ValueError(f"say what the values of column {self.column!r} become: values: {{buy: PURCHASED}}")
        if self.as_ is not None:
            _check_event(self.as_, self.weight)
        return self

    @property
    def constant(self) -> tuple[str, float] | None:
        """Type and weight, when every event has the same."""
        if self.as_ is None:
            return None
        return self.as_, DEFAULT_EVENT_WEIGHTS[self.as_] if self.weight is None else self.weight


class ValueRule(_Part):
    """A column of numbers: ratings, counts, durations."""

    short = "column"

    column: Column
    scale: tuple[float, float] | None = None
    """Lowest and highest; a value beyond is a bad row."""
    positive_from: float | None = None
    """A value below turns the event's weight negative."""
    per_person: bool = False
    """Whether a model reads a value beside what the person gives otherwise, on all platforms: who gives five stars to
    most things does not want what they give four. It begins from `positive_from`, or the middle of the scale."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}: give the lowest value, then the highest")
        if self.per_person and self.scale is None:
            raise ValueError("per_person needs a scale, such as scale: [1, 5]: it is what makes platforms comparable")
        if self.per_person and self.positive_from is not None and self.scale is not None:
            low, high = self.scale
            if not low <= self.positive_from <= high:
                raise ValueError(
                    f"positive_from is {self.positive_from:g}: give a value of the scale {low:g} to {high:g}"
                )
        return self

    @property
    def marks(self) -> Attributes:
        """Properties of an event that say how its value is to be read; none when it is to be read by itself."""
        if not self.per_person or self.scale is None:
            return {}
        low, high = self.scale
        return scale_of(low, high, (low + high) / 2 if self.positive_from is None else self.positive_from)


class Events(Section):
    """What accounts did with items."""

    account: Column
    item: Column
    item_of: ItemTable | None = None
    """Where `item` may hold ids of what belongs to an item; one that the table lacks is an item's own."""
    type: TypeRule
    at: Instant | None = None
    """Left out where the source knows no times: every event is then at 1970-01-01, ordered by `sequence`."""
    id: MaybeColumn = None
    """The source's own id of the event; a hash of account, item, type, time and sequence when left out."""
    sequence: MaybeColumn = None
    """Whole numbers that order a person's events where instants tie."""
    value: ValueRule | None = None
    context: Columns = {}

    @model_validator(mode="after")
    def _check_context(self) -> Self:
        taken = sorted(self.context.keys() & self.value.marks.keys()) if self.value is not None else ()
        if taken:
            raise ValueError(f"context names {taken[0]}, which per_person writes: give the property another name")
        return self


class Follows(Section):
    """Which account follows which; a friendship is two rows, one each way."""

    account: Column
    follows: Column
    """The account that it follows."""


class Entities(Section):
    """Names and attributes of entities: who a creator is, when a company was founded."""

    kind: str
    """creator, company …: the first part of the entity's key."""
    id: Column
    """What the catalogue and the triples call it."""
    name: MaybeColumn = None
    """The id again when left out."""
    attributes: Columns = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        EntityKey(self.kind, "x")
        return self


class Relations(Section):
    """Pairs of one relation: which course requires which, who plays on which record."""

    item: Column
    target: Column
    """An item of the same platform, or the id of an entity."""
    type: str
    """Relationship type, from the item."""
    kind: str = "item"
    """The kind of the entity it leads to, or `item` where it leads to another item."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_target(self.kind, self.type)
        return self


class Triples(Section):
    """Knowledge as (head, relation, tail)."""

    head: Column
    relation: Column
    tail: Column


class ItemLinks(Section):
    """Which item an id of the knowledge base is."""

    item: Column
    entity: Column


class RelationRule(_Part):
    """What a relation of the knowledge base becomes."""

    type: str
    """Relationship type, from the item."""
    kind: str
    """The kind of the entity it leads to, or `item` where it leads to another item."""
    inverse: bool = False
    """The item is the tail. A knowledge base that states both directions gives duplicates, counted as such."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_target(self.kind, self.type)
        return self


class Knowledge(_Part):
    """Triples of a knowledge base, and which of its ids are items of this platform."""

    triples: Triples
    links: ItemLinks | None = None
    """Left out where the triples call items what the platform calls them."""
    relations: dict[str, RelationRule]


class Mapping(_Part):
    """All that one mapping file says."""

    platform: PlatformRule
    items: tuple[Items, ...] = ()
    accounts: tuple[Accounts, ...] = ()
    identities: tuple[Identities, ...] = ()
    events: tuple[Events, ...] = ()
    follows: tuple[Follows, ...] = ()
    entities: tuple[Entities, ...] = ()
    relations: tuple[Relations, ...] = ()
    knowledge: tuple[Knowledge, ...] = ()

    _path: Path = PrivateAttr()
    _root: yaml.Node = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        """A section alone is a list of one."""
        if not isinstance(data, dict):
            return data
        lists = set(cls.model_fields) - {"platform"}
        return {key: [value] if key in lists and isinstance(value, dict) else value for key, value in data.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields if name != "platform"):
            raise ValueError("the mapping names no files: give items, events, accounts, identities or knowledge")
        if self.platform.column is not None and self.knowledge:
            raise ValueError("knowledge needs a platform's name: its files have no column for the platform")
        return self

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

    @property
    def private_columns(self) -> set[str]:
        """The columns that say who somebody is, in any section: none of their values may be kept or shown."""
        found = {events.account for events in self.events}
        found |= {column for table in self.identities for column in (table.account, table.person)}
        found |= {column for table in self.follows for column in (table.account, table.follows)}
        for accounts in self.accounts:
            found |= {accounts.id, *accounts.logins.values(), *filter(None, (accounts.mail, accounts.phone))}
        return found

    def error(self, location: Location, message: str) -> MappingError:
        """An error about what is at a location, with file and line."""
        where, line = _locate(self._root, location)
        return MappingError(f"{self._path.name} line {line}: {where + ' ' if where else ''}{message}")

    def check_columns(self, location: Location, section: Section, columns: Sequence[str], file: str) -> None:
        """Raise MappingError for the first column that the section names and the file lacks."""
        named = list(_columns(section, location))
        if self.platform.column is not None and not isinstance(section, Identities | ItemTable):
            named.insert(0, (("platform", "column"), self.platform.column))
        for where, column in named:
            if column not in columns:
                listed = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
                raise self.error(where, f"names column {column!r}, {file} has {listed}{suggestion(column, columns)}")


def needed_columns(mapping: Mapping, section: Section) -> set[str]:
    """The columns that reading a section takes: its own, and the one of the platform."""
    return {*used_columns(section), *([mapping.platform.column] if mapping.platform.column else ())}


def used_columns(section: Section) -> list[str]:
    """The columns that a section names, in its own order."""
    return [column for _, column in _columns(section, ())]


def optional_columns(section: Section) -> list[tuple[str, str]]:
    """Field → column of what a row of this section may leave out."""
    match section:
        case Items():
            created = section.created_at.column if section.created_at else None
            named = {"title": section.title, "text": section.text, "url": section.url, "created_at": created}
            return [(name, column) for name, column in (named | dict(section.attributes)).items() if column]
        case Events():
            value = section.value.column if section.value else None
            named = {"sequence": section.sequence, "value": value}
            return [(name, column) for name, column in (named | dict(section.context)).items() if column]
        case Entities():
            return [(name, column) for name, column in ({"name": section.name} | section.attributes).items() if column]
        case _:
            return []


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises: MappingError, with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MappingError(f"the mapping {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MappingError(f"the mapping {path} is not UTF-8 text: save it as UTF-8") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MappingError(f"{path.name} line {line}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise MappingError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or root is None:
        raise MappingError(f"{path.name} holds no mapping: begin with platform: NAME")
    try:
        mapping = Mapping.model_validate(data)
    except ValidationError as error:
        raise MappingError(_explain(path, root, error)) from None
    mapping._path, mapping._root = path, root
    return mapping


def suggestion(word: str, known: Sequence[str]) -> str:
    """ "; did you mean …?" for the known word nearest to this one, or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _check_relation(name: str) -> None:
    if check_relationship_type(name) in STRUCTURAL_TYPES:
        raise ValueError(f"{name} is the graph's own: give the relation another type, such as BY")


def _check_pattern(pattern: str) -> None:
    """Raise ValueError unless a day that is written by a pattern is read by it again."""
    day = datetime(2001, 11, 28, 13, 14, 15, tzinfo=UTC)
    try:
        read = datetime.strptime(day.strftime(pattern), pattern)  # noqa: DTZ007  (only the day is compared)
    except (ValueError, IndexError):
        read = None
    if read is None or read.date() != day.date():
        raise ValueError(
            f"format is {pattern!r}: give seconds, milliseconds, iso, or a pattern with year, month and day such as "
            "'%d/%m/%Y %H:%M'"
        )


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found; not a name; the name of a folder
        hint = suggestion(name, sorted(available_timezones()))
        raise ValueError(f"zone {name!r} is unknown{hint or ': write one such as Europe/Berlin'}") from None


def _check_target(kind: str, relation: str) -> None:
    if kind != "item":
        EntityKey(kind, "x")
    _check_relation(relation)


def _check_event(name: str, weight: float | None) -> None:
    check_event_type(name)
    if weight is None and name not in DEFAULT_EVENT_WEIGHTS:
        raise ValueError(f"{name} has no default weight: give one, such as {{as: {name}, weight: 0.5}}")
    if weight is not None and not (math.isfinite(weight) and weight != 0):
        raise ValueError(f"weight is {weight}: give a finite number other than 0")


def _columns(part: BaseModel, location: Location) -> Iterator[tuple[Location, str]]:
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        here = (*location, info.alias or name)
        if isinstance(value, Section):
            continue  # it has files of its own
        if isinstance(value, BaseModel):
            yield from _columns(value, here)
        elif isinstance(value, tuple):
            for position, member in enumerate(value):
                if isinstance(member, BaseModel):
                    yield from _columns(member, (*here, position))
                elif _COLUMN in info.metadata:
                    yield (*here, position), member
        elif _COLUMN in info.metadata and isinstance(value, str):
            yield here, value
        elif _COLUMN in info.metadata and isinstance(value, dict):
            yield from (((*here, key), column) for key, column in value.items())
        elif _KEYS_NAME_COLUMNS in info.metadata:
            yield from (((*here, column), column) for column in value)


def _locate(root: yaml.Node, location: Location) -> tuple[str, int]:
    """The dotted path of a location and the line of the last part of it that the YAML has."""
    node, line, names = root, root.start_mark.line + 1, []
    for position, part in enumerate(location):
        found = False
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line, found = value, key.start_mark.line + 1, True
                    names.append(str(part))
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node, found = node.value[part], True
            line = node.start_mark.line + 1
            names.append(str(part))
        if (
            not found
            and isinstance(part, str)
            and position == len(location) - 1
            and not isinstance(node, yaml.ScalarNode)
        ):
            names.append(part)
    return ".".join(names), line


def _explain(path: Path, root: yaml.Node, error: ValidationError) -> str:
    """The first problem in a sentence, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    location: Location = first["loc"]
    if first["type"] == "unknown_key":
        location = (*location, first["ctx"]["raw"])
    where, line = _locate(root, location)
    if first["type"] == "missing":
        message = f"{where} is missing"
    elif first["type"] == "unknown_key":
        message = first["msg"]
    else:
        text = first["msg"].removeprefix("Value error, ")
        given = (
            f", not {first['input']!r}" if not isinstance(first["input"], dict) and "rror" not in first["type"] else ""
        )
        message = (
            f"{where}: {text[:1].lower() + text[1:] if text.startswith('Input') else text}{given}" if where else text
        )
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path.name} line {line}: {message}{more}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader whose keys are texts as written (1 and yes too), each given once: YAML would let the second win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is a list or a mapping", problem_mark=key.start_mark)
            if key.value in found:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            found[key.value] = self.construct_object(value, deep=True)
        return found
