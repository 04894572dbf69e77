"""Quarantine: every row that was not taken, once, with place, rule and advice; kill -9 loses and doubles none."""

import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from graph.keys import Pseudonyms
from graph.store import Store
from ingest.errors import IngestError
from ingest.load import ingest
from ingest.mapping import Mapping, read_mapping
from ingest.parse import Rejected
from ingest.quarantine import LONGEST, SCHEMA, BadRow, Origin, Quarantine, forget, groups, quarantined, redact, waiting
from ingest.report import IngestReport
from ingest.rules import Rule

SECRET = b"0123456789abcdef"
PSEUDONYMS = Pseudonyms(SECRET)
MAPPING = """\
platform: shop
items: {file: items.csv, id: item, title: title}
events:
  file: events.csv
  account: who
  item: item
  type: {column: kind, values: {buy: PURCHASED, rate: RATED}}
  at: {column: at, zone: Europe/Berlin, earliest: 2000-01-01}
  value: {column: stars, scale: [1, 5]}
  sequence: nth
"""
HEADER = "who,item,kind,at,stars,nth"
BROKEN = {
    "mail@example.org,7,buy": Rule.MALFORMED,
    "caf\udce9,7,buy,2024-05-01,,1": Rule.ENCODING,
    ",7,buy,2024-05-01,,1": Rule.EMPTY,
    "ann,seven up,buy,2024-05-01,,1": Rule.KEY_FORM,
    "ann,7,steal,2024-05-01,,1": Rule.UNKNOWN_TYPE,
    "ann,7,buy,yesterday,,1": Rule.NOT_AN_INSTANT,
    "ann,7,buy,2024-03-31T02:30,,1": Rule.NO_SUCH_TIME,
    "ann,7,buy,1970-01-01,,1": Rule.TOO_EARLY,
    "ann,7,buy,9999-01-01,,1": Rule.IN_THE_FUTURE,
    "ann,7,rate,2024-05-01,many,1": Rule.NOT_A_NUMBER,
    "ann,7,rate,2024-05-01,4,first": Rule.NOT_A_NUMBER,
    "ann,7,rate,2024-05-01,8,1": Rule.OFF_SCALE,
    "ann,nowhere,buy,2024-05-01,,1": Rule.UNKNOWN_ITEM,
}
"""Rows that each break one rule."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"{n},Item {n}\n" for n in range(20)))
    return tmp_path


def mapping(data: Path) -> Mapping:
    return read_mapping(data / "shop.yaml")


def run(store: Store, data: Path) -> IngestReport:
    return ingest([mapping(data)], store, PSEUDONYMS, data / "var", data=data)


def write_events(data: Path, rows: list[str]) -> None:
    (data / "events.csv").write_bytes("\n".join([HEADER, *rows, ""]).encode("utf-8", "surrogateescape"))


def good(number: int) -> str:
    return f"person-{number % 700},{number % 20},buy,2024-05-01T12:00:{number % 60:02},,{number}"


def test_of_10000_rows_with_500_bad_ones_every_one_is_accounted_for(store: Store, data: Path) -> None:
    bad = [list(BROKEN)[n % len(BROKEN)] for n in range(500)]
    taken = [good(n) for n in range(9_000)]
    rows = [(row, None) for row in taken] + [(row, None) for row in taken[:500]] + [(row, BROKEN[row]) for row in bad]
    random.Random(0).shuffle(rows)
    write_events(data, [row for row, _ in rows])
    for accepted in (9_000, 0):
        report = run(store, data)
        events = report.files[1]
        assert (events.read, events.accepted, events.duplicates, events.rejected) == (
            10_000,
            accepted,
            9_500 - accepted,
            500,
        )
        listed = quarantined(data / "var").to_pylist()
        assert [(row["line"], row["rule"]) for row in listed] == [
            (line, rule) for line, (_, rule) in enumerate(rows, 2) if rule is not None
        ]
        assert {(row["file"], row["data"], row["mapping"]) for row in listed} == {
            ("events.csv", str(data), str(data / "shop.yaml"))
        }
        assert all(row["advice"] == Rule(row["rule"]).advice for row in listed)
        per_rule = Counter(rule for _, rule in rows if rule is not None)
        assert Counter({broken.rule: 0 for broken in report.broken}) + per_rule == sum(
            (Counter({broken.rule: broken.rows}) for broken in report.broken), Counter()
        )
        assert sum(broken.rows for broken in groups(quarantined(data / "var"))) == 500
    assert store.counts().edges["PURCHASED"] == 9_000


KILLED = """
import sys
from pathlib import Path
import ingest.batches
import ingest.load
from graph.keys import Pseudonyms
from graph.store import open_store
from ingest.mapping import read_mapping
ingest.batches.BATCH = 100
data = Path(sys.argv[1])
with open_store(f"sqlite:///{data / 'graph.db'}") as store:
    ingest.load.ingest([read_mapping(data / "shop.yaml")], store, Pseudonyms(%r), data / "var", data=data)
"""


def test_a_run_that_is_killed_loses_no_rejected_row_and_doubles_none(store: Store, data: Path) -> None:
    rows = [f"person-1,1,steal,2024-05-01,,{n}" if n % 50 == 0 else good(n) for n in range(10_000)]
    write_events(data, rows)
    for parts in (20, 40):  # parts that are there when the run is killed
        with subprocess.Popen([sys.executable, "-c", KILLED % SECRET, str(data)]) as process:
            deadline = time.monotonic() + 60
            while len(list((data / "var").rglob("*.parquet"))) < parts and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
        found = quarantined(data / "var")["line"].to_pylist()
        assert found == [line for line, row in enumerate(rows, 2) if "steal" in row][: len(found)]
        assert len(found) >= 2 * 20
    for _ in range(2):
        report = run(store, data)
        assert report.files[1].rejected == 200
        assert quarantined(data / "var")["line"].to_pylist() == list(range(2, 10_002, 50))
    assert len(list((data / "var").rglob("*"))) == 3, "one folder with one part is left"


def test_a_file_that_was_put_right_leaves_nothing_in_quarantine(store: Store, data: Path) -> None:
    write_events(data, [*BROKEN, good(1)])
    assert run(store, data).broken
    write_events(data, [good(n) for n in range(3)])
    assert not run(store, data).broken
    assert len(quarantined(data / "var")) == 0
    assert list((data / "var" / "quarantine").iterdir()) == []


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("ann.o'neil+x@mail.example.org", "ann.o'‹mail›"),
        ("film:ann@example.org", "film:‹mail›"),
        ("call +49 151 1234 5678 now", "call ‹phone› now"),
        ("+4915112345678", "‹phone›"),
        ("(030) 1234 5678", "‹phone›"),
        ("0151 12345678", "‹phone›"),
        ("0000013714", "0000013714"),
        ("2024-05-01T12:00:00+02:00", "2024-05-01T12:00:00+02:00"),
        ("2024-05-01 12:00:00+0200", "2024-05-01 12:00:00+0200"),
        ("31.02.2024 10:30", "31.02.2024 10:30"),
        ("1000000000000000", "1000000000000000"),
        ("steal", "steal"),
        ("x" * (LONGEST + 1), "x" * LONGEST + "…"),
        ("raw-ann", "‹id›"),
        (" a7 ", "‹id›"),
        ("for raw-ann", "for ‹id›"),
        ("a70", "a70"),
    ],
)
def test_a_value_is_kept_without_what_says_who_it_was(value: str, kept: str) -> None:
    assert redact(value, ["raw-ann ", "a7", ""]).strip() == kept


def test_fields_that_slipped_by_a_column_do_not_bring_the_account_along(store: Store, data: Path) -> None:
    write_events(data, ["raw-ann-4711,raw-ann-4711,raw-ann-4711,raw-ann-4711,,1", "raw-bob-4712,1,raw-bob-4712 x,2,,"])
    run(store, data)
    found = quarantined(data / "var")
    assert found["value"].to_pylist() == ["‹id›", "‹id› x"]
    assert found["account"].to_pylist() == [
        PSEUDONYMS.account("shop", f"raw-{who}") for who in ("ann-4711", "bob-4712")
    ]
    assert not any(b"raw-" in path.read_bytes() for path in (data / "var").rglob("*") if path.is_file())


def test_forgetting_an_account_leaves_none_of_its_rows_and_all_others(store: Store, data: Path) -> None:
    write_events(data, ["ann,7,steal,2024-05-01,,1", "bob,7,steal,2024-05-01,,1", "ann,7,buy,x,,1", "ann,7"])
    run(store, data)
    ann, bob, carl = (PSEUDONYMS.account("shop", name) for name in ("ann", "bob", "carl"))
    assert forget(data / "var", {carl}) == 0
    assert forget(data / "var", {ann, carl}) == 2
    assert quarantined(data / "var").select(["line", "account"]).to_pylist() == [
        {"line": 3, "account": bob},
        {"line": 5, "account": None},
    ]
    files = [path for path in (data / "var").rglob("*") if path.is_file()]
    assert len(files) == 1
    assert ann.digest not in str(pq.read_table(files[0]).to_pylist())
    assert forget(data / "var", {ann}) == 0


def test_forgetting_somebody_removes_what_a_killed_run_had_not_renamed(data: Path) -> None:
    folder = data / "var" / "quarantine" / "0123"
    folder.mkdir(parents=True)
    (folder / "half.writing").write_bytes(b"PAR1")
    assert forget(data / "var", {PSEUDONYMS.account("shop", "ann")}) == 0
    assert not folder.exists()


def test_of_two_parts_that_name_a_line_the_newer_counts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = Origin(data / "shop.yaml", "events", 0, str(data), "events.csv")
    write_events(data, [])
    for day, rule, lines in ((1, Rule.EMPTY, (2, 3)), (2, Rule.OFF_SCALE, (3, 4))):
        quarantine = Quarantine(data / "var" / "quarantine")
        monkeypatch.setattr(quarantine, "_now", datetime(2024, 1, day, tzinfo=UTC))
        quarantine.add(origin, "as it was", [BadRow(line, Rejected("value", "", "is wrong", rule)) for line in lines])
    assert quarantined(data / "var").select(["line", "rule"]).to_pylist() == [
        {"line": 2, "rule": "empty"},
        {"line": 3, "rule": "off-scale"},
        {"line": 4, "rule": "off-scale"},
    ]
    [found] = waiting(data / "var")
    assert (found.origin, found.lines, found.states) == (origin, {2, 3, 4}, {"as it was"})


def test_a_part_that_is_damaged_is_named_with_what_to_do(store: Store, data: Path) -> None:
    write_events(data, list(BROKEN))
    run(store, data)
    [part] = (data / "var").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(
        IngestError, match=f"{part.name} cannot be read .*: delete it, and ingest the file it is of again"
    ):
        quarantined(data / "var")


def test_every_rule_says_what_it_asks_and_what_to_do_and_keeps_a_name_of_its_own() -> None:
    assert len({str(rule) for rule in Rule}) == len(Rule) == 21
    for rule in Rule:
        assert rule == str(rule).lower().replace(" ", "-")
        assert len(rule.asks) > 20
        assert len(rule.advice) > 20


def test_the_rules_and_columns_are_those_that_the_documentation_names() -> None:
    text = (Path(__file__).parents[2] / "docs" / "quality.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \| (\w.*) \|$", text, re.MULTILINE)[: len(Rule)] == [
        (str(rule), rule.asks) for rule in Rule
    ]
    table = text[text.index("| column |") : text.index("The row itself is not kept")]
    assert set(re.findall(r"`([a-z_]+)`", table)) == set(SCHEMA.names)
