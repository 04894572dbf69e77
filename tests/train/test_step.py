"""One step: the loss is the weighted softmax of what came next on each platform, and every parameter learns."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from models.encoder import EventBatch
from tests.networks import NUM_ITEMS, NUM_PLATFORMS, PLATFORM_OF, TINY, moved, random_encoder, random_graph
from train.data import TrainingBatch
from train.step import Objective, ObjectiveConfig


def batch_of(target, immediate=None, first=None) -> TrainingBatch:
    """One person, two events (items 4 and 9), with targets [P, 1, 2]."""
    events = EventBatch(torch.tensor([[4, 9]]), torch.tensor([[0, 1]]), torch.tensor([[0, 3]]), torch.tensor([2]))
    target = torch.tensor(target).unsqueeze(1)
    seen = torch.tensor(immediate).unsqueeze(1) if immediate else target >= 0
    first = torch.tensor(first).unsqueeze(1) if first else torch.full((NUM_PLATFORMS, 1), -1)
    return TrainingBatch(events, target, seen, first)


def loss_of(batch: TrainingBatch, config: ObjectiveConfig, encoder=None) -> torch.Tensor:
    encoder = encoder or random_encoder()
    device = encoder.bias.device
    objective = Objective(encoder, moved(random_graph(), device), config)
    return objective(batch.to(device), torch.Generator().manual_seed(0))


def cross_entropy(encoder, batch: TrainingBatch, platform: int, step: int | None, wanted: int) -> torch.Tensor:
    """Full softmax over the items of a platform, after an event or before all."""
    vectors = encoder.item_vectors(random_graph())
    y = (
        encoder.after_each_event(vectors[batch.events.item], batch.events)[0, step]
        if step is not None
        else torch.zeros(8)
    )
    scores = vectors @ encoder.queries(y, platform) + encoder.bias
    catalogue = [row for row in range(NUM_ITEMS) if PLATFORM_OF[row] == platform]
    return F.cross_entropy(scores[catalogue][None], torch.tensor([catalogue.index(wanted)]))


def test_the_loss_is_the_weighted_mean_of_full_softmaxes_when_enough_is_sampled() -> None:
    # After event 0: item 9 on platform 0 at once, item 5 on platform 2 later; first of all on platform 1: item 4.
    batch = batch_of([[9, -1], [-1, -1], [5, -1]], [[True, False], [False, False], [False, False]], [-1, 4, -1])
    encoder = random_encoder()
    with torch.no_grad():
        found = loss_of(batch, ObjectiveConfig(negatives=200_000, later_weight=0.3), encoder)
        at_once, first, later = (
            cross_entropy(encoder, batch, platform, step, wanted)
            for platform, step, wanted in ((0, 0, 9), (1, None, 4), (2, 0, 5))
        )
    assert found.item() == pytest.approx(((at_once + first + 0.3 * later) / 2.3).item(), rel=0.01)


@pytest.mark.parametrize("neighbours", [0, 2])
def test_a_batch_without_targets_costs_nothing_and_still_has_gradients(neighbours: int) -> None:
    encoder = random_encoder()
    loss = loss_of(batch_of([[-1, -1]] * 3), ObjectiveConfig(neighbours=neighbours), encoder)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("neighbours", [0, 2])
def test_every_parameter_has_a_gradient_as_data_parallel_workers_need_it(neighbours: int, device: torch.device) -> None:
    encoder = random_encoder().to(device)
    batch = batch_of([[9, -1], [-1, -1], [-1, -1]])
    loss_of(batch, ObjectiveConfig(neighbours=neighbours), encoder).backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_with_many_neighbours_the_loss_is_that_of_the_whole_graph() -> None:
    batch = batch_of([[9, -1], [-1, 7], [5, -1]], first=[-1, 4, -1])
    whole, many = (loss_of(batch, ObjectiveConfig(neighbours=count)).item() for count in (0, 20_000))
    assert many == pytest.approx(whole, rel=0.01)


def test_with_neighbours_nothing_is_learned_of_items_that_neither_the_batch_nor_its_walks_know() -> None:
    encoder = random_encoder()
    encoder.warm.fill_(1)
    config = ObjectiveConfig(negatives=1, neighbours=1)
    loss_of(batch_of([[9, -1], [-1, -1], [-1, -1]]), config, encoder).backward()
    touched = encoder.items.id.grad.abs().sum(dim=1) > 0
    # Items 4 and 9, one negative, and of each at most one neighbour along either of two relations.
    assert touched[[4, 9]].all()
    assert touched.sum() <= 9


def test_later_targets_may_count_nothing() -> None:
    config = ObjectiveConfig(negatives=50, later_weight=0.0)
    batch = batch_of([[9, -1], [4, -1], [-1, -1]], [[True, False], [False, False], [False, False]])
    alone = batch_of([[9, -1], [-1, -1], [-1, -1]])
    assert loss_of(batch, config).item() == pytest.approx(loss_of(alone, config).item())


def test_a_positive_that_was_sampled_too_is_not_its_own_negative() -> None:
    encoder = random_encoder()
    encoder.item_platform.fill_(1)
    encoder.item_platform[9] = 0
    # Item 9 is the only one of its platform: there is nothing to tell it from.
    assert loss_of(batch_of([[9, -1], [-1, -1], [-1, -1]]), ObjectiveConfig(), encoder).item() == pytest.approx(0)


def test_the_loss_falls_when_a_step_follows_its_gradient() -> None:
    encoder, batch = random_encoder(), batch_of([[9, 6], [4, -1], [-1, 8]])
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.01)
    before = loss_of(batch, ObjectiveConfig(), encoder)
    before.backward()
    optimizer.step()
    assert loss_of(batch, ObjectiveConfig(), encoder).item() < before.item()


@pytest.mark.parametrize("neighbours", [0, 2])
def test_mixed_precision_has_about_the_same_loss_and_gradients_and_learns(
    neighbours: int, device: torch.device
) -> None:
    encoder = random_encoder(config=replace(TINY, dropout=0, id_dropout=0)).train().to(device)
    objective = Objective(encoder, moved(random_graph(), device), ObjectiveConfig(neighbours=neighbours))
    batch = batch_of([[9, 6], [4, -1], [-1, 8]], first=[-1, 4, -1]).to(device)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3, fused=True)

    def loss_with(mixed: bool) -> torch.Tensor:
        encoder.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            loss: torch.Tensor = objective(batch, torch.Generator().manual_seed(0))
        loss.backward()
        return loss.detach()

    def gradients() -> torch.Tensor:
        return torch.cat([value.grad.flatten() for value in encoder.parameters()])

    single = loss_with(mixed=False)
    expected = gradients()
    before = loss_with(mixed=True)
    assert {before.dtype, *(value.grad.dtype for value in encoder.parameters())} == {torch.float32}
    assert before.item() == pytest.approx(single.item(), rel=0.01)
    assert before.item() != single.item(), "nothing was rounded"
    assert F.cosine_similarity(gradients(), expected, dim=0) > 0.99
    for _ in range(10):
        optimizer.step()
        after = loss_with(mixed=True)
    assert after < 0.9 * before


def test_the_generator_decides_the_negatives() -> None:
    batch, config = batch_of([[9, 6], [4, -1], [-1, 8]]), ObjectiveConfig(negatives=3)
    objective = Objective(random_encoder(), random_graph(), config)
    one, again, other = (objective(batch, torch.Generator().manual_seed(seed)).item() for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    "values", [{"negatives": 0}, {"later_weight": -0.1}, {"later_weight": 1.1}, {"neighbours": -1}]
)
def test_an_objective_that_cannot_be_is_refused_with_its_values(values) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values)).split('_')[0]}.* {next(iter(values.values()))}"):
        replace(ObjectiveConfig(), **values)
