"""MovieLens-100k: fetched once and checked, its links put right, parted into two services."""

import csv
import hashlib
import zipfile
from pathlib import Path

import pytest

from graph.keys import Pseudonyms
from graph.store import open_store
from ingest.errors import SourceError
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.sources import movielens

MAPPINGS = Path(__file__).parents[2] / "ingest" / "mappings"

SMALL = {
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Comedy\n"
        "2\tGoldenEye\t1995\tAction\n"
        "50\tStar Wars\t1977\tAction Sci-Fi\n"
        "172\tEmpire Strikes Back, The\t1980\tAction\n"
        "1412\tLand Before Time III (1995)\tV\tAnimation\n"
        "267\tunkonwn\tunkonwn\tunknown\n"
    ),
    "ml-100k.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t1\t5\t100\n1\t50\t4\t200\n2\t50\t2\t300\n2\t267\t3\t400\n3\t2\t1\t500\n"
    ),
    "ml-100k.user": "user_id:token\tage:token\n1\t24\n2\t53\n3\t23\n",
    # The ids of MovieLens-1M: 1 is Toy Story there too, 260 is Star Wars, 1196 The Empire Strikes Back, 10 GoldenEye.
    "ml-100k.link": "item_id:token\tentity_id:token\n1\tm.toy\n260\tm.star\n1196\tm.empire\n10\tm.golden\n91\tm.who\n",
    "ml-100k.kg": (
        "head_id:token\trelation_id:token\ttail_id:token\n"
        "m.star\tfilm.film.actor\tm.ford\n"
        "m.ford\tfilm.actor.film\tm.star\n"
        "m.star\tfilm.film.sequel\tm.empire\n"
        "m.empire\tfilm.film.prequel\tm.star\n"
        "m.empire\tfilm.film.sequel\tm.jedi\n"
        "m.golden\tfilm.film.actor\tm.ford\n"
        "m.who\tfilm.film.actor\tm.ford\n"
    ),
}


def write_small(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in SMALL.items():
        (folder / name).write_text(text)
    return folder


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_small(tmp_path / "source")
    movielens._write_links(folder)
    return folder


def test_links_are_translated_from_the_ids_of_movielens_1m(source: Path) -> None:
    assert read(source / "links.csv") == [["1", "m.toy"], ["50", "m.star"], ["172", "m.empire"], ["2", "m.golden"]]


def test_the_table_of_ids_joins_each_film_to_one_other() -> None:
    pairs = read(movielens._IDS)
    assert len(pairs) == 1522
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)
    known = dict(pairs)
    # GoldenEye, Braveheart, Star Wars, The Godfather; Guardian Angel is in MovieLens-1M alone.
    assert [known.get(id) for id in ("10", "110", "260", "858", "51")] == ["2", "22", "50", "127", None]


def test_islands_part_the_films_by_year_and_keep_every_rating(tmp_path: Path, source: Path) -> None:
    old, new = movielens.write_islands(source, tmp_path / "islands")
    assert (old, new) == (
        movielens.Island("old-films", items=3, events=3, people=2),
        movielens.Island("new-films", items=3, events=2, people=2),
    )
    assert [row[0] for row in read(tmp_path / "islands/old-films/items.csv")] == ["50", "172", "267"]
    assert read(tmp_path / "islands/new-films/items.csv")[2] == [
        "1412",
        "Land Before Time III (1995)",
        "1995",
        "Animation",
    ]
    assert read(tmp_path / "islands/old-films/triples.csv") == [
        ["m.star", "film.film.actor", "m.ford"],
        ["m.star", "film.film.sequel", "m.empire"],
    ]
    people = read(tmp_path / "islands/identities.csv")
    assert [(person, platform) for person, platform, _ in people] == [
        ("p1", "old-films"),
        ("p2", "old-films"),
        ("p1", "new-films"),
        ("p3", "new-films"),
    ]
    assert len({account for _, _, account in people}) == 4


def test_the_same_source_writes_the_same_islands(tmp_path: Path, source: Path) -> None:
    for name in ("a", "b"):
        movielens.write_islands(source, tmp_path / name)
    for path in (tmp_path / "a").rglob("*.csv"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_the_islands_ingest_whole_and_meet_in_people_and_knowledge(tmp_path: Path, source: Path) -> None:
    movielens.write_islands(source, tmp_path / "islands")
    mappings = [read_mapping(MAPPINGS / f"{name}.yaml") for name in movielens.ISLANDS]
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        report = ingest(mappings, store, Pseudonyms(bytes(16)), tmp_path, data=tmp_path / "islands")
        assert (report.total.rejected, report.total.duplicates) == (0, 0)
        counts = store.counts()
    assert (counts.nodes["User"], counts.nodes["Account"], counts.nodes["Item"]) == (3, 4, 6)
    assert (counts.nodes["Creator"], counts.edges["STARS"], counts.edges["HAS_SEQUEL"]) == (1, 2, 1)


def test_the_whole_data_set_ingests_as_one_platform_and_inverses_are_duplicates(tmp_path: Path, source: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        mapping = read_mapping(MAPPINGS / "movielens-100k.yaml")
        report = ingest([mapping], store, Pseudonyms(bytes(16)), tmp_path, data=source)
        triples = next(file for file in report.files if file.section == "triples")
        assert (triples.read, triples.accepted, triples.duplicates, triples.rejected) == (7, 3, 2, 2)
        assert store.counts().edges["RATED"] == 5


def wheel(folder: Path) -> Path:
    """A wheel of the right name that carries the small data set."""
    folder.mkdir()
    path = folder / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in SMALL.items():
            archive.writestr(movielens.FOLDER + name, text)
        info = "recbole-1.2.1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_fetch_downloads_checks_unpacks_and_then_reuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(published.parent))
    said: list[str] = []
    with pytest.raises(SourceError, match="it is not the file that was published"):
        movielens.fetch(tmp_path / "cache", said.append)
    assert not list((tmp_path / "cache").iterdir())
    monkeypatch.setattr(movielens, "SHA256", hashlib.sha256(published.read_bytes()).hexdigest())
    said.clear()
    cache = movielens.fetch(tmp_path / "cache", said.append)
    assert sorted(path.name for path in cache.iterdir()) == sorted((*movielens.FILES, "links.csv"))
    assert said == [movielens.TERMS]
    published.unlink()
    assert movielens.fetch(tmp_path / "cache", said.append) == cache
    assert said == [movielens.TERMS]


def test_a_wheel_that_cannot_be_had_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        SourceError, match=r"recbole==1\.2\.1, whose wheel carries MovieLens-100k, cannot be downloaded"
    ):
        movielens.fetch(tmp_path / "cache", lambda _: None)
