"""Settings that suit the data: few people or many, an order that says something or none."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import train.regimes
from graph.keys import AccountKey, ItemKey, PlatformKey
from graph.records import Account, Event, Item, Platform
from graph.snapshot import Snapshot, write_snapshot
from graph.store import open_store
from train.loop import LoopConfig
from train.regimes import suited

ITEMS = [ItemKey("shop", str(number)) for number in range(4)]


def snapshot_of(folder: Path, days: list[int], sequences: list[int | None]) -> Snapshot:
    """Three people, each with four events at these days and of these sequence numbers."""
    accounts = [AccountKey("shop", f"somebody-{number}") for number in range(3)]
    events = [
        Event(f"{account}-{item}", "PURCHASED", account, item, datetime(2024, 1, day, tzinfo=UTC), sequence=sequence)
        for account in accounts
        for item, day, sequence in zip(ITEMS, days, sequences, strict=True)
    ]
    with open_store(f"sqlite:///{folder / 'graph.db'}") as store:
        store.ensure_schema()
        store.upsert_nodes([Platform(PlatformKey("shop")), *(Item(key) for key in ITEMS), *map(Account, accounts)])
        store.upsert_edges(events)
        return write_snapshot(store, folder / "snapshots")


@pytest.mark.parametrize(
    ("days", "sequences", "tied"),
    [
        ([1, 2, 3, 4], [None] * 4, 0),
        ([1, 1, 1, 1], [1, 2, 3, 4], 0),
        ([1, 1, 1, 1], [None] * 4, 1),
        ([1, 1, 2, 3], [None] * 4, 1 / 3),
        ([1, 1, 1, 1], [5, 5, 5, 6], 2 / 3),
    ],
)
def test_events_are_tied_where_neither_instant_nor_sequence_parts_them(
    tmp_path: Path, days: list[int], sequences: list[int | None], tied: float
) -> None:
    assert snapshot_of(tmp_path, days, sequences).tied() == pytest.approx(tied)


def test_order_counts_where_the_source_knows_it_and_the_split_keeps_it(tmp_path: Path) -> None:
    known = snapshot_of(tmp_path / "known", [1, 2, 3, 4], [None] * 4)
    unknown = snapshot_of(tmp_path / "unknown", [1, 1, 1, 1], [None] * 4)
    assert suited(known, "leave_one_out").encoder.ordered
    assert not suited(known, "random_per_user").encoder.ordered
    assert not suited(unknown, "leave_one_out").encoder.ordered


def test_few_people_get_a_smaller_network_and_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = snapshot_of(tmp_path, [1, 2, 3, 4], [None] * 4)
    few = suited(snapshot, "leave_one_out")
    monkeypatch.setattr(train.regimes, "FEW_WINDOWS", 3)
    many = suited(snapshot, "leave_one_out")
    assert many == LoopConfig()
    assert few.batch < many.batch
    assert few.encoder.dim < many.encoder.dim


def test_where_items_are_many_a_step_draws_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = snapshot_of(tmp_path, [1, 2, 3, 4], [None] * 4)
    few = suited(snapshot, "leave_one_out")
    monkeypatch.setattr(train.regimes, "MANY_ITEMS", len(ITEMS))
    many = suited(snapshot, "leave_one_out")
    assert few.objective.neighbours == 0
    assert many.objective.neighbours == train.regimes.NEIGHBOURS > 0
    assert replace(many, objective=few.objective) == few


def test_the_split_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    assert suited(snapshot_of(tmp_path, [1, 2, 3, 4], [None] * 4), "newcomers").split == "newcomers"


def test_a_graph_without_events_is_not_tied(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        store.ensure_schema()
        store.upsert_nodes([Platform(PlatformKey("shop")), Item(ITEMS[0])])
        assert write_snapshot(store, tmp_path / "snapshots").tied() == 0
