"""The network: batches of histories, time that runs one way, padding that says nothing, parts that add up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.encoder import NUM_GAPS, EncoderConfig, EventBatch, gap_buckets
from models.walks import Walks
from tests.networks import NUM_PLATFORMS, TINY, histories, moved, random_encoder, random_graph, random_histories

HOUR = 3600


def after_each_event(encoder, batch):
    with torch.no_grad():
        return encoder.after_each_event(encoder.item_vectors(random_graph())[batch.item], batch)


def test_gaps_are_logarithms_of_hours_and_the_first_event_of_each_person_has_none() -> None:
    hours = np.array([5, 5, 6, 9, 2, 2 + 10**6])
    first = np.array([0, 0, 0, 0, 4, 4])
    # Hours since the event before: none, 0, 1, 3, none (another person), a million.
    assert gap_buckets(hours * HOUR, first).tolist() == [0, 0, 1, 2, 0, NUM_GAPS - 1]


def test_a_batch_holds_the_newest_events_of_each_person_padded_at_the_end() -> None:
    people = histories([(1, 0, 0, 1), (2, 1, 1, 1), (3, 2, 4, 1)], [], [(4, 3, 0, 1)])
    batch = EventBatch.from_histories(people, max_history=2)
    assert batch.item.tolist() == [[2, 3], [0, 0], [4, 0]]
    assert batch.event_type.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert batch.length.tolist() == [2, 0, 1]
    # One hour, three hours: the gap to an event that is no longer in the window is known all the same.
    assert batch.gap.tolist() == [[1, 2], [0, 0], [0, 0]]


def test_a_batch_of_people_without_events_is_one_step_of_padding() -> None:
    batch = EventBatch.from_histories(histories([], []), max_history=5)
    assert batch.item.shape == (2, 1)
    assert batch.length.tolist() == [0, 0]


@pytest.mark.parametrize("changed", ["item", "event_type", "gap"])
def test_a_later_event_does_not_change_what_was_known_before_it(changed: str) -> None:
    encoder = random_encoder()
    batch = EventBatch.from_histories(random_histories([6, 6]), 6)
    before = after_each_event(encoder, batch)
    other = getattr(batch, changed).clone()
    other[:, 3] = (other[:, 3] + 1) % 3
    after = after_each_event(encoder, replace(batch, **{changed: other}))
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert (after[:, 3:] - before[:, 3:]).abs().amax(dim=-1).min() > 1e-4


def test_padding_and_the_others_in_a_batch_change_nothing() -> None:
    encoder = random_encoder()
    together = random_histories([2, 6, 4])
    batch = EventBatch.from_histories(together, 6)
    y = after_each_event(encoder, batch)
    for person, length in enumerate(batch.length.tolist()):
        alone = replace(
            batch,
            **{name: getattr(batch, name)[person : person + 1, :length] for name in ("item", "event_type", "gap")},
        )
        torch.testing.assert_close(after_each_event(encoder, alone)[0], y[person, :length])


def test_order_and_time_change_an_answer_unless_they_are_said_to_mean_nothing() -> None:
    steps = [(1, 0, 0, 1.0), (2, 1, 1, 1.0), (3, 2, 400, 1.0)]
    hurried = [(item, type, hour / 1000, weight) for item, type, hour, weight in steps]
    slow, fast = (EventBatch.from_histories(histories(person), 6) for person in (steps, hurried))
    timed, timeless = random_encoder(), random_encoder(config=replace(TINY, ordered=False))
    assert not torch.allclose(after_each_event(timed, slow), after_each_event(timed, fast))
    torch.testing.assert_close(after_each_event(timeless, slow), after_each_event(timeless, fast))


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_parts_of_events_sum_to_what_is_known_after_the_last_one(blocks: int) -> None:
    encoder = random_encoder(config=replace(TINY, blocks=blocks))
    batch = EventBatch.from_histories(random_histories([6, 1, 3, 0]), 6)
    with torch.no_grad():
        vectors = encoder.item_vectors(random_graph())
        y = encoder.after_each_event(vectors[batch.item], batch)
        parts = encoder.history.parts(vectors[batch.item], batch, encoder.item_platform[batch.item])
    for person, length in enumerate([6, 1, 3]):
        torch.testing.assert_close(parts[person].sum(dim=0), y[person, length - 1], rtol=1e-4, atol=1e-5)
        assert not parts[person, length:].any()
    assert not parts[3].any()


def test_the_parts_of_items_sum_to_their_vectors() -> None:
    encoder = random_encoder()
    with torch.no_grad():
        parts = encoder.items.parts(encoder.text, encoder.warm, random_graph())
        torch.testing.assert_close(sum(parts.values()), encoder.item_vectors(random_graph()))
    assert list(parts) == ["own", "NEXT", "IN_CATEGORY"]


def test_an_item_that_is_not_warm_is_known_by_its_text_alone() -> None:
    encoder = random_encoder()
    cold = encoder.warm == 0
    with torch.no_grad():
        before = encoder.items.parts(encoder.text, encoder.warm, random_graph())["own"]
        encoder.items.id.add_(5)
        after = encoder.items.parts(encoder.text, encoder.warm, random_graph())["own"]
    # Its neighbours' id vectors may change how long its own part is, not where it points.
    torch.testing.assert_close(F.normalize(after[cold], dim=-1), F.normalize(before[cold], dim=-1))
    assert (F.normalize(after[~cold], dim=-1) - F.normalize(before[~cold], dim=-1)).norm(dim=-1).min() > 0.1


def test_all_item_vectors_are_of_one_length_but_those_of_which_nothing_is_known() -> None:
    encoder = random_encoder()
    encoder.text.mul_(1000)
    encoder.text[3] = encoder.warm[3] = 0
    with torch.no_grad():
        encoder.items.relation_weight.zero_()
        lengths = encoder.item_vectors(random_graph()).norm(dim=-1)
    known = torch.arange(len(lengths)) != 3
    torch.testing.assert_close(lengths[known], encoder.items.length.detach().expand(len(lengths) - 1))
    assert lengths[3] == 0


def test_an_item_of_which_nothing_is_known_yet_does_not_drown_the_others_gradients() -> None:
    encoder = random_encoder()
    encoder.text[3] = encoder.warm[3] = 0
    with torch.no_grad():
        encoder.items.relation_weight.zero_()
    encoder.item_vectors(random_graph())[3].sum().backward()
    assert 0 < encoder.items.relation_weight.grad.abs().max() < 1000


def test_in_training_ids_are_hidden_at_their_rate_and_never_afterwards() -> None:
    encoder = random_encoder(config=replace(TINY, id_dropout=0.4))
    encoder.warm.fill_(1)
    with torch.no_grad():
        encoder.items.id.fill_(100)
        text = encoder.items.text(encoder.text)
        encoder.train()
        shown = torch.stack([encoder.items._own(encoder.text, encoder.warm) - text for _ in range(200)]) > 50
        encoder.eval()
        assert (encoder.items._own(encoder.text, encoder.warm) - text > 50).all()
    assert shown.float().mean().item() == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("training", [False, True])
def test_vectors_of_some_items_from_many_walks_are_those_of_the_whole_graph_and_so_are_their_gradients(
    training: bool, device: torch.device
) -> None:
    encoder, graph = random_encoder().train(training).to(device), moved(random_graph(), device)
    walks = Walks([graph[name] for name in encoder.items.relations], 20_000)
    rows = torch.tensor([3, 17, 4], device=device)
    found = []
    for vectors in (
        lambda: encoder.item_vectors(graph)[rows],
        lambda: encoder.sampled_vectors(rows, encoder.texts(graph), walks, torch.Generator().manual_seed(0)),
    ):
        torch.manual_seed(5)  # in training the same ids are hidden, wherever they are looked at
        encoder.zero_grad()
        z = vectors()
        (z * torch.arange(z.numel(), device=device).view_as(z)).sum().backward()
        gradients = [value.grad for value in encoder.items.parameters()]
        found.append([z.detach(), *gradients])
    for whole, sampled in zip(*found, strict=True):
        torch.testing.assert_close(sampled, whole, rtol=0, atol=0.03 * whole.abs().max().item())


def test_a_query_is_y_through_the_platforms_adapter_and_its_prior() -> None:
    encoder = random_encoder()
    y = torch.randn(4, TINY.dim)
    with torch.no_grad():
        for platform in range(NUM_PLATFORMS):
            expected = y @ (torch.eye(TINY.dim) + encoder.adapter[platform]) + encoder.prior[platform]
            torch.testing.assert_close(encoder.queries(y, platform), expected)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"dim": 10, "heads": 4}, "dim is 10 and heads 4"),
        ({"heads": 0}, "heads 0"),
        ({"blocks": 0}, "blocks is 0"),
        ({"max_history": 0}, "max_history 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"id_dropout": -0.1}, "id_dropout -0.1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_its_values(values, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        EncoderConfig(**values)
