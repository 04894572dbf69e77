"""Why an item is near a history, and the graph as networkx sees it."""

import pytest

from graph.keys import EntityKey, ItemKey
from graph.paths import ItemPath, paths_between, relations_of, snapshot_graph, subgraph_view
from graph.records import Entity, Event, Relation
from graph.snapshot import Snapshot
from graph.store import Store
from tests.planted import person, planted_records


def test_the_rarest_entity_explains_first(planted_snapshot: Snapshot):
    found = paths_between(
        planted_snapshot.relations, ["books:space-1", "books:space-5", "books:crime-1"], "films:space-7"
    )
    assert found == [
        ItemPath("books:space-5", "BY", "creator:Ben Space", "films:space-7", degree=12),  # 4 of each platform
        ItemPath("books:space-1", "IN_CATEGORY", "category:space", "films:space-7", degree=24),
        ItemPath("books:space-5", "IN_CATEGORY", "category:space", "films:space-7", degree=24),
    ]
    assert str(found[0]) == "books:space-5 -[BY]- creator:Ben Space - films:space-7"


def test_the_same_work_explains_straight_and_both_ways(planted_snapshot: Snapshot):
    for one, other in (("books:space-0", "films:space-0"), ("films:space-0", "books:space-0")):
        first = paths_between(planted_snapshot.relations, [one], other)[0]
        assert first == ItemPath(one, "SAME_WORK", None, other)
        assert str(first) == f"{one} -[SAME_WORK]- {other}"


def test_what_a_model_learned_is_in_the_store_and_explains_along_its_direction_only(planted_store: Store):
    planted_store.upsert_edges(
        [Relation("LEADS_TO", ItemKey("books", "space-0"), ItemKey("films", "crime-1"), {"weight": 0.5})]
    )
    relations = relations_of(planted_store)
    assert paths_between(relations, ["books:space-0"], "films:crime-1") == [
        ItemPath("books:space-0", "LEADS_TO", None, "films:crime-1")
    ]
    assert paths_between(relations, ["films:crime-1"], "books:space-0") == []


def test_store_and_snapshot_tell_the_same_paths(planted_store: Store, planted_snapshot: Snapshot):
    history = [item for platform in ("books", "films") for item in person("garden-1").walked(platform)]
    wanted = person("garden-1").wanted("films")[0]
    from_store = paths_between(relations_of(planted_store), history, wanted)
    assert from_store == paths_between(relations_of(planted_snapshot), history, wanted)
    assert len({path.source for path in from_store}) == len(history)


def test_two_relations_through_one_entity_are_two_paths(planted_store: Store):
    herb = EntityKey("tag", "herbs")
    one, other = ItemKey("books", "garden-1"), ItemKey("films", "crime-1")
    planted_store.upsert_nodes([Entity(herb, "herbs")])
    planted_store.upsert_edges(
        [Relation("TAGGED", one, herb), Relation("ABOUT", one, herb), Relation("TAGGED", other, herb)]
    )
    assert paths_between(relations_of(planted_store), [one], other) == [
        ItemPath(one, "ABOUT", herb, other, degree=2),
        ItemPath(one, "TAGGED", herb, other, degree=2),
    ]


@pytest.mark.parametrize("history", [[], ["films:space-7"], ["films:not-there"], ["books:crime-1"]])
def test_without_anything_in_common_there_is_no_path(planted_snapshot: Snapshot, history: list[str]):
    assert paths_between(planted_snapshot.relations, history, "films:space-7") == []


def test_the_view_of_a_snapshot_has_every_node_and_edge(planted_snapshot: Snapshot):
    graph = snapshot_graph(planted_snapshot)
    counts = planted_snapshot.counts
    assert graph.number_of_nodes() == sum(counts.nodes.values())
    assert graph.number_of_edges() == sum(counts.edges.values())
    assert graph.nodes["books:garden-2"] == {"label": "Item", "title": "Überraschung im Garten 花园"}
    assert graph.nodes["category:space"] == {"label": "Category", "title": "space"}
    assert graph.nodes["user:space-0"] == {"label": "User", "title": "user:space-0"}
    one = person("space-0")
    between = graph.get_edge_data(one.account("books"), one.walked("books")[0])
    assert sorted(edge["type"] for edge in between.values()) == ["PURCHASED", "VIEWED"]
    same = graph.get_edge_data("books:space-0", "films:space-0")
    assert list(same.values()) == [{"type": "SAME_WORK", "properties": {"score": 1.0, "evidence": "title"}}]


def test_the_view_of_a_neighbourhood_has_the_form_of_the_whole(planted_store: Store, planted_snapshot: Snapshot):
    one = person("crime-1")
    view = subgraph_view(planted_store.neighbourhood(one.user, hops=2, limit=1000))
    whole = snapshot_graph(planted_snapshot)
    events = [edge for edge in planted_records().edges if isinstance(edge, Event) and edge.account.digest == one.name]
    types = [data["type"] for _, _, data in view.edges(data=True)]
    assert sum(type == "OF" for type in types) == len(one.platforms)
    assert sum(type not in {"OF", "SAME_WORK", "ON"} for type in types) == len(events)
    for node, data in view.nodes(data=True):
        assert data == whole.nodes[node]
    for source, target, key, data in view.edges(keys=True, data=True):
        if data["type"] not in {"ON"}:
            assert data["type"] in {edge["type"] for edge in whole.get_edge_data(source, target).values()}
        if isinstance(key, str):
            assert data == whole.get_edge_data(source, target, key)
