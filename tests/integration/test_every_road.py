"""Whichever road an event takes, in files of any order or over HTTP, it is in the graph once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.keys import ItemKey, Pseudonyms
from graph.records import Event
from graph.schema import DEFAULT_EVENT_WEIGHTS
from graph.store import Store, checksum, open_store
from ingest.load import ingest
from ingest.mapping import read_mapping
from serve.drain import drain
from serve.outbox import Outbox
from tests.ingest.test_load import ROWS, exports, read_exports
from tests.neo4j_server import empty

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")
CATALOGUE = "platform: shop\nitems: {file: items.csv, id: id, title: title}\n"
EVENTS = """\
events:
  file: events.csv
  id: id
  account: who
  item: item
  type: PURCHASED
  at: {column: at, format: seconds}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("id,title\n1,Tent\n2,Stove\n")
    (tmp_path / "events.csv").write_text("id,who,item,at\ne1,ann,1,10\ne2,ann,2,20\ne3,bob,1,30\n")
    (tmp_path / "items.yaml").write_text(CATALOGUE)
    (tmp_path / "shop.yaml").write_text(CATALOGUE + EVENTS)
    return tmp_path


def read(store: Store, data: Path, mapping: str) -> None:
    ingest([read_mapping(data / mapping)], store, PSEUDONYMS, data / "var", data=data)


def send(store: Store, data: Path) -> None:
    """The events as a service would send them to POST /v1/events, event_id being platform:id."""
    with Outbox(data / "outbox.db") as outbox:
        for id, who, item, at in (("e1", "ann", "1", 10), ("e3", "bob", "1", 30)):
            account, when = PSEUDONYMS.account("shop", who), datetime.fromtimestamp(at, UTC)
            weight = DEFAULT_EVENT_WEIGHTS["PURCHASED"]
            outbox.accept([Event(f"shop:{id}", "PURCHASED", account, ItemKey("shop", item), when, weight)])
        assert drain(outbox, store) == 2


def test_an_event_that_comes_over_http_and_in_an_export_is_one_event(data: Path, store: Store) -> None:
    with open_store(f"sqlite:///{data / 'export.db'}") as alone:
        read(alone, data, "shop.yaml")
        expected = checksum(alone)
    read(store, data, "items.yaml")
    send(store, data)
    assert store.counts().edges["PURCHASED"] == 2
    read(store, data, "shop.yaml")
    assert checksum(store) == expected
    (data / "outbox.db").unlink()
    send(store, data)
    assert checksum(store) == expected


@settings(max_examples=3)
@given(exports=exports(), together=st.booleans())
def test_overlapping_exports_in_any_order_are_the_same_graph_in_neo4j(
    neo4j_uri: str, tmp_path_factory: pytest.TempPathFactory, exports: list[dict[str, list[str]]], together: bool
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with open_store(f"sqlite:///{folder / 'whole.db'}") as whole:
        read_exports(whole, folder / "whole", [[ROWS]])
        expected = checksum(whole)
    empty(neo4j_uri)
    with open_store(neo4j_uri) as store:
        read_exports(store, folder / "parts", [exports] if together else [[export] for export in exports] * 2)
        assert checksum(store) == expected
