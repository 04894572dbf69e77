"""Explanations are exact: base and paths add up to the score of every item for every person."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from graph.snapshot import Snapshot
from models.bundle import Bundle
from models.explain import LEADS_TO, SIMILAR, explain
from models.ranker import Ranker
from tests.networks import NUM_ITEMS, histories, random_flagship, random_histories
from tests.planted import people

EVERYTHING = np.arange(NUM_ITEMS)


@pytest.mark.parametrize("length", [0, 1, 4, 25])
def test_base_and_paths_add_up_to_the_score_of_every_item(length: int) -> None:
    flagship, history = random_flagship(), random_histories([length], seed=length)
    scores = flagship.score(history)[0]
    for row, explanation in enumerate(explain(flagship, history, EVERYTHING)):
        assert explanation.score == pytest.approx(scores[row], abs=1e-4)
        assert explanation.others == 0


def test_on_the_trained_planted_bundle_they_add_up_for_everybody_and_agree_with_the_ranker(
    planted_snapshot: Snapshot, planted_bundle: Path
) -> None:
    events, bundle = planted_snapshot.interactions(), Bundle.open(planted_bundle)
    ranker, everything = Ranker(bundle), np.arange(len(events.items))
    assert bundle.flagship.leads_to.scale > 0
    for each in people():
        history = events.histories(events.users.rows([str(each.user)]))
        explained = [explanation.score for explanation in ranker.explain(history, everything)]
        assert explained == pytest.approx(bundle.flagship.score(history)[0], abs=1e-4)
        ranked = ranker.rank(history, exclude=np.zeros(0, np.int64), k=len(everything))
        assert ranked.scores == pytest.approx(np.array(explained)[ranked.rows], abs=1e-4)


def test_paths_name_events_by_their_place_in_the_whole_history_and_never_a_dislike() -> None:
    history = histories([(4, 0, 0, 1.0), (5, 0, 1, -1.0), (6, 1, 2, 1.0)])
    explanation = explain(random_flagship(), history, np.array([7]))[0]
    assert {path.event for path in explanation.paths} == {0, 2}
    assert {path.relation for path in explanation.paths} <= {SIMILAR, LEADS_TO, "NEXT", "IN_CATEGORY"}


def test_a_repeated_item_leads_to_others_by_its_newest_event() -> None:
    flagship = random_flagship()
    target = np.array([int(flagship.leads_to.weights.indices[flagship.leads_to.weights.indptr[4]])])
    history = histories([(4, 0, 0, 1.0), (4, 0, 5, 1.0), (6, 1, 9, 1.0)])
    leading = [path for path in explain(flagship, history, target)[0].paths if path.relation == LEADS_TO]
    assert 1 in {path.event for path in leading}
    assert 0 not in {path.event for path in leading}
    weight = flagship.leads_to.weights.toarray()[4, target[0]]
    contribution = next(path.contribution for path in leading if path.event == 1)
    assert contribution == pytest.approx(1.7 * 0.8 * weight, abs=1e-5)


def test_paths_come_largest_first_and_those_left_out_are_told_as_a_sum() -> None:
    flagship, history = random_flagship(), random_histories([12])
    whole, short = (explain(flagship, history, EVERYTHING, most=most) for most in (None, 3))
    for row, (all_paths, few) in enumerate(zip(whole, short, strict=True)):
        values = [path.contribution for path in all_paths.paths]
        assert values == sorted(values, reverse=True)
        assert len(few.paths) == 3
        assert {abs(path.contribution) for path in few.paths} == set(sorted(map(abs, values))[-3:])
        assert few.score == pytest.approx(flagship.score(history)[0, row], abs=1e-4)


def test_what_events_put_in_is_what_taking_them_away_takes_from_the_sparse_part() -> None:
    """The dense part weighs events against each other; the sparse part is linear, so leaving one out is exact."""
    flagship = replace(random_flagship(), leads_to=random_flagship().leads_to.with_query(1.0, 2.0))
    steps = [(4, 0, 0, 1.0), (9, 0, 1, 1.0), (6, 1, 2, 1.0)]
    whole = flagship.leads_to.score(histories(steps))[0]
    without = flagship.leads_to.score(histories([steps[0], steps[2]]))[0]
    for row, explanation in enumerate(explain(flagship, histories(steps), EVERYTHING)):
        told = sum(path.contribution for path in explanation.paths if (path.event, path.relation) == (1, LEADS_TO))
        assert told == pytest.approx(whole[row] - without[row], abs=1e-5)


def test_via_is_the_rarest_entity_that_both_items_share() -> None:
    # Rarest first: entity 0 is on item 4, entity 1 on 1 and 2, entity 2 on 1, 2 and 3.
    incidence = csr_matrix(([1] * 6, ([1, 2, 3, 1, 2, 4], [2, 2, 2, 1, 1, 0])), shape=(NUM_ITEMS, 3))
    knowledge = {"IN_CATEGORY": (incidence, ["category:other", "category:narrow", "category:wide"])}
    history = histories([(1, 0, 0, 1.0)])
    flagship = random_flagship()
    flagship = replace(flagship, parts={**flagship.parts, "IN_CATEGORY": flagship.parts["own"]})
    narrow, wide, none = explain(flagship, history, np.array([2, 3, 4]), knowledge)

    def via(explanation, relation: str):
        return next((path.via for path in explanation.paths if path.relation == relation), None)

    assert via(narrow, "IN_CATEGORY") == "category:narrow"
    assert via(wide, "IN_CATEGORY") == "category:wide"
    assert via(none, "IN_CATEGORY") is None
    assert via(narrow, SIMILAR) is None
