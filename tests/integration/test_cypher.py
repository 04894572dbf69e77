"""Every query of docs/cypher.md answers its question on a real Neo4j that holds the planted graph.

Of every twelve people of a taste, number n is on books, films and music where n % 4 is 0, on books and films where it
is 1, on films and music where it is 2, on books and music where it is 3; person n walks five items of the ring of
seven from item n % 7 on, and dislikes one item of the next taste on their first platform.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph.keys import ItemKey
from graph.records import Item, Relation
from graph.store import open_store
from ingest.embed import index
from models.text import TextModel
from tests.cypher import PAGE, Question, questions
from tests.neo4j_server import empty, run_cypher
from tests.planted import FIRST_EVENT, plant

Rows = Sequence[Sequence[Any]]

ASKED: Final = "flying to the moon in a space ship"
TASTES: Final = ("crime", "garden", "space")
SPACE_20: Final = FIRST_EVENT + timedelta(days=20)
"""When space-newcomer began: 2024-01-21."""

ANSWERS: Final[Mapping[int, tuple[dict[str, Any], Rows]]] = {
    # 27 people on each platform, 3 newcomers on books, the stray on music; 3 tastes of 8 items on 3 platforms, and the
    # 4 courses of a school.
    1: ({}, [["Account", 85], ["Item", 76], ["User", 40], ["Creator", 6], ["Platform", 4], ["Category", 3]]),
    # 27 x 5 steps, and of the newcomers 3 x 2, of the stray 3; a view each; a dislike on the first platform of 9 x 4.
    2: (
        {},
        [
            ["books", "PURCHASED", 141, 30],
            ["books", "VIEWED", 30, 30],
            ["books", "DISLIKED", 27, 27],
            ["films", "RATED", 135, 27],
            ["films", "VIEWED", 27, 27],
            ["films", "DISLIKED", 9, 9],
            ["music", "PLAYED", 138, 28],
            ["music", "VIEWED", 27, 27],
        ],
    ),
    # On three platforms 3 x (5 + 1) events and the dislike, on two 2 x 6 and the dislike.
    3: (
        {},
        [
            *([f"user:{taste}-{n}", 3, 19] for taste in TASTES for n in (0, 4, 8)),
            *([f"user:{taste}-{n}", 2, 13] for taste in TASTES for n in (1, 10, 11, 2, 3, 5, 6, 7, 9)),
        ],
    ),
    4: ({}, [["books", "films", 18], ["books", "music", 18], ["films", "music", 18]]),
    5: (
        {"person": "user:space-newcomer"},
        [
            [SPACE_20 - timedelta(minutes=5), "books", "VIEWED", None, "books:space-2", "Orbit of Jupiter"],
            [SPACE_20, "books", "PURCHASED", None, "books:space-2", "Orbit of Jupiter"],
            [SPACE_20, "books", "PURCHASED", None, "books:space-3", "Voyage to the red planet"],
        ],
    ),
    # Items 0 to 3 of a taste are Ada's: 4 on each of 3 platforms; the category has 8 on each.
    6: (
        {"item": "books:space-0", "other": "films:space-0"},
        [["SAME_WORK", "", 0], ["BY", "Ada Space", 12], ["IN_CATEGORY", "space", 24]],
    ),
    # Item 0 is walked from starts 0, 3, 4, 5, 6: on books by 0, 3, 4, 5, 7, 11, on films by 0, 4, 5, 6, 10 of a taste;
    # both by 0, 4, 5. Of 40 people: 3 x 40 / (6 x 5) = 4.
    7: ({"item": "books:space-0", "other": "films:space-0"}, [[3, 6, 5, 4.0]]),
    # On books and music are n % 4 in 0, 3: six of each taste, who came to music an hour or two after books.
    8: (
        {"from": "books", "to": "music"},
        [["crime", "crime", 6], ["garden", "garden", 6], ["space", "space", 6]],
    ),
    # Of the three that came last, the one of the same taste is the nearest on each platform.
    9: (
        {"item": "music:garden-3", "most": 0},
        [[f"{platform}:garden-7", "Pruning apple trees"] for platform in ("books", "films", "music")],
    ),
    10: (
        {"vector": ASKED},
        [[f"{platform}:space-0", "A rocket to the moon"] for platform in ("books", "films", "music")],
    ),
    11: (
        {},
        [
            ["books:crime-0", "films:crime-0", "Murder at midnight", "Murder at midnight", 1.0, "title"],
            ["books:garden-0", "films:garden-0", "Roses for beginners", "Roses for beginners", 1.0, "title"],
            ["books:space-0", "films:space-0", "A rocket to the moon", "A rocket to the moon", 1.0, "title"],
        ],
    ),
    # Of the six of question 7, numbers 3, 7 and 11 are not on films.
    12: ({"item": "books:space-0"}, [["films:space-0", "A rocket to the moon", 3]]),
    13: (
        {},
        [
            ["books:space-0", "films:space-1", "A rocket to the moon", "The astronaut's diary", 0.5],
            ["music:crime-0", "films:crime-1", "Murder at midnight", "The detective's last case", 0.25],
        ],
    ),
    # space-0 began with books:space-0, which they viewed five minutes before.
    14: (
        {"person": "user:space-0", "item": "films:space-1"},
        [
            ["books:space-0", "A rocket to the moon", ["PURCHASED", "VIEWED"], 0.5],
            ["films:space-2", "Orbit of Jupiter", ["RATED"], 0.125],
        ],
    ),
    # music:space-6 is walked from starts 2 to 6, on music by 2, 3, 4, 6, 10 and 11. A day later 4 (start 4, on all
    # three) and 11 (start 4, on books and music) took two steps at once, items 0 and 1; 6 began with it (start 6, on
    # films and music) and took item 0 of films an hour before the day was over; for 2, 3 and 10 it was the last day.
    15: (
        {"item": "music:space-6", "days": 1},
        [
            ["books:space-0", "A rocket to the moon", 2],
            ["books:space-1", "The astronaut's diary", 2],
            ["films:space-0", "A rocket to the moon", 2],
            ["music:space-0", "A rocket to the moon", 2],
            ["music:space-1", "The astronaut's diary", 2],
            ["films:space-1", "The astronaut's diary", 1],
        ],
    ),
    # 3 January against the 2nd. People of crime begin at noon of the 1st and an hour later each: on music:crime-5 were
    # on the 2nd crime-4 (from 4, second step, at 18:00), on the 3rd crime-11 (the same, at 00:00), and of those from 3
    # crime-3 and crime-10 with their third step.
    16: (
        {"platform": "music", "until": "2024-01-04T00:00:00Z", "days": 1},
        [
            ["music:crime-5", "Poison for the judge", 1, 3],
            ["music:garden-5", "Compost and soil", 0, 2],
            ["music:space-2", "Orbit of Jupiter", 1, 3],
            ["music:space-6", "A comet in the telescope", 0, 2],
            ["music:crime-2", "Blood on the stairs", 1, 2],
            ["music:crime-6", "The inspector returns", 0, 1],
        ],
    ),
    # Of the 27 on films, n % 4 in 0, 1 were on books an hour before; 2 began here, and went on to music.
    17: ({"platform": "films", "since": "2024-01-01T00:00:00Z"}, [[["books"], 18], [[], 9]]),
    18: (
        {"item": "courses:physics"},
        [["courses:calculus", "Calculus", 1], ["courses:algebra", "Algebra", 2], ["courses:numbers", "Numbers", 3]],
    ),
    # space-0 follows crime-0, who walked items 0 to 4 on all three, and dislikes the first of them on books.
    19: (
        {"person": "user:space-0"},
        [
            ["books:crime-1", "The detective's last case", 1],
            ["books:crime-2", "Blood on the stairs", 1],
            ["books:crime-3", "A thief in the museum", 1],
            ["books:crime-4", "The silent witness", 1],
            ["films:crime-0", "Murder at midnight", 1],
            ["films:crime-1", "The detective's last case", 1],
            ["films:crime-2", "Blood on the stairs", 1],
            ["films:crime-3", "A thief in the museum", 1],
            ["films:crime-4", "The silent witness", 1],
            ["music:crime-0", "Murder at midnight", 1],
        ],
    ),
    20: ({}, [[1, ["identity-table"], 3], [1, ["lone"], 1], [2, ["identity-table"], 27], [3, ["identity-table"], 9]]),
}

COURSES: Final = ("Numbers", "Algebra", "Calculus", "Physics")
LEARNED: Final = (
    ("books:space-0", "films:space-1", 0.5),
    ("films:space-2", "films:space-1", 0.125),
    ("music:crime-0", "films:crime-1", 0.25),
)
SEMANTIC: Final = {9, 10}
"""Questions whose scores are the language model's: what the first three are is compared, not which of them is first."""


@pytest.fixture(scope="module")
def model() -> TextModel:
    return TextModel.load()


@pytest.fixture(scope="module")
def neo4j_planted(neo4j_uri: str, model: TextModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Neo4j with the planted graph, courses of a school, some learned edges, and the index of vectors."""
    empty(neo4j_uri)
    var = tmp_path_factory.mktemp("cypher")
    file = var / "vectors" / model.name / "Item.parquet"
    file.parent.mkdir(parents=True)
    with open_store(neo4j_uri) as store:
        plant(store)
        items = [Item(ItemKey("courses", title.lower()), title) for title in COURSES]
        store.upsert_nodes(items)
        store.upsert_edges(
            [Relation("REQUIRES", b.key, a.key) for a, b in pairwise(items)]
            + [Relation("REQUIRES", items[3].key, items[1].key)]
            + [
                Relation("LEADS_TO", ItemKey.parse(a), ItemKey.parse(b), {"weight": weight, "model": "planted"})
                for a, b, weight in LEARNED
            ]
        )
        rows = [row for batch in store.read_nodes("Item") for row in batch.to_pylist()]
        said = [row for row in rows if row["platform"] != "courses"]
        vectors = model.encode([f"{row['title']}. {row['text']}" for row in said])
        keys = [row["key"] for row in said]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), model.dim)
        pq.write_table(pa.table({"key": keys, "text_hash": keys, "vector": column}), file)
        assert index(store, var) == {"Item": 72}
    yield neo4j_uri
    run_cypher(neo4j_uri, "DROP INDEX Item_embedding")
    empty(neo4j_uri)


def test_the_page_asks_twenty_questions_and_each_has_an_answer_here() -> None:
    assert sorted(ANSWERS) == [question.number for question in questions()] == [*range(1, 21)]
    for question in questions():
        assert question.parameters == set(ANSWERS[question.number][0]), question.title
    assert PAGE.read_text(encoding="utf-8").count("```cypher") == 20


@pytest.mark.parametrize("question", questions(), ids=lambda question: f"{question.number}")
def test_a_query_of_the_page_answers_its_question(neo4j_planted: str, model: TextModel, question: Question) -> None:
    values, expected = ANSWERS[question.number]
    if "vector" in values:
        values = {"vector": model.encode([values["vector"]])[0].tolist()}
    found = [[_plain(value) for value in row] for row in run_cypher(neo4j_planted, question.query, **values)]
    if question.number in SEMANTIC:
        scores = [row.pop() for row in found]
        assert scores == sorted(scores, reverse=True)
        found = sorted(found[:3])
    assert found == expected


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value)
    return value.to_native().astimezone(UTC) if hasattr(value, "to_native") else value
