"""Tensors of what a model may see, and of nothing else."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.nn import HeteroConv, SAGEConv

from graph.errors import SnapshotError
from graph.hetero import entity_vocabularies, hetero_data
from graph.snapshot import Snapshot
from graph.split import leave_one_out, temporal
from graph.vocabulary import Vocabulary
from tests.planted import PLATFORMS, TASTES, person


def pairs(data: Any, edge_type: tuple[str, str, str]) -> set[tuple[str, str]]:
    """The keys that an edge type joins."""
    source, target = (data[name].vocabulary.keys for name in (edge_type[0], edge_type[2]))
    return {(source[s], target[t]) for s, t in data[edge_type].edge_index.T.tolist()}


def test_nodes_follow_the_vocabularies_and_edges_join_the_keys_of_the_store(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    data = hetero_data(planted_snapshot, interactions)
    assert data.validate()
    assert {name: data[name].num_nodes for name in data.node_types} == {
        "user": 40,
        "item": 72,
        "Category": 3,
        "Creator": 6,
    }
    assert data["item"].vocabulary is interactions.items
    assert data["user"].vocabulary is interactions.users
    assert pairs(data, ("item", "IN_CATEGORY", "Category")) == {
        (f"{platform}:{taste}-{n}", f"category:{taste}") for platform in PLATFORMS for taste in TASTES for n in range(8)
    }
    assert pairs(data, ("item", "SAME_WORK", "item")) == {(f"books:{taste}-0", f"films:{taste}-0") for taste in TASTES}
    assert pairs(data, ("user", "FOLLOWS", "user")) == {("user:space-0", "user:crime-0")}
    assert pairs(data, ("user", "RATED", "item")) >= {
        ("user:space-0", str(film)) for film in person("space-0").walked("films")
    }


def test_every_edge_type_has_its_reverse_with_the_same_attributes(planted_snapshot: Snapshot):
    data = hetero_data(planted_snapshot, planted_snapshot.interactions())
    forward = [edge_type for edge_type in data.edge_types if not edge_type[1].startswith("rev_")]
    assert len(data.edge_types) == 2 * len(forward) == 18
    for source, relation, target in forward:
        edges, reverse = data[source, relation, target], data[target, f"rev_{relation}", source]
        assert torch.equal(reverse.edge_index, edges.edge_index.flip(0))
        for attribute in ("at", "weight"):
            assert (attribute in edges) == (attribute in reverse) == (source == "user" and target == "item")
            if attribute in edges:
                assert torch.equal(edges[attribute], reverse[attribute])


def test_events_carry_their_instant_and_weight(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    data = hetero_data(planted_snapshot, interactions)
    disliked = data["user", "DISLIKED", "item"]
    assert disliked.weight.tolist() == [-1.0] * 36
    assert disliked.at.dtype == torch.int64
    expected = interactions.where(interactions.type == interactions.event_types.index("DISLIKED"))
    assert disliked.at.tolist() == expected.at.tolist()


def test_only_the_events_that_are_handed_in_are_there(planted_snapshot: Snapshot):
    split = leave_one_out(planted_snapshot.interactions())
    data = hetero_data(planted_snapshot, split.train)
    held_out = {
        (part.event_types[type], part.users.keys[user], part.items.keys[item])
        for part in (split.validation, split.test)
        for type, user, item in zip(part.type, part.user, part.item, strict=True)
    }
    events = [edge_type for edge_type in data.edge_types if edge_type[0] == "user" and edge_type[2] == "item"]
    seen = {(edge_type[1], *pair) for edge_type in events for pair in pairs(data, edge_type)}
    assert held_out
    assert not held_out & seen
    assert sum(data[edge_type].num_edges for edge_type in events) == len(split.train)


def test_all_parts_of_a_split_have_the_same_node_and_edge_types(planted_snapshot: Snapshot):
    whole = planted_snapshot.interactions()
    split = temporal(whole, datetime(2024, 1, 10, tzinfo=UTC), datetime(2024, 1, 21, tzinfo=UTC))
    assert "RATED" not in {split.test.event_types[type] for type in split.test.type}
    metadata = [hetero_data(planted_snapshot, part).metadata() for part in (whole, split.train, split.test)]
    assert metadata[0] == metadata[1] == metadata[2]


def test_vectors_become_x_and_the_missing_ones_are_masked(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    items, categories = np.random.default_rng(0).random((72, 4), np.float32), np.ones((3, 4), np.float32)
    present = np.arange(72) != 5
    data = hetero_data(
        planted_snapshot, interactions, {"Item": (items, present), "Category": (categories, np.ones(3, np.bool_))}
    )
    assert torch.equal(data["item"].x, torch.from_numpy(items))
    assert data["item"].x_mask.tolist() == present.tolist()
    assert data["Category"].x.shape == (3, 4)
    assert "x" not in data["Creator"]


def test_vectors_that_do_not_fit_are_refused(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    vectors = np.zeros((71, 4), np.float32), np.ones(71, np.bool_)
    with pytest.raises(SnapshotError, match="71 vectors and a mask of 71 were given for 72 Item nodes"):
        hetero_data(planted_snapshot, interactions, {"Item": vectors})
    with pytest.raises(SnapshotError, match="has no Studio to give vectors to"):
        hetero_data(planted_snapshot, interactions, {"Studio": vectors})


def test_interactions_of_another_snapshot_are_refused(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    other = replace(interactions, items=Vocabulary([*interactions.items.keys[:-1], "films:other"]))
    with pytest.raises(SnapshotError, match="72 items that are not those of"):
        hetero_data(planted_snapshot, other)


def test_followers_without_events_have_no_row_and_their_edges_are_left_out(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions(["RATED"])  # crime-0 and space-0 are there, on films
    with_both = hetero_data(planted_snapshot, interactions)
    assert with_both["user", "FOLLOWS", "user"].num_edges == 1
    others = replace(interactions, users=Vocabulary(f"user:nobody-{n}" for n in range(len(interactions.users))))
    with_neither = hetero_data(planted_snapshot, others)
    assert with_neither["user", "FOLLOWS", "user"].num_edges == 0


def test_entity_vocabularies_are_sorted_by_key(planted_snapshot: Snapshot):
    vocabularies = entity_vocabularies(planted_snapshot)
    assert vocabularies["Category"].keys == ("category:crime", "category:garden", "category:space")
    assert sorted(vocabularies) == ["Category", "Creator"]


def test_a_graph_network_runs_over_it(planted_snapshot: Snapshot):
    data = hetero_data(planted_snapshot, planted_snapshot.interactions())
    for name in data.node_types:
        data[name].x = torch.ones(data[name].num_nodes, 4)
    network = HeteroConv({edge_type: SAGEConv((-1, -1), 8) for edge_type in data.edge_types})
    out = network(data.x_dict, data.edge_index_dict)
    assert {name: tuple(values.shape) for name, values in out.items()} == {
        "user": (40, 8),
        "item": (72, 8),
        "Category": (3, 8),
        "Creator": (6, 8),
    }
