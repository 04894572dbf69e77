"""The flagship scores as its formula says, alike however it is asked, and finds what was planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graph.snapshot import Snapshot
from models.baselines.popularity import Popularity
from models.bundle import Bundle
from models.encoder import EventBatch
from models.flagship import Flagship, relation_names, wanted
from models.leads_to import LeadsTo
from models.retrieval import top_k
from tests.networks import (
    NUM_ITEMS,
    NUM_PLATFORMS,
    PLATFORM_OF,
    TINY,
    histories,
    random_encoder,
    random_flagship,
    random_graph,
    random_histories,
)
from tests.planted import PLATFORMS, people, taste_of


def test_a_score_is_query_times_vector_plus_bias_plus_the_sparse_part() -> None:
    flagship, encoder = random_flagship(), random_encoder()
    history = wanted(random_histories([6]))
    batch = EventBatch.from_histories(history, TINY.max_history)
    with torch.no_grad():
        vectors = encoder.item_vectors(random_graph())
        y = encoder.after_each_event(vectors[batch.item], batch)[0, batch.length[0] - 1]
        dense = [encoder.queries(y, PLATFORM_OF[i]) @ vectors[i] + encoder.bias[i] for i in range(NUM_ITEMS)]
    expected = np.array([float(score) for score in dense]) + flagship.leads_to.score(history)[0]
    assert flagship.score(history)[0] == pytest.approx(expected, abs=1e-4)


def test_one_persons_scores_do_not_depend_on_the_others() -> None:
    flagship = random_flagship()
    lengths = [0, 9, 1, 4]
    together = flagship.score(random_histories(lengths))
    whole = random_histories(lengths)
    for number in range(len(lengths)):
        events = slice(whole.offsets[number], whole.offsets[number + 1])
        alone = replace(
            whole,
            offsets=np.array([0, lengths[number]]),
            **{name: getattr(whole, name)[events] for name in ("item", "type", "at", "weight")},
        )
        assert flagship.score(alone)[0] == pytest.approx(together[number], abs=1e-4)


def test_somebody_without_events_or_with_dislikes_alone_is_scored_by_the_prior() -> None:
    flagship = random_flagship()
    prior = flagship.prior.numpy()[PLATFORM_OF]
    expected = (prior * flagship.vectors).sum(axis=1) + flagship.bias
    nobody, hater = flagship.score(histories([], [(3, 0, 0, -1.0)]))
    assert nobody == pytest.approx(expected, abs=1e-5)
    assert hater == pytest.approx(expected, abs=1e-5)


def test_a_dislike_is_no_wish_to_the_dense_part() -> None:
    flagship = replace(random_flagship(), leads_to=LeadsTo.empty(NUM_ITEMS))
    liked = [(1, 0, 0, 1.0), (2, 1, 3, 1.0)]
    with_dislike = [liked[0], (9, 2, 1, -1.0), liked[1]]
    one, other = flagship.score(histories(liked, with_dislike))
    assert one == pytest.approx(other, abs=1e-5)


def test_what_events_put_into_a_query_adds_up_to_it() -> None:
    flagship = random_flagship()
    history = random_histories([20])
    parts, places = flagship.event_queries(history)
    assert parts.shape == (TINY.max_history, NUM_PLATFORMS, TINY.dim)
    assert places.tolist() == np.flatnonzero(history.weight > 0)[-TINY.max_history :].tolist()
    assert parts.sum(axis=0) + flagship.prior.numpy() == pytest.approx(flagship.queries(history)[0], abs=1e-4)


def test_the_parts_of_event_queries_are_asked_for_one_person_at_a_time() -> None:
    with pytest.raises(ValueError, match="history of one person, got 2"):
        random_flagship().event_queries(histories([], []))


def test_a_flagship_is_a_copy_that_training_on_does_not_change() -> None:
    encoder = random_encoder()
    flagship = Flagship.from_encoder(encoder, random_graph(), LeadsTo.empty(NUM_ITEMS))
    before = flagship.score(random_histories([5, 0]))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    assert (flagship.score(random_histories([5, 0])) == before).all()


def test_its_relations_begin_with_the_items_own() -> None:
    assert relation_names(random_flagship()) == ("own", "NEXT", "IN_CATEGORY")


@pytest.fixture(scope="module")
def planted(planted_snapshot: Snapshot, planted_bundle: Path):
    return planted_snapshot.interactions(), Bundle.open(planted_bundle).flagship


def best(scorer, events, who: str, platform: str, k: int) -> list[str]:
    """The k best items of a platform for somebody, without what they did."""
    history = events.histories(events.users.rows([who]))
    allowed = events.item_platform == events.platforms.index(platform)
    allowed[history.item] = False
    return [events.items.keys[row] for row in top_k(scorer.score(history), k, allowed)[0][0]]


def test_the_planted_next_item_is_found_where_popularity_does_not(planted) -> None:
    events, flagship = planted
    known = [(each, platform) for each in people() if "newcomer" not in each.name for platform in each.platforms]

    def share(scorer) -> float:
        found = [best(scorer, events, str(each.user), on, 1)[0] == str(each.wanted(on)[0]) for each, on in known]
        return float(np.mean(found))

    assert share(flagship) > 0.75
    assert share(Popularity.fit(events)) < 0.25


def test_newcomers_are_offered_their_taste_on_platforms_where_they_did_nothing(planted) -> None:
    events, flagship = planted
    newcomers = [each for each in people() if "newcomer" in each.name]
    shares = [
        np.mean([taste_of(key) == each.taste for key in best(flagship, events, str(each.user), platform, 5)])
        for each in newcomers
        for platform in PLATFORMS[1:]
    ]
    assert np.mean(shares) > 0.8
