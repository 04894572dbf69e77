"""The mapping: one YAML file that describes what a platform exports, checked; its errors name file and line.

    platform: food                                   # or {column: site} where one file holds several platforms
    items: {file: food/items.csv.gz, id: item, title: title}
    events:
      file: food/events.csv.gz                       # under the data directory; * and ? match several files
      account: account
      item: item
      type: PURCHASED                                # or {column: kind, values: {buy: PURCHASED, look: VIEWED}}
      at: {column: timestamp, format: seconds}       # or milliseconds, or iso (a column's name alone means iso)
    identities: {file: identities.csv.gz, person: person, platform: platform, account: account}
    accounts: {file: food/customers.csv, id: account, mail: email, phone: mobile, logins: {kitchen: kitchen_id}}

`items`, `accounts`, `identities`, `events` and `knowledge` are each one section or a list of them.
"""

import difflib
import math
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from graph.keys import EntityKey, check_platform
from graph.schema import DEFAULT_EVENT_WEIGHTS, STRUCTURAL_TYPES, check_event_type, check_relationship_type
from ingest.errors import MappingError

Location = tuple[int | str, ...]
"""Where in the YAML: ("events", 0, "at", "column")."""

Format = Literal["csv", "tsv", "jsonl", "parquet"]

_COLUMN: Final = "names a column"
Column = Annotated[str, Field(min_length=1), _COLUMN]
MaybeColumn = Annotated[Annotated[str, Field(min_length=1)] | None, _COLUMN]
Columns = Annotated[dict[str, str], _COLUMN]
"""Property name → column."""


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
    format: Literal["seconds", "milliseconds", "iso"] = "iso"
    """Since 1970, or ISO 8601; without an offset it is UTC."""


class Section(_Part):
    """What every section says: where its rows are."""

    file: str
    """Relative to the data directory; * and ? match several files of the same columns."""
    format: Format | None = None
    """From the suffix when left out (.csv, .tsv, .jsonl, .ndjson, .parquet, each but parquet also .gz)."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Between the fields of csv; , by default."""
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _check_file(self) -> Self:
        try:
            newline = "\n".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding {self.encoding!r} is unknown: write utf-8, latin-1, cp1252 …") from None
        if newline != b"\n":
            raise ValueError(f"encoding {self.encoding} cannot be read line by line: convert the file to utf-8 first")
        format = self.resolved_format
        if self.delimiter is not None and format != "csv":
            raise ValueError(f"a delimiter is for csv, {self.file} is {format}")
        return self

    @property
    def resolved_format(self) -> Format:
        if self.format is not None:
            return self.format
        suffix = Path(self.file.removesuffix(".gz")).suffix
        known: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
        known[".parquet"] = "parquet"
        if suffix not in known:
            raise ValueError(f"{self.file!r} has a suffix that says no format: add format: csv, tsv, jsonl or parquet")
        return known[suffix]


class EntityRule(_Part):
    """A column that names entities around an item: categories, tags, creators."""

    column: Column
    kind: str
    """category, tag, creator …: the first part of the entity's key."""
    relation: str
    """IN_CATEGORY, TAGGED, BY …: from item to entity."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Between several names in one field."""

    @model_validator(mode="after")
    def _check(self) -> Self:
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}: give the lowest value, then the highest")
        return self


class Events(Section):
    """What accounts did with items."""

    account: Column
    item: Column
    type: TypeRule
    at: Instant | None = None
    """Left out where the source knows no times: every event is then at 1970-01-01, ordered by `sequence`."""
    id: MaybeColumn = None
    """The source's own id of the event; a hash of account, item, type, time and sequence when left out."""
    sequence: MaybeColumn = None
    """Whole numbers that order a person's events where instants tie."""
    value: ValueRule | None = None
    context: Columns = {}


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
        if self.kind != "item":
            EntityKey(self.kind, "x")
        _check_relation(self.type)
        return self


class Knowledge(_Part):
    """Triples of a knowledge base, and which of its ids are items of this platform."""

    triples: Triples
    links: ItemLinks
    relations: dict[str, RelationRule]


class Mapping(_Part):
    """All that one mapping file says."""

    platform: PlatformRule
    items: tuple[Items, ...] = ()
    accounts: tuple[Accounts, ...] = ()
    identities: tuple[Identities, ...] = ()
    events: tuple[Events, ...] = ()
    knowledge: tuple[Knowledge, ...] = ()

    _path: Path = PrivateAttr()
    _root: yaml.Node = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        """A section alone is a list of one."""
        if not isinstance(data, dict):
            return data
        lists = ("items", "accounts", "identities", "events", "knowledge")
        return {key: [value] if key in lists and isinstance(value, dict) else value for key, value in data.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any((self.items, self.accounts, self.identities, self.events, self.knowledge)):
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
        if self.platform.column is not None and not isinstance(section, Identities):
            named.insert(0, (("platform", "column"), self.platform.column))
        for where, column in named:
            if column not in columns:
                listed = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
                raise self.error(where, f"names column {column!r}, {file} has {listed}{suggestion(column, columns)}")


def used_columns(section: Section) -> list[str]:
    """The columns that a section names, in its own order."""
    return [column for _, column in _columns(section, ())]


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
        if isinstance(value, BaseModel):
            yield from _columns(value, here)
        elif isinstance(value, tuple):
            for position, member in enumerate(value):
                if isinstance(member, BaseModel):
                    yield from _columns(member, (*here, position))
        elif _COLUMN in info.metadata and isinstance(value, str):
            yield here, value
        elif _COLUMN in info.metadata and isinstance(value, dict):
            yield from (((*here, key), column) for key, column in value.items())


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
