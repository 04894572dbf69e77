"""Figures of the planted graph, counted by hand."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from graph.keys import AccountKey, ItemKey
from graph.records import Account, Event, Item
from graph.snapshot import Snapshot
from graph.stats import Degrees, Overlap, stats, store_stats
from graph.store import Store, open_store


def test_the_figures_of_the_planted_graph(planted_snapshot: Snapshot):
    found = stats(planted_snapshot.interactions())
    # 9 people of each taste-and-platforms pattern of 12: three on all, three on each pair; and newcomers and the stray
    assert (found.people, found.items) == (40, 72)
    # 36 x (5 steps and a view) on each of their platforms: 3 tastes x (3 x 3 + 9 x 2) = 81 accounts x 6 = 486,
    # a dislike each: 36; newcomers 3 x (2 + a view) = 9; the stray 3
    assert found.events == 486 + 36 + 9 + 3
    assert dict(found.event_types) == {"DISLIKED": 36, "PLAYED": 138, "PURCHASED": 141, "RATED": 135, "VIEWED": 84}
    # on films: 3 tastes x 9 people; 3 x 1 cold items of 24
    films = found.platforms[1]
    assert (films.platform, films.items, films.people, films.cold_items) == ("films", 24, 27, 3)
    assert films.cold_share == 3 / 24


def test_platforms_overlap_by_the_people_on_both(planted_snapshot: Snapshot):
    overlaps = stats(planted_snapshot.interactions()).overlaps
    # of every 12: 3 on all and 3 on each pair, so 6 on any two; the smaller of each pair has 27, 28 or 27 people
    assert overlaps == (
        Overlap("books", "films", 18, 18 / 27),
        Overlap("books", "music", 18, 18 / 28),
        Overlap("films", "music", 18, 18 / 27),
    )


def test_degrees_are_of_those_with_an_event(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    some = np.zeros(len(interactions), np.bool_)
    stray = interactions.users.row("user:stray")
    newcomer = interactions.users.row("user:space-newcomer")
    some[(interactions.user == stray) | (interactions.user == newcomer)] = True
    some[np.flatnonzero(interactions.user == stray)[:2]] = False
    # the stray keeps 1 event, the newcomer has 3
    assert stats(interactions.where(some)).per_person == Degrees(mean=2.0, median=2.0, highest=3)


def test_without_events_every_figure_is_nothing(planted_snapshot: Snapshot):
    found = stats(planted_snapshot.interactions([]))
    assert (found.people, found.events, found.event_types) == (0, 0, ())
    assert found.per_person == Degrees(0.0, 0.0, 0)
    assert [each.cold_share for each in found.platforms] == [1.0, 1.0, 1.0]
    assert [each.people for each in found.overlaps] == [0, 0, 0]
    assert "0 people · 72 items · 0 events (none)" in str(found)


def test_printed_it_is_a_table_to_read(planted_snapshot: Snapshot):
    lines = str(stats(planted_snapshot.interactions())).splitlines()
    assert lines[0].startswith("40 people · 72 items · 534 events (DISLIKED 36, PLAYED 138")
    assert lines[3].split() == ["platform", "items", "cold", "people", "events", "events", "of", "a", "warm", "item"]
    assert lines[4].split()[:5] == ["books", "24", "12.5%", "30", "198"]
    assert lines[-1] == "films and music share 18 people, 66.7% of the smaller one's"


def test_a_store_has_the_figures_of_its_snapshot_however_its_sums_are_cut(
    planted_store: Store, planted_snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
):
    expected = stats(planted_snapshot.interactions())
    monkeypatch.setattr("graph.sqlite_store.BATCH", 100)
    for held in (1_000_000, 50, 0):
        monkeypatch.setattr("graph.stats._HELD", held)
        found = store_stats(planted_store)
        assert found.graph == expected
        assert sum(count for _, _, count in found.by_day) == expected.events
        assert found.undated == ()
        assert sum(people for _, people in found.people_of) == expected.people
        assert sum(events * people for events, people in found.people_of) == expected.events


def test_events_without_a_time_are_counted_apart_from_those_of_that_day(tmp_path: Path):
    account, item, epoch = AccountKey("shop", "ann"), ItemKey("shop", "1"), datetime(1970, 1, 1, tzinfo=UTC)
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        store.upsert_nodes([Account(account), Item(item), Item(ItemKey("video", "cold"))])
        instants = [epoch, epoch, epoch + timedelta(hours=1), epoch + timedelta(days=1, hours=23)]
        store.upsert_edges(Event(str(n), "VIEWED", account, item, at) for n, at in enumerate(instants))
        found = store_stats(store)
    assert found.undated == (("shop", 2),)
    assert found.by_day == (("shop", date(1970, 1, 1), 1), ("shop", date(1970, 1, 2), 1))
    assert found.people_of == ((4, 1),)
    assert [(each.platform, each.cold_items, each.people) for each in found.graph.platforms] == [
        ("shop", 0, 1),
        ("video", 1, 0),
    ]


def test_an_empty_store_has_nothing_to_count(tmp_path: Path):
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        found = store_stats(store)
    assert (found.graph.people, found.graph.items, found.graph.events) == (0, 0, 0)
    assert (found.graph.platforms, found.by_day, found.people_of) == ((), (), ())
