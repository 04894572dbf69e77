"""The plan of a run: which files are read for which sections, in which order; made before anything is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.errors import SourceError
from ingest.mapping import (
    Accounts,
    Entities,
    Events,
    Follows,
    Identities,
    ItemLinks,
    Items,
    ItemTable,
    Knowledge,
    Location,
    Mapping,
    Relations,
    Section,
    Triples,
    needed_columns,
    suggestion,
    used_columns,
)
from ingest.sources.files import ExportFile, find, is_url
from ingest.sources.kafka import Partition
from ingest.sources.lookup import LookedUp, Lookup
from ingest.sources.rows import Malformed, Source, open_source


@dataclass(frozen=True, slots=True)
class Part:
    """One file to be read for one section of a mapping."""

    mapping: Mapping
    section: Section
    file: ExportFile
    knowledge: Knowledge | None = None
    """What the section belongs to, when it is links or triples."""
    limit: int | None = None
    """Rows of it that are read; all when None."""
    item_files: tuple[ExportFile, ...] = ()
    """The files of a section's `item_of`."""
    location: Location = ()
    """Where the section is in its mapping."""


_ORDER: Final[tuple[type[Section], ...]] = (
    Identities,
    Accounts,
    Follows,
    Items,
    Entities,
    Relations,
    ItemLinks,
    Triples,
    Events,
)
"""Nodes before edges: a person before their accounts' events, items before what is said of them."""


def plan(mappings: Sequence[Mapping], data: Path | str, limit: int | None = None) -> list[Part]:
    """Find the files of all mappings and check their columns; an identity table that two mappings name is read once.

    Args:
        data: the directory, or the URL of one, that the mappings' files are relative to.
        limit: rows of each file that are to be read; all when None.
    Raises: SourceError, MappingError.
    """
    parts = find_parts(mappings, data, limit)
    for part in parts:
        check(part)
    return parts


def find_parts(
    mappings: Sequence[Mapping], data: Path | str, limit: int | None = None, *, begun: bool = False
) -> list[Part]:
    """The plan before any file is opened.

    Args:
        begun: leave out, rather than refuse, what has no file: it had one when the run began.
    Raises: SourceError, MappingError.
    """
    directory = str(data)
    if not is_url(directory) and not Path(directory).is_dir():
        raise SourceError(f"{data} is not a directory: give --data the directory that the mappings' files are under")
    parts: list[Part] = []
    tables: set[tuple[str, str]] = set()
    for mapping in mappings:
        for location, section, knowledge in _sections(mapping):
            item_files: list[ExportFile] = []
            if isinstance(section, Events) and section.item_of is not None:
                item_files = _find(mapping, (*location, "item_of"), section.item_of, directory, begun=begun)
            for file in _find(mapping, location, section, directory, begun=begun):
                if isinstance(section, Identities) and section.platform is not None:
                    table = file.path, section.model_dump_json() + str(mapping.platform.names)
                    if table in tables:
                        continue
                    tables.add(table)
                parts.append(Part(mapping, section, file, knowledge, limit, tuple(item_files), location))
    return sorted(parts, key=lambda part: _ORDER.index(type(part.section)))


def check(part: Part) -> None:
    """Open the files of a part to see that they have the columns that its mapping names.

    Raises: SourceError, MappingError.
    """
    _check(part.mapping, part.location, part.section, part.file)
    if isinstance(part.section, Events) and part.section.item_of is not None:
        for file in part.item_files:
            _check(part.mapping, (*part.location, "item_of"), part.section.item_of, file)


def opened(part: Part) -> Source:
    """The rows of a part, with the columns that its section names.

    Raises: SourceError.
    """
    section = part.section
    source = open_source(part.file, section, needed_columns(part.mapping, section), part.limit)
    if not isinstance(section, Events) or section.item_of is None:
        return source
    try:
        return LookedUp(source, section.item, Lookup(_pairs(part.item_files, section.item_of)))
    except SourceError:
        source.close()
        raise


def _pairs(files: Sequence[ExportFile], table: ItemTable) -> Iterator[tuple[str, str]]:
    """Id and item of each row of a table that has both."""
    for file in files:
        source = open_source(file, table, used_columns(table))
        try:
            id_at, item_at = (list(source.columns).index(name) for name in (table.id, table.item))
            for _, values in source.rows():
                if not isinstance(values, Malformed) and values[id_at] and values[item_at]:
                    yield values[id_at], values[item_at]
        finally:
            source.close()


def _sections(mapping: Mapping) -> Iterator[tuple[Location, Section, Knowledge | None]]:
    named: dict[str, Sequence[Section]] = {
        "identities": mapping.identities,
        "accounts": mapping.accounts,
        "items": mapping.items,
        "events": mapping.events,
        "follows": mapping.follows,
        "entities": mapping.entities,
        "relations": mapping.relations,
    }
    for name, sections in named.items():
        for position, section in enumerate(sections):
            yield (name, position), section, None
    for position, knowledge in enumerate(mapping.knowledge):
        if knowledge.links is not None:
            yield ("knowledge", position, "links"), knowledge.links, knowledge
        yield ("knowledge", position, "triples"), knowledge.triples, knowledge


def _check(mapping: Mapping, location: Location, section: Section, file: ExportFile) -> None:
    source = open_source(file, section)
    source.close()
    if isinstance(file, Partition) and not source.columns:
        return  # nothing has been sent yet, or nothing but what belongs into quarantine
    mapping.check_columns(location, section, source.columns, file.name)


def _find(mapping: Mapping, location: Location, section: Section, data: str, *, begun: bool) -> list[ExportFile]:
    """The section's files, each once."""
    found: dict[str, ExportFile] = {}
    for place in section.file:
        files = find(place, data)
        if not files and not begun:
            raise mapping.error((*location, "file"), _nowhere(place, data))
        found.update((file.path, file) for file in files)
    return list(found.values())


def _nowhere(place: str, data: str) -> str:
    if is_url(place) or is_url(data):
        where = place if is_url(place) else f"{place} in {data}"
        return f"names {where}, and no file is there: check the URL and that it may be read"
    beside = sorted((Path(data) / place).parent.glob("*"))
    hint = suggestion(place, [str(path.relative_to(data)) for path in beside if path.is_file()])
    if (Path(data) / place).is_dir():
        hint = f": it is a folder, name its files, such as {place.rstrip('/')}/*"
    return f"names {place}, which is not in {data}{hint or ': give --data the directory that holds it'}"
