"""Public data sets: a ready mapping reads the shape that each is published in, whole."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from graph.keys import ItemKey, Pseudonyms
from graph.store import open_store
from ingest.check import check
from ingest.load import ingest
from ingest.mapping import read_mapping
from tests.ingest.public_formats import FORMATS, write

MAPPINGS = Path(__file__).parents[2] / "ingest" / "mappings"
PSEUDONYMS = Pseudonyms(bytes(16))

EDGES: Mapping[str, Mapping[str, int]] = {
    "movielens-100k-grouplens": {"RATED": 2, "IN_CATEGORY": 2},
    "movielens-1m": {"RATED": 2, "IN_CATEGORY": 3},
    "movielens-25m": {"RATED": 2, "IN_CATEGORY": 3},
    "amazon-2014": {"RATED": 2, "IN_CATEGORY": 4, "MADE_BY": 1},
    "amazon-2018": {"RATED": 2, "IN_CATEGORY": 2, "MADE_BY": 1},
    "amazon-2023": {"RATED": 2, "IN_CATEGORY": 3, "MADE_BY": 1},
    "recbole": {"RATED": 2},
    "lastfm-hetrec": {"PLAYED": 2, "FOLLOWS": 2},
    "stackexchange-dump": {"ASKED": 1, "ANSWERED": 1, "COMMENTED": 2, "SAVED": 1, "TAGGED": 3},
}
REJECTED: Mapping[str, int] = {"stackexchange-dump": 2}
"""A question and a comment of users who were deleted."""


@pytest.mark.parametrize("name", FORMATS)
def test_the_ready_mapping_of_a_public_format_takes_every_row(tmp_path: Path, name: str) -> None:
    data = write(name, tmp_path)
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        report = ingest([read_mapping(MAPPINGS / f"{name}.yaml")], store, PSEUDONYMS, tmp_path, data=data)
        edges = dict(store.counts().edges)
        edges.pop("OF")
        assert edges == EDGES[name]
        assert store.counts().nodes["Item"] == 2
        assert (report.total.rejected, report.total.duplicates) == (REJECTED.get(name, 0), 0)


@pytest.mark.parametrize(
    ("name", "item", "title", "text"),
    [
        ("movielens-100k-grouplens", "movielens:10", "Café Noir (1990)", None),
        ("movielens-1m", "movielens:10", 'Café "Noir" (1990)', None),
        ("movielens-25m", "movielens:10", "Noir, The (1990)", None),
        ("amazon-2014", "amazon:B000000001", "Cook's Kettle", "It boils."),
        ("amazon-2018", "amazon:B000000001", "Kettle", "It boils. Quickly."),
        ("amazon-2023", "amazon:B000000001", "Kettle", "It boils."),
        ("lastfm-hetrec", "lastfm:1", '"Quoted" Band', None),
        ("stackexchange-dump", "stackexchange:1", 'How does a "kettle" boil?', None),
    ],
)
def test_titles_and_texts_come_as_they_are_written(
    tmp_path: Path, name: str, item: str, title: str, text: str | None
) -> None:
    data = write(name, tmp_path)
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        ingest([read_mapping(MAPPINGS / f"{name}.yaml")], store, PSEUDONYMS, tmp_path, data=data)
        [found] = store.items([ItemKey.parse(item)])
    assert (found.title, found.text) == (title, text)


@pytest.mark.parametrize(
    ("name", "account", "type", "at", "value", "weight"),
    [
        ("movielens-1m", "movielens:2", "RATED", datetime(2000, 9, 26, 20, 28, 20, tzinfo=UTC), 2.0, -1.0),
        ("movielens-25m", "movielens:1", "RATED", datetime(2017, 7, 14, 2, 40, tzinfo=UTC), 4.5, 1.0),
        ("amazon-2014", "amazon:A1", "RATED", datetime(2011, 3, 13, 7, 6, 40, tzinfo=UTC), 5.0, 1.0),
        ("amazon-2023", "amazon:AE1", "RATED", datetime(2020, 5, 5, 14, 8, 48, 923000, tzinfo=UTC), 5.0, 1.0),
        ("lastfm-hetrec", "lastfm:3", "PLAYED", datetime(1970, 1, 1, tzinfo=UTC), 7.0, 0.7),
    ],
)
def test_ratings_have_their_instant_their_value_and_its_sign(
    tmp_path: Path, name: str, account: str, type: str, at: datetime, value: float, weight: float
) -> None:
    data = write(name, tmp_path)
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        ingest([read_mapping(MAPPINGS / f"{name}.yaml")], store, PSEUDONYMS, tmp_path, data=data)
        user = store.user_of(PSEUDONYMS.account(*account.split(":")))
        assert user is not None
        [event] = store.history(user)
    assert (event.type, event.at, event.value, event.weight) == (type, at, value, weight)


def test_a_comment_on_an_answer_is_a_comment_on_its_question(tmp_path: Path) -> None:
    data = write("stackexchange-dump", tmp_path)
    mapping = read_mapping(MAPPINGS / "stackexchange-dump.yaml")
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        ingest([mapping], store, PSEUDONYMS, tmp_path, data=data)
        ann, ben = PSEUDONYMS.user("70"), PSEUDONYMS.user("80")
        assert [(e.type, e.item) for e in store.history(ann)] == [
            ("ASKED", "stackexchange:1"),
            ("COMMENTED", "stackexchange:1"),
        ]
        assert [(e.type, e.item) for e in store.history(ben)] == [
            ("ANSWERED", "stackexchange:1"),
            ("SAVED", "stackexchange:1"),
            ("COMMENTED", "stackexchange:2"),
        ]


def test_one_person_on_two_sites_of_a_dump_is_one_person(tmp_path: Path) -> None:
    data = write("stackexchange-dump", tmp_path)
    text = (MAPPINGS / "stackexchange-dump.yaml").read_text()
    mappings = []
    for site in ("ai", "tea"):
        (tmp_path / f"{site}.yaml").write_text(text.replace("platform: stackexchange", f"platform: {site}"))
        mappings.append(read_mapping(tmp_path / f"{site}.yaml"))
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        ingest(mappings, store, PSEUDONYMS, tmp_path, data=data)
        counts = store.counts().nodes
    assert (counts["Account"], counts["User"]) == (4, 2)


@pytest.mark.parametrize("name", FORMATS)
def test_check_takes_what_ingest_takes(tmp_path: Path, name: str) -> None:
    report = check([read_mapping(MAPPINGS / f"{name}.yaml")], write(name, tmp_path))
    assert report.run.total.rejected == REJECTED.get(name, 0)
    assert not report.unfit
