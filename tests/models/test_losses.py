"""The sampled softmax: worked by hand, right in expectation, and careful about shapes."""

import math

import pytest
import torch

from models.losses import sampled_softmax_loss


def test_sampled_softmax_is_as_worked_by_hand() -> None:
    # Scores as logarithms: the positive counts 6, the two negatives 1 and 3, each standing for 10 / 2 items.
    positive, negative = torch.tensor([math.log(6)]), torch.tensor([[math.log(1), math.log(3)]])
    expected = -math.log(6 / (6 + 5 * (1 + 3)))
    assert sampled_softmax_loss(positive, negative, 10).item() == pytest.approx(expected)


def test_a_negative_of_minus_infinity_is_left_out() -> None:
    positive, negative = torch.tensor([0.0]), torch.tensor([[0.0, -torch.inf]])
    assert sampled_softmax_loss(positive, negative, 2).item() == pytest.approx(math.log(2))


def test_a_line_whose_negatives_are_all_left_out_costs_nothing_and_has_no_nan_gradient() -> None:
    positive = torch.tensor([1.0, 0.0], requires_grad=True)
    negative = torch.tensor([[-torch.inf, -torch.inf], [0.0, 0.0]])
    loss = sampled_softmax_loss(positive, negative, 2)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3) / 2)
    assert torch.isfinite(positive.grad).all()


def test_lines_count_by_their_weights() -> None:
    positive, negative = torch.tensor([0.0, 0.0]), torch.tensor([[0.0], [math.log(3)]])
    # Losses of ln 2 and ln 4, weighted 3 : 1.
    weighted = sampled_softmax_loss(positive, negative, 1, torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((3 * math.log(2) + math.log(4)) / 4)
    assert sampled_softmax_loss(positive, negative, 1).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_with_all_items_as_negatives_the_others_sum_is_that_of_full_cross_entropy() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 20)
    target = torch.arange(5)
    others = scores.scatter(1, target[:, None], -torch.inf)
    sampled = sampled_softmax_loss(scores[torch.arange(5), target], others, 20)
    torch.testing.assert_close(sampled, torch.nn.functional.cross_entropy(scores, target))


def test_sampled_negatives_sum_to_full_cross_entropy_in_expectation() -> None:
    """Of uniform samples, the corrected sum of exponentials is unbiased; so is the loss, as samples grow."""
    torch.manual_seed(0)
    scores, target = torch.randn(1, 50), torch.tensor([7])
    full = torch.nn.functional.cross_entropy(scores, target).item()
    drawn = torch.randint(50, (4000, 200))
    negative = scores[0][drawn].masked_fill(drawn == 7, -torch.inf)
    sampled = sampled_softmax_loss(scores[0, target].expand(4000), negative, 50).item()
    assert sampled == pytest.approx(full, abs=0.01)
    uncorrected = sampled_softmax_loss(scores[0, target].expand(4000), negative, 200).item()
    assert abs(uncorrected - full) > 1


def test_lines_that_do_not_belong_together_are_refused_with_their_shapes() -> None:
    with pytest.raises(ValueError, match=r"positive is \(3,\), negative \(2, 5\)"):
        sampled_softmax_loss(torch.zeros(3), torch.zeros(2, 5), 10)
