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
    Knowledge,
    Location,
    Mapping,
    Relations,
    Section,
    Triples,
    suggestion,
)
from ingest.sources.files import ExportFile, find, is_url
from ingest.sources.rows import open_source


@dataclass(frozen=True, slots=True)
class Part:
    """One file to be read for one section of a mapping."""

    mapping: Mapping
    section: Section
    file: ExportFile
    knowledge: Knowledge | None = None
    """What the section belongs to, when it is links or triples."""


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


def plan(mappings: Sequence[Mapping], data: Path | str) -> list[Part]:
    """Find the files of all mappings and check their columns; an identity table that two mappings name is read once.

    Args:
        data: the directory, or the URL of one, that the mappings' files are relative to.
    Raises: SourceError, MappingError.
    """
    directory = str(data)
    if not is_url(directory) and not Path(directory).is_dir():
        raise SourceError(f"{data} is not a directory: give --data the directory that the mappings' files are under")
    parts: list[Part] = []
    tables: set[tuple[str, str]] = set()
    for mapping in mappings:
        for location, section, knowledge in _sections(mapping):
            for file in _find(mapping, location, section, directory):
                source = open_source(file, section)
                source.close()
                mapping.check_columns(location, section, source.columns, file.name)
                if isinstance(section, Identities) and section.platform is not None:
                    table = file.path, section.model_dump_json() + str(mapping.platform.names)
                    if table in tables:
                        continue
                    tables.add(table)
                parts.append(Part(mapping, section, file, knowledge))
    return sorted(parts, key=lambda part: _ORDER.index(type(part.section)))


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


def _find(mapping: Mapping, location: Location, section: Section, data: str) -> list[ExportFile]:
    """The section's files, each once."""
    found: dict[str, ExportFile] = {}
    for place in section.file:
        files = find(place, data)
        if not files:
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
