"""Negatives are candidates, drawn alike and again alike from the same generator."""

import torch

from models.negatives import uniform_negatives


def test_negatives_are_candidates_and_each_is_drawn_about_as_often() -> None:
    candidates = torch.tensor([3, 5, 8, 13])
    drawn = uniform_negatives(candidates, 8000, torch.Generator().manual_seed(0))
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == candidates.tolist()
    assert ((counts - 2000).abs() < 200).all()


def test_the_generator_decides() -> None:
    candidates = torch.arange(100)
    first, again, other = (uniform_negatives(candidates, 20, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_there_may_be_more_negatives_than_candidates() -> None:
    assert uniform_negatives(torch.tensor([4]), 3, torch.Generator()).tolist() == [4, 4, 4]
