"""The report's page and JSON: whole by themselves, with the figures of the run and of the graph, and nobody's id."""

import base64
import json
import xml.etree.ElementTree as ET
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graph.keys import Pseudonyms
from graph.stats import store_stats
from graph.store import Store, open_store
from ingest.errors import IngestError
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.page import periods, write_report
from ingest.report import FileReport, IngestReport
from ingest.rules import Rule
from tests.planted import PLATFORMS


class Page(HTMLParser):
    """The cells and pictures of a page, and what it would fetch."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.heads: list[str] = []
        self.pictures: dict[str, ET.Element] = {}
        self.fetched: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "a tag is left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")
        if tag == "h2":
            self.heads.append("")
        source = given.get("src") or given.get("href")
        if tag == "img":
            kind, _, data = (source or "").partition(";base64,")
            assert kind == "data:image/svg+xml"
            self.pictures[given["alt"] or ""] = ET.fromstring(base64.b64decode(data))  # noqa: S314  (our own)
        elif source is not None or tag in {"script", "link", "iframe"}:
            self.fetched.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data
        if self.open and self.open[-1] == "h2":
            self.heads[-1] += data


def texts(picture: ET.Element) -> set[str]:
    return {"".join(node.itertext()).strip() for node in picture.iter("{http://www.w3.org/2000/svg}text")}


def test_the_page_shows_the_graph_in_four_pictures_and_fetches_nothing(planted_store: Store, tmp_path: Path) -> None:
    report = IngestReport([FileReport("a.csv", "events", 3, 1, 1, 1, 0.1)], 1.0, tmp_path)
    path = write_report(report, store_stats(planted_store), tmp_path / "reports")
    page = Page(path.read_text())
    assert page.fetched == []
    assert list(page.pictures) == [
        "Events over time, by day",
        "Events per person",
        "Items without any event",
        "People on two platforms",
    ]
    over_time, per_person, cold, overlap = (texts(picture) for picture in page.pictures.values())
    assert set(PLATFORMS) <= over_time
    assert {"8-15", "16-31", "27", "events", "people"} <= per_person  # 27 people of two platforms: 2 x 6 + a dislike
    assert "12.5% of 24" in cold
    assert {"30", "27", "28", "18"} <= overlap
    found = json.loads(path.with_suffix(".json").read_text())
    assert found["graph"]["platforms"][0]["cold_share"] == 0.125
    assert found["graph"]["overlaps"][0]["people"] == 18
    assert sum(found["graph"]["events_over_time"]["films"].values()) == 171
    assert found["graph"]["people_by_events"]["13"] == 27


MAPPING = """\
platform: shop
items: {file: "<b>.csv", id: id, title: name}
events: {file: e.csv, account: who, item: item, type: PLAYED, value: plays}
"""


def test_the_page_says_what_became_of_rows_and_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / "<b>.csv").write_text("id,name\n1,Tent\n2,\n")
    (tmp_path / "e.csv").write_text("who,item,plays\nraw-ann,1,3\nraw-ann,1,3\nraw-ann,7,x\nraw-bob,raw-bob,\n")
    pseudonyms = Pseudonyms(b"0123456789abcdef")
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        report = ingest([read_mapping(tmp_path / "shop.yaml")], store, pseudonyms, tmp_path / "var", data=tmp_path)
        path = write_report(report, store_stats(store), tmp_path / "var" / "reports")
    text, found = path.read_text(), json.loads(path.with_suffix(".json").read_text())
    page = Page(text)
    assert "<b>.csv" in page.cells
    assert "<b>.csv" not in text
    assert page.heads[:4] == ["Files", "Broken rules", "Missing, and not made up", "Platforms"]
    assert {"not-a-number", "unknown-item", "is not a number", Rule.UNKNOWN_ITEM.advice} <= set(page.cells)
    assert "1 events of shop have no time." in text
    assert found["run"]["total"] == {"read": 6, "accepted": 3, "duplicates": 1, "rejected": 2}
    assert found["run"]["files"][0]["missing"] == {"title": 1}
    assert {each["rule"]: each["rows"] for each in found["run"]["rejected"]} == {"not-a-number": 1, "unknown-item": 1}
    assert found["run"]["rejected"][0]["advice"] == Rule(found["run"]["rejected"][0]["rule"]).advice
    assert "raw-" not in text + json.dumps(found)
    assert pseudonyms.account("shop", "raw-ann").digest not in text + json.dumps(found)


def test_an_empty_graph_makes_a_page_too(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        path = write_report(IngestReport([], 0.1, tmp_path), store_stats(store), tmp_path)
    assert all("nothing to show yet" in texts(picture) for picture in Page(path.read_text()).pictures.values())


@pytest.mark.parametrize(
    ("days", "unit", "periods_of"),
    [
        (1, "day", {date(2023, 12, 31): 1, date(2024, 1, 1): 1}),
        (91, "day", None),
        (92, "month", None),
        (366, "month", {date(2023, 12, 1): 1, date(2024, 12, 1): 1}),
        (12 * 366, "year", None),
    ],
)
def test_periods_are_as_long_as_a_picture_needs(days: int, unit: str, periods_of: dict[date, int] | None) -> None:
    first = date(2023, 12, 31)
    found = periods([("shop", first, 1), ("shop", first + timedelta(days=days), 1)])
    assert found[0] == unit
    if periods_of is not None:
        assert found[1] == {"shop": periods_of}


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        stats = store_stats(store)
    with pytest.raises(IngestError, match=r"the report cannot be written to .*reports: File exists"):
        write_report(IngestReport([], 0.1, tmp_path), stats, tmp_path / "reports")
