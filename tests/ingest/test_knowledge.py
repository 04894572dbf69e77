"""Knowledge comes from any table: triples, pairs of one relation, entities, who follows whom."""

import gzip
from pathlib import Path

import pytest

from graph.keys import EntityKey, ItemKey, Pseudonyms, lone_user
from graph.records import Relation
from graph.store import Store, checksum
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.quarantine import quarantined
from ingest.report import IngestReport

MAPPINGS = Path(__file__).parents[2] / "ingest" / "mappings"
PSEUDONYMS = Pseudonyms(b"0123456789abcdef")

CATALOGUE = """\
platform: school
items:
  - {file: courses.csv, id: course, title: title}
  - {file: credits.csv, id: code, attributes: {credits: points}}
"""
FILES = {
    "courses.csv": "course,title\nalgebra,Algebra\ncalculus,Calculus\nphysics,Physics\n",
    "credits.csv": "code,points\nalgebra,5\nphysics,10\n",
    "prerequisites.csv": "course,needs\ncalculus,algebra\nphysics,calculus\nphysics,calculus\n"
    "physics,alchemy\nphysics,physics\nphysics,\n",
    "teachers.csv": "course,teacher\nalgebra,t1\ncalculus,t1\nphysics,t2\nphysics,\nmagic,t2\n",
    "people.csv": "id,full_name,born\nt1,Emmy Noether,1882\nt2,,1867\n\x07,Nobody,\n",
    "friends.csv": "user,friend\nraw-ann,raw-bob\nraw-bob,raw-ann\nraw-ann,raw-bob\nraw-ann,raw-ann\nraw-ann,\n",
    "kg.csv": "head,relation,tail\nalgebra,field,mathematics\nphysics,field,science\n"
    "physics,colour,blue\nmagic,field,art\n",
}


def run(store: Store, data: Path, *sections: str) -> IngestReport:
    path = data.parent / "school.yaml"
    path.write_text(CATALOGUE + "\n".join(sections))
    return ingest([read_mapping(path)], store, PSEUDONYMS, data.parent / "var", data=data)


def counted(report: IngestReport, section: str) -> tuple[int, int, int]:
    """Accepted, duplicates, rejected."""
    file = next(file for file in report.files if file.section == section)
    return file.accepted, file.duplicates, file.rejected


def reasons(report: IngestReport) -> list[tuple[str, str, str]]:
    assert report.quarantine is not None
    files = {file.file for file in report.files}
    rows = quarantined(report.quarantine.parent).to_pylist()
    return [(row["field"], row["value"], row["detail"]) for row in rows if row["file"] in files]


def relations(store: Store, type: str) -> set[tuple[str, str]]:
    return {(row["source"], row["target"]) for batch in store.read_relations(type) for row in batch.to_pylist()}


REQUIRES = "relations: {file: prerequisites.csv, item: course, target: needs, type: REQUIRES}"
TAUGHT = "relations: {file: teachers.csv, item: course, target: teacher, type: TAUGHT_BY, kind: creator}"
PEOPLE = "entities: {file: people.csv, kind: creator, id: id, name: full_name, attributes: {born: born}}"
FRIENDS = "follows: {file: friends.csv, account: user, follows: friend}"
TRIPLES = """\
knowledge:
  triples: {file: kg.csv, head: head, relation: relation, tail: tail}
  relations: {field: {type: IN_FIELD, kind: field}}
"""


def test_courses_require_courses_and_what_dangles_is_set_aside(store: Store, data: Path) -> None:
    report = run(store, data, REQUIRES)
    assert relations(store, "REQUIRES") == {
        ("school:calculus", "school:algebra"),
        ("school:physics", "school:calculus"),
    }
    assert counted(report, "relations") == (2, 1, 3)
    assert reasons(report) == [
        ("item", "school:alchemy", "is an item that no items file of this run or an earlier one names"),
        ("target", "physics", "is the item itself, which cannot be REQUIRES of itself"),
        ("target", "", "is empty"),
    ]
    before = checksum(store)
    assert counted(run(store, data, REQUIRES), "relations") == (0, 3, 3)
    assert checksum(store) == before


def test_a_second_table_of_items_adds_attributes_and_keeps_titles(store: Store, data: Path) -> None:
    run(store, data)
    physics, calculus = store.items([ItemKey("school", "physics"), ItemKey("school", "calculus")])
    assert (physics.title, physics.attributes) == ("Physics", {"credits": "10"})
    assert calculus.attributes == {}


@pytest.mark.parametrize("order", [(PEOPLE, TAUGHT), (TAUGHT, PEOPLE), (TAUGHT, PEOPLE, TAUGHT)])
def test_an_entity_keeps_its_name_whichever_table_comes_first(store: Store, data: Path, order: tuple[str, ...]) -> None:
    reports = [run(store, data, section) for section in order]
    named = {row["key"]: (row["name"], row["attributes"]) for b in store.read_nodes("Creator") for row in b.to_pylist()}
    assert named == {"creator:t1": ("Emmy Noether", '{"born":"1882"}'), "creator:t2": ("t2", '{"born":"1867"}')}
    taught = reports[order.index(TAUGHT)]
    assert counted(taught, "relations") == (3, 0, 2)
    assert [reason[:2] for reason in reasons(taught)] == [("target", ""), ("item", "school:magic")]
    assert [(reason[0], reason[1]) for reason in reasons(reports[order.index(PEOPLE)])] == [("id", "\x07")]


def test_who_follows_whom_is_joined_under_pseudonyms_and_makes_accounts(
    tmp_path: Path, store: Store, data: Path
) -> None:
    report = run(store, data, FRIENDS)
    ann, bob = (PSEUDONYMS.account("school", name) for name in ("raw-ann", "raw-bob"))
    assert relations(store, "FOLLOWS") == {(ann, bob), (bob, ann)}
    assert store.user_of(bob) == lone_user(bob)
    assert counted(report, "follows") == (2, 1, 2)
    assert reasons(report) == [("follows", "", "is the account itself"), ("follows", "", "is empty")]
    store.close()
    for path in [tmp_path / "graph.db", *(tmp_path / "var").rglob("*.parquet")]:
        assert b"raw-" not in path.read_bytes(), path


def test_triples_may_call_items_what_the_platform_calls_them(store: Store, data: Path) -> None:
    report = run(store, data, TRIPLES)
    assert relations(store, "IN_FIELD") == {
        ("school:algebra", "field:mathematics"),
        ("school:physics", "field:science"),
    }
    assert [reason[:2] for reason in reasons(report)] == [("relation", "colour"), ("item", "school:magic")]
    assert (
        Relation("IN_FIELD", ItemKey("school", "physics"), EntityKey("field", "science"))
        in store.neighbourhood(EntityKey("field", "science")).edges
    )


def test_lastfm_comes_with_its_friends(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "lastfm"
    folder.mkdir()
    tables = {
        "artists": "artist,name\n51,Duran Duran\n",
        "plays": "user,artist,plays\n2,51,13883\n",
        "friends": "user,friend\n2,275\n275,2\n",
    }
    for name, text in tables.items():
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    ingest([read_mapping(MAPPINGS / "lastfm.yaml")], store, PSEUDONYMS, tmp_path / "var", data=folder)
    assert store.counts().edges == {"FOLLOWS": 2, "OF": 2, "PLAYED": 1}
