"""A first mapping, drafted from what the files of an export look like, with what was guessed said beside it."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final, Literal, get_args

from graph.errors import IsthmusError
from graph.keys import check_platform
from graph.schema import STRUCTURAL_TYPES
from ingest.columns import ATTRIBUTES, ENTITIES, Column, scale_of
from ingest.errors import SourceError, redacted
from ingest.look import ROWS, Look, look
from ingest.mapping import format_of, read_mapping
from ingest.sources.files import ExportFile, find, is_url

Kind = Literal["items", "accounts", "identities", "follows", "events"]
"""A section that can be drafted, in the order of a mapping."""

EVENT_WORDS: Final[Mapping[str, str]] = {
    word: type
    for type, words in {
        "VIEWED": "view viewed pv look looked visit visited impression show open read detail browse",
        "CLICKED": "click clicked tap",
        "PLAYED": "play played watch watched listen listened stream streamed start",
        "SAVED": "save saved fav favorite favourite bookmark wishlist cart basket collect",
        "LIKED": "like liked upvote love loved recommend",
        "DISLIKED": "dislike disliked downvote hide",
        "RATED": "rate rated rating review reviewed stars",
        "PURCHASED": "buy bought purchase purchased order ordered transaction checkout pay paid sale enroll",
        "COMMENTED": "comment commented reply replied",
        "ASKED": "ask asked question",
        "ANSWERED": "answer answered",
    }.items()
    for word in words.split()
}
"""Words of a type's value, or of a file's name, → the type of event that they speak for."""

_MOST_TYPES: Final = 30
_ORDER: Final[tuple[Kind, ...]] = get_args(Kind)
_PLAIN: Final = re.compile(r"[A-Za-z_./][\w./-]*")
_YAML_WORDS: Final = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})


def write_draft(places: Sequence[str], platform: str | None = None, out: Path | None = None) -> Path:
    """Draft a mapping of these files and write it, by default to PLATFORM.yaml; never over another file.

    Args:
        places: paths, fsspec URLs or patterns.
        platform: its name; that of the first file's folder when None.
    Raises: SourceError if a file cannot be read or none can be understood.
    """
    files = [(place, file) for place in places for file in _found(place)]
    name = _platform_name(files[0][1]) if platform is None else check_platform(platform)
    path = out or Path(f"{name}.yaml")
    if path.exists():
        raise SourceError(f"{path} is there already: name another file with --out, or remove it")
    looks = [look(file, _seen_from(path.parent, place, file)) for place, file in files]
    path.write_text(draft(name, looks, path.name), encoding="utf-8")
    try:
        read_mapping(path)
    except IsthmusError:
        path.unlink()
        raise
    return path


def draft(platform: str, looks: Sequence[Look], name: str) -> str:
    """The YAML of a first mapping.

    Raises: SourceError if none of the files can be understood.
    """
    groups: dict[tuple[object, ...], list[Look]] = {}
    for each in looks:
        groups.setdefault((_kind(each), *each.shape), []).append(each)
    found: dict[Kind, list[list[str]]] = {}
    unknown: list[str] = []
    ids = {value for each in looks if _kind(each) == "items" for value in each.column(_item_id(each)).distinct}
    site = _platform_column([group[0] for group in groups.values()])
    for group in groups.values():
        first, kind = _together(group), _kind(group[0])
        if kind is None:
            listed = ", ".join(f"{column.name} ({column.seen()})" for column in first.columns[:12])
            unknown.append(f"# {first.place} was not understood. It has {listed}.")
        else:
            lines = [*_where(group), *_SECTIONS[kind](first, ids)]
            found.setdefault(kind, []).append([*lines, *_unused(first, kind, lines)])
    if not found:
        raise SourceError(
            f"{', '.join(str(each.file) for each in looks)}: no column looks like the id of an account or an item; "
            "docs/mapping.md shows how to write a mapping by hand"
        )
    lines = [
        f"# Drafted by isthmus mapping init from the first {ROWS:,} rows of each file; docs/mapping.md has its keys.",
        "# Read it, mend it, then see what it would do:",
        f"#   isthmus mapping check {name}",
        f"platform: {{column: {_scalar(site)}}}  # the file holds several; names: {{value: platform}} renames them"
        if site
        else f"platform: {platform}  # begins the key of every item: {platform}:1",
    ]
    for kind in _ORDER:
        if sections := found.get(kind):
            lines.append(f"{kind}:")
            for section in sections:
                lead = "  - " if len(sections) > 1 else "  "
                lines.append(f"{lead}{section[0]}")
                lines += [f"{' ' * len(lead)}{line}" for line in section[1:]]
    return "\n".join([*lines, *unknown, ""])


def _together(group: Sequence[Look]) -> Look:
    """Files of one shape as one."""
    columns = [
        Column(each[0].name, [value for column in each for value in column.values], sum(column.rows for column in each))
        for each in zip(*(look.columns for look in group), strict=True)
    ]
    return replace(group[0], columns=columns)


def _found(place: str) -> list[ExportFile]:
    if redacted(place) != place:
        raise SourceError(
            f"{place} holds a user or a query, and a mapping is no place for a secret: leave it out of the URL and "
            "give it to the driver through its environment variables"
        )
    files = find(place, ".")
    if not files:
        raise SourceError(f"{place} is not there: name the files of an export")
    return files


def _seen_from(folder: Path, place: str, file: ExportFile) -> str:
    return file.shown if is_url(place) else Path(os.path.relpath(file.path, folder)).as_posix()


def _platform_name(file: ExportFile) -> str:
    parts = PurePosixPath(file.path).parts
    for part in (*reversed(parts[:-1]), "platform"):
        name = re.sub(r"[^a-z0-9_.-]+", "-", part.lower()).strip("-.")[:64]
        if re.fullmatch(r"[a-z][a-z0-9_.-]*", name) and name not in {"account", "user", "data", "export", "exports"}:
            return name
    return "platform"


def _kind(look: Look) -> Kind | None:
    """What a file holds, by its columns and its name."""
    if look.format == "recbole":
        named: dict[str, Kind] = {".inter": "events", ".item": "items", ".user": "accounts", ".net": "follows"}
        suffix = PurePosixPath(look.file.path.removesuffix(".gz").removesuffix(".zst")).suffix
        return named.get(suffix)
    accounts, items = _accounts(look), _items(look)
    persons = [column for column in look.columns if column.may_be("person")]
    if persons and accounts and not items:
        return "identities"
    if _followed(look) and not items:
        return "follows"
    if accounts and items:
        return "events"
    told = [column for column in look.columns if column.may_be("title") or column.may_be("text") or _entity(column)]
    own = [column for column in look.columns if column.name.lower() in {"id", "key"}]
    of_people = any(Column(look.file.name, (), 0).may_be(role) for role in ("account", "person"))
    if items or (own and told and not of_people):
        return "items"
    if accounts or (own and of_people):
        return "accounts"
    return None


def _accounts(look: Look) -> list[Column]:
    return [
        column
        for column in look.columns
        if column.may_be("account")
        and not {"name", "count"} & column.words
        and not column.may_be("item")
        and not (column.numbers and not column.whole)
    ]


def _items(look: Look) -> list[Column]:
    """Columns that name items, those that do best first."""
    found = [
        column
        for column in look.columns
        if column.may_be("item")
        and not any(column.may_be(role) for role in ("title", "time", "text", "type"))
        and not (column.numbers and not column.whole)
        and not {"price", "count", "url"} & column.words
    ]
    return sorted(found, key=lambda column: not (column.words & {"id", "asin", "sku", "isbn"}))


def _followed(look: Look) -> tuple[Column, Column] | None:
    """The account and whom it follows."""
    follow = [column for column in look.columns if column.may_be("follow")]
    others = [column for column in _accounts(look) if column not in follow]
    others += [column for column in look.columns if "source" in column.words or column.words & {"follower", "truster"}]
    pairs = ((one, other) for other in follow for one in others if one is not other)
    return next(pairs, None)


def _item_id(look: Look) -> str:
    own = [column for column in look.columns if column.name.lower() in {"id", "key"}]
    candidates = [*_items(look), *own] or list(look.columns)
    unique = [column for column in candidates if column.unique]
    return (unique or candidates)[0].name


def _where(group: Sequence[Look]) -> list[str]:
    first = group[0]
    names = [_scalar(each.place) for each in group]
    lines = [f"file: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}"]
    said = format_of(first.place)
    if said != first.format:
        lines.append(f"format: {first.format}")
    if first.delimiter is not None:
        lines.append(f"delimiter: {json.dumps(first.delimiter)}")
    if first.encoding != "utf-8":
        lines.append(f"encoding: {first.encoding}  # some bytes are not utf-8; this is a guess")
    if first.names:
        named = ", ".join(_scalar(name) for name in first.names)
        lines.append(f"columns: [{named}]  # the file has no header: these names are guesses")
    return lines


def _items_section(look: Look, _: set[str]) -> list[str]:
    id = _item_id(look)
    rest = [column for column in look.columns if column.name != id and column.values]
    titles = [column for column in rest if column.may_be("title") and not column.numbers]
    texts = [column for column in rest if column.may_be("text") and not column.numbers and column not in titles]
    urls = [column for column in rest if all(value.startswith(("http://", "https://")) for value in column.values)]
    times = [column for column in rest if column.may_be("time") and column.instant]
    entities = [column for column in rest if _entity(column) and column not in titles]
    guessed = not titles and next((c for c in rest if c.words_within and c not in (*texts, *urls, *entities)), None)
    lines = [f"id: {_scalar(id)}"]
    if titles:
        lines.append(f"title: {_scalar(min(titles, key=lambda column: 'title' not in column.words).name)}")
    elif guessed:
        lines.append(f"title: {_scalar(guessed.name)}  # a guess: its texts look like titles")
    lines += [f"text: {_scalar(column.name)}" for column in texts[:1]]
    lines += [f"url: {_scalar(column.name)}" for column in urls[:1]]
    lines += [f"created_at: {_instant(column)}" for column in times[:1]]
    attributes = [column for column in rest if column.words & ATTRIBUTES and column not in (*times, *titles, *texts)]
    if attributes:
        named = ", ".join(f"{_property(column.name)}: {_scalar(column.name)}" for column in attributes)
        lines.append(f"attributes: {{{named}}}")
    if entities:
        lines.append("entities:")
        for column in entities:
            kind, relation = _entity(column) or ("", "")
            part = f', separator: "{column.separator}"' if column.separator else ""
            lines.append(f"  - {{column: {_scalar(column.name)}{part}, kind: {kind}, relation: {relation}}}")
    return lines


def _accounts_section(look: Look, _: set[str]) -> list[str]:
    own = [column.name for column in look.columns if column.name.lower() in {"id", "key"}]
    return [f"id: {_scalar([*own, *(column.name for column in _accounts(look))][0])}"]


def _identities_section(look: Look, _: set[str]) -> list[str]:
    person = next(column for column in look.columns if column.may_be("person"))
    account = next(column for column in _accounts(look) if column is not person)
    platform = next((column for column in look.columns if column.may_be("platform")), None)
    lines = [f"person: {_scalar(person.name)}"]
    lines += [f"platform: {_scalar(platform.name)}"] if platform else []
    return [*lines, f"account: {_scalar(account.name)}"]


def _follows_section(look: Look, _: set[str]) -> list[str]:
    account, followed = _followed(look) or (look.columns[0], look.columns[1])
    return [
        f"account: {_scalar(account.name)}",
        f"follows: {_scalar(followed.name)}  # one way: a friendship is two rows",
    ]


def _events_section(look: Look, ids: set[str]) -> list[str]:
    account = next(iter(_accounts(look)), look.columns[0])
    candidates = [column for column in _items(look) if column is not account] or [look.columns[1]]
    item = max(candidates, key=lambda column: len(column.distinct & ids))
    rest = [column for column in look.columns if column not in (account, item) and column.values]
    times = sorted(
        (column for column in rest if column.may_be("time") and column.instant),
        key=lambda column: not column.words & {"timestamp", "time", "at", "ts", "unix"},
    )
    ratings = [column for column in rest if column.may_be("rating") and column.numbers and column not in times]
    counts = [column for column in rest if column.may_be("count") and column.numbers and column not in times]
    value = next(iter([*ratings, *counts]), None)
    orders = [column for column in rest if column.words & {"position", "sequence", "seq"} and column.whole]
    lines = [f"account: {_scalar(account.name)}", f"item: {_scalar(item.name)}"]
    lines += _type(look, rest, value)
    if times:
        lines.append(f"at: {_instant(times[0])}")
    else:
        lines.append("# at: no column looks like a time; events without one are ordered by sequence alone")
    lines += [f"sequence: {_scalar(column.name)}" for column in orders[:1]]
    if value in ratings and value is not None and (scale := scale_of(value)):
        middle = sum(scale) / 2
        positive = f"{middle if scale[1] <= 1 else math.ceil(middle):g}"
        lines.append(
            f"value: {{column: {_scalar(value.name)}, scale: [{scale[0]:g}, {scale[1]:g}], positive_from: {positive}}}"
            f"  # {value.seen()}; below {positive} speaks against the item"
        )
    elif value is not None:
        lines.append(f"value: {_scalar(value.name)}  # {value.seen()}")
    ids_of_events = [column for column in rest if "id" in column.words and column.unique and not column.may_be("item")]
    lines += [f"# id: {_scalar(column.name)}  # if it names the event for ever" for column in ids_of_events[:1]]
    return lines


def _type(look: Look, rest: Sequence[Column], value: Column | None) -> list[str]:
    """The line that says what the events are."""
    kinds = [column for column in rest if column.may_be("type") and len(column.distinct) <= _MOST_TYPES]
    if kinds:
        lines = ["type:", f"  column: {_scalar(kinds[0].name)}", "  values:  # rows of other types would be rejected"]
        return lines + [
            f"    {json.dumps(text, ensure_ascii=False)}: {_event_type(text)}" for text in sorted(kinds[0].distinct)
        ]
    if value is not None and value.may_be("rating"):
        return ["type: RATED"]
    words = [*sorted(Column(look.file.name, (), 0).words), *(sorted(value.words) if value else ())]
    for word in words:
        if type := EVENT_WORDS.get(word) or EVENT_WORDS.get(word.removesuffix("s")):
            return [f"type: {type}  # by the word {word!r}; docs/mapping.md lists the others"]
    return ["type: VIEWED  # nothing says what these events are; docs/mapping.md lists the types"]


def _event_type(text: str) -> str:
    for word in re.findall(r"[a-z]+", text.lower()):
        if known := EVENT_WORDS.get(word):
            return known
    name = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")[:60]
    name = name if re.match(r"[A-Z]", name) and name not in STRUCTURAL_TYPES else f"DID_{name}".rstrip("_")
    return f"{{as: {name}, weight: 0.5}}  # a type of your own: how much does it say that they want the item?"


def _instant(column: Column) -> str:
    return f"{{column: {_scalar(column.name)}, format: {column.instant}}}"


def _entity(column: Column) -> tuple[str, str] | None:
    if column.numbers or "id" in column.words or "name" in column.words:
        return None
    return next((ENTITIES[word] for word in sorted(column.words) if word in ENTITIES), None)


def _unused(look: Look, kind: Kind, lines: Sequence[str]) -> list[str]:
    """A comment on the columns that the lines of a section do not name."""
    if kind not in {"items", "events"}:
        return []
    text = "\n".join(lines)
    left = [
        column
        for column in look.columns
        if not column.may_be("platform") and not re.search(rf"(?<![\w]){re.escape(_scalar(column.name))}(?![\w])", text)
    ]
    listed = ", ".join(f"{column.name} ({column.seen()})" for column in left[:20])
    use = "attributes" if kind == "items" else "context"
    return [f"# not used: {listed}; {use}: {{name: column}} keeps one"] if left else []


def _platform_column(looks: Sequence[Look]) -> str | None:
    """The column that holds the platform in every file that has items or events, when there is one."""
    named = [
        {column.name for column in look.columns if column.may_be("platform") and not column.numbers}
        for look in looks
        if _kind(look) in {"items", "events", "follows", "accounts"}
    ]
    shared = set.intersection(*named) if named else set()
    return min(shared) if shared else None


def _property(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower() or "value"


def _scalar(text: str) -> str:
    """A text as YAML reads it back."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


_SECTIONS: Final = {
    "items": _items_section,
    "accounts": _accounts_section,
    "identities": _identities_section,
    "follows": _follows_section,
    "events": _events_section,
}
