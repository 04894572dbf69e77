"""What a mapping would do to the first rows of its files: a run into a store of its own that is thrown away."""

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from graph.keys import Pseudonyms
from graph.records import canonical_json
from graph.schema import CORE_LABELS
from graph.store import Store, open_store
from ingest.load import ingest
from ingest.mapping import Mapping
from ingest.report import IngestReport

ROWS: Final = 1000
"""Rows of each file that are looked at unless another number is asked for."""

_SHOWN: Final = 2
"""Records of a kind that are shown."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What became of the first rows."""

    rows: int
    """Rows of each file that were looked at, at most."""
    run: IngestReport
    records: Sequence[str]
    """A few of the records that were made, as the graph would hold them."""

    @property
    def unfit(self) -> Sequence[str]:
        """Files of which no row was taken: the mapping does not describe them."""
        return [file.file for file in self.run.files if file.read and file.read == file.rejected]

    def __str__(self) -> str:
        parts = [str(replace(self.run, quarantine=None))]
        if self.records:
            parts.append("\n".join(["what the graph would hold, such as", *self.records]))
        if any(file.read == self.rows for file in self.run.files):
            parts.append(
                f"Looked at the first {self.rows:,} rows of each file, and wrote nothing. Items that may come later in "
                "a catalogue were taken to be there."
            )
        else:
            parts.append("Looked at all rows, and wrote nothing.")
        return "\n\n".join(parts)


def check(mappings: Sequence[Mapping], data: Path | str, rows: int = ROWS) -> CheckReport:
    """Try mappings on the first rows of each of their files; nothing outlives it.

    Pseudonyms are made under a key that is thrown away too.

    Raises: MappingError, SourceError.
    """
    with tempfile.TemporaryDirectory(prefix="isthmus-check-") as folder:
        var = Path(folder)
        with open_store(f"sqlite:///{var / 'graph.db'}") as store:
            report = ingest(mappings, store, Pseudonyms(secrets.token_bytes(32)), var, data=data, limit=rows)
            return CheckReport(rows, report, list(_records(store)))


def _records(store: Store) -> Iterator[str]:
    for label in ("Item", *(label for label in store.labels() if label not in CORE_LABELS)):
        for node in islice((row for row in _rows(store.read_nodes(label)) if label != "Item" or _told(row)), _SHOWN):
            yield f"  (:{label} {_brief(node)})"
    for type in store.event_types():
        for event in islice(_rows(store.read_events(type)), _SHOWN):
            ends = f"  ({_short(event.pop('account'))})-[:{type} {{}}]->({event.pop('item')})"
            yield ends.replace("{}", _brief({name: value for name, value in event.items() if name != "event_id"}))
    for type in store.relation_types():
        for row in islice(_rows(store.read_relations(type)), _SHOWN):
            yield f"  ({_short(row['source'])})-[:{type}]->({_short(row['target'])})"


def _rows(batches: Iterator[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def _told(item: dict[str, Any]) -> bool:
    """Whether a catalogue says anything of an item: one that an event named alone has nothing but its key."""
    return any(item[name] is not None for name in ("title", "text", "url", "created_at")) or item["attributes"] != "{}"


def _brief(record: dict[str, Any]) -> str:
    """Name and value of what is not empty, cut where it is long."""
    told = {name: str(value) for name, value in record.items() if value not in {None, "{}"} and name != "platform"}
    return canonical_json({name: f"{text[:60]}…" if len(text) > 60 else text for name, text in told.items()})


def _short(key: str) -> str:
    """A key, with its pseudonym cut: under a key that is thrown away it says no more than who is the same."""
    return f"{key[:-26]}…" if key.startswith("account:") else key
