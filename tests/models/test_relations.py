"""Relations: the hops from item to item that events and knowledge make, on the planted graph and by hand."""

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from graph.hetero import hetero_data
from graph.snapshot import Snapshot
from models.propagate import path_adjacency
from models.relations import item_relations, shared_entities
from tests.planted import RING, TASTES, item_of, taste_of


def matrix(relations, name: str, num_items: int) -> np.ndarray:
    """[target, source] what one item sends to another along a relation."""
    return path_adjacency(relations[name], torch.eye(num_items)).numpy()


@pytest.fixture(scope="module")
def planted(planted_snapshot: Snapshot):
    events = planted_snapshot.interactions()
    return events, hetero_data(planted_snapshot, events)


def test_the_planted_graph_offers_its_relations_and_those_of_events(planted) -> None:
    events, graph = planted
    assert list(item_relations(graph, events)) == ["BY", "IN_CATEGORY", "NEXT", "SAME_WORK", "TOGETHER"]


def test_what_shares_an_entity_is_joined_on_every_platform_and_nothing_else_is(planted) -> None:
    events, graph = planted
    joined = matrix(item_relations(graph, events), "IN_CATEGORY", len(events.items)) > 0
    tastes = np.array([taste_of(key) for key in events.items.keys])
    assert (joined == (tastes[:, None] == tastes[None, :])).all()
    assert matrix(item_relations(graph, events), "IN_CATEGORY", len(events.items)).sum(axis=1) == pytest.approx(1)


def test_a_relation_between_items_runs_both_ways(planted) -> None:
    events, graph = planted
    same = matrix(item_relations(graph, events), "SAME_WORK", len(events.items))
    book, film = (events.items.row(str(item_of(platform, "space", 0))) for platform in ("books", "films"))
    assert same[book, film] > 0
    assert same[film, book] > 0
    assert np.count_nonzero(same) == 2 * len(TASTES)


def test_next_joins_what_one_person_did_in_a_row_and_a_dislike_joins_nothing(planted) -> None:
    events, graph = planted
    wanted = events.where(events.weight > 0)
    expected = set()
    for before, after in zip(range(len(wanted) - 1), range(1, len(wanted)), strict=True):
        if wanted.user[before] == wanted.user[after] and wanted.item[before] != wanted.item[after]:
            expected |= {(wanted.item[before], wanted.item[after]), (wanted.item[after], wanted.item[before])}
    found = matrix(item_relations(graph, events), "NEXT", len(events.items))
    assert set(zip(*np.nonzero(found), strict=True)) == expected
    cold = events.items.row(str(item_of("films", "space", RING)))
    assert not found[cold].any()


def test_together_takes_the_mean_of_people_who_take_the_mean_of_their_items(planted) -> None:
    events, graph = planted
    wanted = events.where(events.weight > 0)
    touched = np.zeros((len(events.items), len(events.users)))
    touched[wanted.item, wanted.user] = 1
    to_people = touched.T / np.maximum(touched.sum(axis=0)[:, None], 1)
    to_items = touched / np.maximum(touched.sum(axis=1)[:, None], 1)
    found = matrix(item_relations(graph, events), "TOGETHER", len(events.items))
    assert found == pytest.approx(to_items @ to_people, abs=1e-6)


def test_a_part_without_events_has_only_the_knowledge(planted) -> None:
    events, graph = planted
    nothing = events.where(np.zeros(len(events), bool))
    assert list(item_relations(graph, nothing)) == ["BY", "IN_CATEGORY", "SAME_WORK"]


def test_a_model_does_not_learn_from_what_a_model_wrote_back(planted_snapshot: Snapshot) -> None:
    events = planted_snapshot.interactions()
    graph = hetero_data(planted_snapshot, events)
    for name in ("LEADS_TO", "rev_LEADS_TO"):
        graph["item", name, "item"].edge_index = torch.tensor([[0, 1], [2, 3]])
    assert "LEADS_TO" not in item_relations(graph, events)


def test_shared_entities_name_what_items_have_in_common(planted) -> None:
    events, graph = planted
    incidence, keys = shared_entities(graph)["IN_CATEGORY"]
    assert incidence.shape == (len(events.items), len(keys))
    for row, key in enumerate(events.items.keys):
        line = incidence.indices[incidence.indptr[row] : incidence.indptr[row + 1]]
        assert [keys[entity] for entity in line] == [f"category:{taste_of(key)}"]


def test_shared_entities_come_rarest_first() -> None:
    graph = HeteroData()
    graph["item"].num_nodes, graph["category"].num_nodes = 4, 3
    graph["category"].vocabulary = ["category:wide", "category:one", "category:two"]
    graph["item", "IN_CATEGORY", "category"].edge_index = torch.tensor([[0, 1, 2, 3, 3, 0], [0, 0, 0, 1, 2, 2]])
    incidence, keys = shared_entities(graph)["IN_CATEGORY"]
    assert list(keys) == ["category:one", "category:two", "category:wide"]
    assert [[keys[column] for column in row.indices] for row in incidence] == [
        ["category:two", "category:wide"],
        ["category:wide"],
        ["category:wide"],
        ["category:one", "category:two"],
    ]
