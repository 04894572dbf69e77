"""What the graph may hold: labels, relationship types, the default vocabulary of events, and the Arrow form of each.

Event types and the kinds of entities are open: a mapping names its own. Their names have a fixed form, since they
become labels and relationship types, which a query cannot pass as parameters.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import pyarrow as pa

from graph.errors import SchemaError

CORE_LABELS: Final = ("Platform", "User", "Account", "Item")
"""Labels that every graph has; every other label is an entity's."""

OWN_TYPES: Final = frozenset({"OF", "ON", "EVIDENCE"})
"""Relationship types that a store writes by itself; neither an event's nor a relation's."""

OWN_LABELS: Final = frozenset({"Identity", "Tombstone"})
"""Labels of what a store keeps beside the graph and no read shows."""

STRUCTURAL_TYPES: Final = OWN_TYPES | {"FOLLOWS", "SAME_WORK", "LEADS_TO"}
"""Relationship types that are never an event."""

DEFAULT_EVENT_WEIGHTS: Final[Mapping[str, float]] = {
    "VIEWED": 0.2,
    "CLICKED": 0.4,
    "PLAYED": 0.7,
    "SAVED": 0.8,
    "LIKED": 1.0,
    "RATED": 1.0,
    "COMMENTED": 0.7,
    "ASKED": 1.0,
    "ANSWERED": 1.0,
    "PURCHASED": 1.0,
    "DISLIKED": -1.0,
    "HIDDEN": -1.0,
}
"""How much an event of each type says that the person wants the item; a mapping may give its own weights and types."""

_TYPE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LABEL = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")

_INSTANT: Final = pa.timestamp("us", tz="UTC")

PLATFORM_SCHEMA: Final = pa.schema([pa.field("key", pa.string(), nullable=False)])
USER_SCHEMA: Final = PLATFORM_SCHEMA
ACCOUNT_SCHEMA: Final = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("platform", pa.string(), nullable=False)]
)
ITEM_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("platform", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("url", pa.string()),
        pa.field("created_at", _INSTANT),
        pa.field("attributes", pa.string(), nullable=False),
    ]
)
"""`attributes` is a JSON object with sorted keys; "{}" when the source gives nothing further."""
ENTITY_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("attributes", pa.string(), nullable=False),
    ]
)
EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("account", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("at", _INSTANT, nullable=False),
        pa.field("sequence", pa.int64()),
        pa.field("value", pa.float64()),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("context", pa.string(), nullable=False),
    ]
)
"""The events of one relationship type, (:Account)-[:TYPE]->(:Item); `context` is a JSON object with sorted keys."""
LINK_SCHEMA: Final = pa.schema(
    [
        pa.field("account", pa.string(), nullable=False),
        pa.field("user", pa.string(), nullable=False),
        pa.field("evidence", pa.string(), nullable=False),
        pa.field("at", _INSTANT),
    ]
)
"""(:Account)-[:OF]->(:User)"""
EVIDENCE_SCHEMA: Final = pa.schema(
    [
        pa.field("account", pa.string(), nullable=False),
        pa.field("other", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("at", _INSTANT),
        pa.field("left_out", pa.string()),
    ]
)
"""What is said about who is who; `left_out` says why something is not believed, and is null where it is."""
RELATION_SCHEMA: Final = pa.schema(
    [
        pa.field("source_label", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target_label", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("properties", pa.string(), nullable=False),
    ]
)
"""Relationships of one type that are neither events nor links; `properties` is a JSON object with sorted keys."""


def check_relationship_type(name: str) -> str:
    """Return `name` if it can be a relationship type; raises SchemaError."""
    if not _TYPE.fullmatch(name):
        raise SchemaError(
            f"{name!r} is not a relationship type: write A-Z 0-9 _ beginning with a letter, such as RATED"
        )
    return name


@lru_cache(maxsize=1024)
def check_event_type(name: str) -> str:
    """Return `name` if it can be an event's relationship type; raises SchemaError."""
    if check_relationship_type(name) in STRUCTURAL_TYPES:
        raise SchemaError(f"{name} joins other nodes: an event needs a type of its own, such as RATED")
    return name


def check_label(name: str) -> str:
    """Return `name` if it can be a node label; raises SchemaError."""
    if not _LABEL.fullmatch(name):
        raise SchemaError(f"{name!r} is not a node label: write it in CamelCase, such as Category")
    return name


def node_schema(label: str) -> pa.Schema:
    """The Arrow schema of the nodes of a label."""
    core = {"Platform": PLATFORM_SCHEMA, "User": USER_SCHEMA, "Account": ACCOUNT_SCHEMA, "Item": ITEM_SCHEMA}
    return core.get(check_label(label), ENTITY_SCHEMA)
