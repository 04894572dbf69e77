"""Walks estimate what relations bring: right on average, exact where neighbours are few, each by its share."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.propagate import Adjacency, path_adjacency, symmetric_normalised
from models.walks import Walks

NUM_ITEMS = 12
ROWS = torch.arange(NUM_ITEMS)
CPU = torch.device("cpu")


def adjacency(targets: int, sources: int, seed: int) -> Adjacency:
    """Unequal weights, rows of unequal sums, some of them empty."""
    random = np.random.default_rng(seed)
    return Adjacency.from_scipy(sp.random(targets, sources, 0.3, random_state=random, format="csr", dtype=np.float32))


def exactly(hops: list[Adjacency]) -> torch.Tensor:
    """[N, N] what a relation brings from every item to every item."""
    return path_adjacency(hops, torch.eye(NUM_ITEMS))


def drawn(
    relations: list[list[Adjacency]], count: int, times: int = 1, seed: int = 0, device: torch.device = CPU
) -> torch.Tensor:
    """[R, N, N] the same, as the mean over so many draws of walks on a device has it."""
    generator = torch.Generator().manual_seed(seed)
    walks = Walks([[hop.to(device) for hop in hops] for hops in relations], count)
    ends, weights = (part.cpu() for part in walks(ROWS.repeat(times).to(device), generator))
    found = torch.zeros(len(relations), NUM_ITEMS, NUM_ITEMS)
    for number in range(len(relations)):
        lines = ROWS.repeat(times).unsqueeze(1).expand(-1, count)
        found[number].index_put_((lines, ends[:, number]), weights[:, number] / times, accumulate=True)
    return found


def test_on_average_walks_bring_what_the_whole_relation_brings(device: torch.device) -> None:
    direct = [adjacency(NUM_ITEMS, NUM_ITEMS, seed=1)]
    through = [adjacency(5, NUM_ITEMS, seed=2), adjacency(NUM_ITEMS, 5, seed=3)]
    expected = torch.stack([exactly(direct), exactly(through)])
    assert (expected.sum(dim=-1) == 0).any(), "one item should have no neighbour"
    found = drawn([direct, through], count=3, times=40_000, device=device)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("count", [1, 7])
def test_an_item_of_one_neighbour_has_exactly_what_it_brings(count: int) -> None:
    # A ring, and a way back along it: from item to entity to item.
    ring = np.roll(np.diag(np.arange(1, NUM_ITEMS + 1, dtype=np.float32)), 1, axis=1)
    hops = [Adjacency.from_scipy(sp.csr_matrix(matrix)) for matrix in (ring, ring.T)]
    torch.testing.assert_close(drawn([hops[:1], hops], count), torch.stack([exactly(hops[:1]), exactly(hops)]))


def test_equal_neighbours_that_divide_the_walks_are_all_of_them_there() -> None:
    # Everybody follows three others and is followed by three: each weighs a third.
    follows = sp.csr_matrix(sum(np.roll(np.eye(NUM_ITEMS, dtype=np.float32), shift, axis=1) for shift in (1, 2, 5)))
    hops = [Adjacency.from_scipy(symmetric_normalised(follows))]
    torch.testing.assert_close(drawn([hops], count=6)[0], exactly(hops))


@given(st.integers(1, 9), st.integers(0, 1000))
def test_a_neighbour_is_drawn_as_often_as_its_share_has_it_up_to_one(count: int, seed: int) -> None:
    hops = [adjacency(NUM_ITEMS, NUM_ITEMS, seed)]
    whole = exactly(hops)
    total = whole.sum(dim=1, keepdim=True)
    times = torch.where(total > 0, drawn([hops], count, seed=seed)[0] * count / total, 0)
    share = torch.where(total > 0, whole * count / total, 0)
    assert ((times - share).abs() < 1 + 1e-4).all()


def test_a_graph_without_relations_has_no_walks() -> None:
    ends, weights = Walks([], 5)(ROWS, torch.Generator())
    assert ends.shape == weights.shape == (NUM_ITEMS, 0, 5)


def test_the_generator_decides_the_walks() -> None:
    hops = [adjacency(5, NUM_ITEMS, seed=2), adjacency(NUM_ITEMS, 5, seed=3)]
    one, again, other = (drawn([hops], 2, seed=seed) for seed in (1, 1, 2))
    assert one.equal(again)
    assert not one.equal(other)
