"""Figures of the planted graph, counted by hand."""

import numpy as np

from graph.snapshot import Snapshot
from graph.stats import Degrees, Overlap, stats


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
