"""The plan of a run: which files are read for which sections, in which order; made before anything is written."""

import glob
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
from ingest.sources.rows import open_source


@dataclass(frozen=True, slots=True)
class Part:
    """One file to be read for one section of a mapping."""

    mapping: Mapping
    section: Section
    path: Path
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


def plan(mappings: Sequence[Mapping], data: Path) -> list[Part]:
    """Find the files of all mappings and check their columns; an identity table that two mappings name is read once.

    Raises: SourceError, MappingError.
    """
    if not data.is_dir():
        raise SourceError(f"{data} is not a directory: give --data the directory that the mappings' files are under")
    parts: list[Part] = []
    tables: set[tuple[Path, str]] = set()
    for mapping in mappings:
        for location, section, knowledge in _sections(mapping):
            for path in _find(mapping, location, section, data):
                source = open_source(path, section)
                source.close()
                mapping.check_columns(location, section, source.columns, str(path.relative_to(data)))
                if isinstance(section, Identities) and section.platform is not None:
                    table = path, section.model_dump_json() + str(mapping.platform.names)
                    if table in tables:
                        continue
                    tables.add(table)
                parts.append(Part(mapping, section, path, knowledge))
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


def _find(mapping: Mapping, location: Location, section: Section, data: Path) -> list[Path]:
    names = sorted(glob.glob(section.file, root_dir=data)) if glob.has_magic(section.file) else [section.file]
    paths = [data / name for name in names if (data / name).is_file()]
    if not paths:
        beside = sorted((data / section.file).parent.glob("*"))
        hint = suggestion(section.file, [str(path.relative_to(data)) for path in beside if path.is_file()])
        hint = hint or ": give --data the directory that holds it"
        raise mapping.error((*location, "file"), f"names {section.file}, which is not in {data}{hint}")
    return paths
