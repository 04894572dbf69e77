"""Ingest: files into the store, nothing twice, nothing lost, nothing raw."""

import csv
import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from graph.keys import ItemKey, Pseudonyms, lone_user
from graph.store import Store, checksum, open_store
from ingest.errors import MappingError, SourceError
from ingest.load import ingest
from ingest.mapping import Mapping, read_mapping
from ingest.quarantine import quarantined
from ingest.report import IngestReport
from ingest.rules import Rule

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")

SHOP = """\
platform: shop
items:
  file: shop/items.csv
  id: item
  title: title
  entities: [{column: tags, separator: "|", kind: tag, relation: TAGGED}]
identities: {file: identities.csv, person: person, platform: platform, account: account}
events:
  file: shop/events-*.csv
  account: account
  item: item
  type: {column: kind, values: {buy: PURCHASED, look: VIEWED}}
  at: {column: at, format: seconds}
"""
VIDEO = """\
platform: video
items: {file: video.jsonl, id: id, title: name}
identities: {file: identities.csv, person: person, platform: platform, account: account}
"""

FILES = {
    "shop/items.csv": "item,title,tags\n1,Tent,outdoor|summer\n2,Stove,outdoor\n3,Mug,\n",
    "shop/events-1.csv": "account,item,kind,at\nraw-ann,1,buy,10\nraw-ann,2,look,20\n",
    "shop/events-2.csv": "account,item,kind,at\nraw-bob,1,buy,30\nraw-ann,1,buy,10\n",
    "video.jsonl": '{"id": "v1", "name": "Camping"}\n',
    "identities.csv": "person,platform,account\nraw-p,shop,raw-ann\nraw-p,video,raw-anna\n",
}


def mapping(data: Path, text: str = SHOP) -> Mapping:
    path = data.parent / f"{abs(hash(text))}.yaml"
    path.write_text(text)
    return read_mapping(path)


def run(store: Store, data: Path, *mappings: Mapping) -> IngestReport:
    return ingest(mappings or [mapping(data)], store, PSEUDONYMS, data.parent / "var", data=data)


def rejects(data: Path, *columns: str) -> list[tuple[object, ...]]:
    """These columns of all that is in quarantine, by file and line."""
    rows = quarantined(data.parent / "var").select(columns)
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def test_two_platforms_meet_in_one_person(store: Store, data: Path) -> None:
    report = run(store, data, mapping(data), mapping(data, VIDEO))
    user = PSEUDONYMS.user("raw-p")
    assert store.user_of(PSEUDONYMS.account("shop", "raw-ann")) == user
    assert store.user_of(PSEUDONYMS.account("video", "raw-anna")) == user
    bob = PSEUDONYMS.account("shop", "raw-bob")
    assert store.user_of(bob) == lone_user(bob)
    assert store.counts().nodes == {"Account": 3, "Item": 4, "Platform": 2, "Tag": 2, "User": 2}
    assert store.counts().edges == {"PURCHASED": 2, "VIEWED": 1, "TAGGED": 3, "OF": 3}
    assert [(event.item, event.type) for event in store.history(user)] == [
        ("shop:1", "PURCHASED"),
        ("shop:2", "VIEWED"),
    ]
    assert [(f.file, f.read, f.accepted, f.duplicates, f.rejected) for f in report.files] == [
        ("identities.csv", 2, 2, 0, 0),
        ("shop/items.csv", 3, 3, 0, 0),
        ("video.jsonl", 1, 1, 0, 0),
        ("shop/events-1.csv", 2, 2, 0, 0),
        ("shop/events-2.csv", 2, 1, 1, 0),
    ]
    assert not report.broken


def test_a_second_run_changes_nothing_and_counts_duplicates(store: Store, data: Path) -> None:
    first = run(store, data)
    before = checksum(store)
    second = run(store, data)
    assert checksum(store) == before
    assert (second.total.accepted, second.total.duplicates) == (0, first.total.read)


def test_the_order_of_the_mappings_does_not_matter(tmp_path: Path, data: Path) -> None:
    sums = []
    for number, texts in enumerate([(SHOP, VIDEO), (VIDEO, SHOP)]):
        with open_store(f"sqlite:///{tmp_path / f'{number}.db'}") as store:
            for text in texts:
                run(store, data, mapping(data, text))
            sums.append(checksum(store))
    assert sums[0] == sums[1]


def test_evidence_that_comes_later_joins_an_account_that_was_alone(store: Store, data: Path) -> None:
    alone = "\n".join(line for line in SHOP.splitlines() if not line.startswith("identities"))
    run(store, data, mapping(data, alone))
    ann = PSEUDONYMS.account("shop", "raw-ann")
    assert store.user_of(ann) == lone_user(ann)
    run(store, data)
    assert store.user_of(ann) == PSEUDONYMS.user("raw-p")
    run(store, data, mapping(data, alone))
    assert store.user_of(ann) == PSEUDONYMS.user("raw-p")


PEOPLE = """\
platform: {platform}
accounts: {{file: {platform}.csv, id: id, mail: mail, phone: phone, logins: {{shop: shop}}, at: since}}
"""


def people(tmp_path: Path, **files: str) -> list[Mapping]:
    """The mappings of platforms that say no more than whose their accounts are."""
    mappings = []
    for platform, rows in files.items():
        (tmp_path / f"{platform}.csv").write_text(f"id,mail,phone,shop,since\n{rows}")
        (tmp_path / f"{platform}.yaml").write_text(PEOPLE.format(platform=platform))
        mappings.append(read_mapping(tmp_path / f"{platform}.yaml"))
    return mappings


def test_mail_phone_and_logins_join_accounts_however_they_are_spelled(store: Store, tmp_path: Path) -> None:
    hashed = hashlib.sha256(b"ann@example.org").hexdigest()
    mappings = people(
        tmp_path,
        shop="1,Ann@Example.org ,,,\n2,,0049 (151) 123-4567,,2024-05-01\n3,,,,\n",
        video=f"a,{hashed.upper()},,,\nb,,+491511234567,,2024-06-01\nc,,,3,\nd,,,,\n",
    )
    report = ingest(mappings, store, PSEUDONYMS, tmp_path / "var", data=tmp_path)
    assert (report.total.accepted, report.total.rejected) == (7, 0)
    found = {link["account"]: link for batch in store.read_links() for link in batch.to_pylist()}
    pairs = {("1", "a"), ("2", "b"), ("3", "c")}
    for one, other in pairs:
        assert store.user_of(PSEUDONYMS.account("shop", one)) == store.user_of(PSEUDONYMS.account("video", other))
    assert len({link["user"] for link in found.values()}) == 4
    assert found[PSEUDONYMS.account("video", "c")]["evidence"] == "login"
    assert {f"{link['at']:%m-%d}" for link in found.values() if link["evidence"] == "phone" and link["at"]} == {"06-01"}
    again = ingest(mappings, store, PSEUDONYMS, tmp_path / "var", data=tmp_path)
    assert (again.total.accepted, again.total.duplicates) == (0, 7)


def test_contradictions_are_counted_in_the_report_of_a_run_that_brings_evidence(store: Store, tmp_path: Path) -> None:
    mappings = people(tmp_path, shop="1,a@x.org,,,\n2,a@x.org,,,\n", video="a,a@x.org,,,\n")
    report = ingest(mappings, store, PSEUDONYMS, tmp_path / "var", data=tmp_path)
    assert report.left_out == [("it would join two accounts of one platform", 3)]
    assert "        3 x it would join two accounts of one platform" in str(report)
    assert "@" not in str(report)


def test_what_is_no_mail_address_is_a_bad_row_that_does_not_show_it(tmp_path: Path) -> None:
    rows = "1,nobody,,,\n2,,call me,,\n3,,,3,\n4,n@x.org,,,when\n5,n@x.org,,,\n"
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        report = ingest(people(tmp_path, shop=rows), store, PSEUDONYMS, tmp_path / "var", data=tmp_path)
    assert (report.total.accepted, report.total.rejected) == (1, 4)
    assert {f"{broken.field} {broken.detail}": broken.rows for broken in report.broken} == {
        "mail is neither a mail address nor a hash of one in hexadecimal": 1,
        "phone is neither a telephone number with 6 to 15 digits nor a hash of one in hexadecimal": 1,
        "logins is the account itself": 1,
        "at is not ISO 8601, such as 2024-05-01T12:00:00Z": 1,
    }
    assert "nobody" not in str(quarantined(tmp_path / "var").to_pylist())
    assert "call me" not in str(quarantined(tmp_path / "var").to_pylist())


def test_who_was_erased_is_refused_wherever_a_row_names_them(store: Store, data: Path, tmp_path: Path) -> None:
    mappings = [mapping(data), mapping(data, VIDEO), *people(data, site="x,,,raw-bob,\ny,,,,\n")]
    ingest(mappings, store, PSEUDONYMS, tmp_path / "var", data=data)
    store.erase(PSEUDONYMS.user("raw-p"))
    store.erase(store.user_of(PSEUDONYMS.account("site", "x")) or PSEUDONYMS.user("?"))
    before = checksum(store)
    (data / "identities.csv").write_text(FILES["identities.csv"] + "raw-p,video,never-seen\nraw-q,video,raw-q\n")
    report = ingest(mappings, store, PSEUDONYMS, tmp_path / "var", data=data)
    # Ann's two rows and the new one of hers, four events, and the account that logged in as Bob.
    assert report.total.rejected == 8, str(report)
    assert store.user_of(PSEUDONYMS.account("video", "raw-q")) == PSEUDONYMS.user("raw-q")
    assert store.erased([PSEUDONYMS.account("video", "never-seen")]) != set()
    after = checksum(store)
    assert {label for label in before if before[label] != after[label]} == {"Account", "User", "OF"}


def test_bad_rows_are_set_aside_with_line_and_reason_and_without_identities(store: Store, data: Path) -> None:
    (data / "shop/events-1.csv").write_text(
        "account,item,kind,at,mail\n"
        "raw-ann,1,buy,10,ann@example.org\n"
        "raw-ann,9,buy,10,ann@example.org\n"
        "raw-ann,1,steal,10,ann@example.org\n"
        ",1,buy,10,ann@example.org\n"
        "raw-ann,1,buy\n"
    )
    (data / "identities.csv").write_text(
        "person,platform,account\nraw-p,shop,raw-ann\nraw-q,shop,raw-ann\nraw-p,shop,raw-ann\n"
    )
    report = run(store, data)
    total = report.total
    assert (total.read, total.accepted, total.duplicates, total.rejected) == (13, 6, 2, 5)
    ann, unknown = (
        PSEUDONYMS.account("shop", "raw-ann"),
        "is an item that no items file of this run or an earlier one names",
    )
    assert rejects(data, "file", "line", "field", "value", "rule", "detail", "account") == [
        ("identities.csv", 3, "account", "", "contradicts-person", "belongs to another person by an earlier row", ann),
        ("shop/events-1.csv", 3, "item", "shop:9", "unknown-item", unknown, ann),
        ("shop/events-1.csv", 4, "type", "steal", "unknown-type", "is none of the mapping's types: buy, look", ann),
        ("shop/events-1.csv", 5, "account", "", "empty", "is empty", None),
        ("shop/events-1.csv", 6, "", "", "malformed", "has 3 fields where the header has 5", None),
    ]
    assert {advice for (advice,) in rejects(data, "advice")} == {broken.rule.advice for broken in report.broken}
    assert "rejected rows are in" in str(report)
    assert "1 x unknown-type: type is none of the mapping's types: buy, look (shop/events-1.csv, events, first" in str(
        report
    )
    assert Rule.UNKNOWN_TYPE.advice in str(report)


def test_no_raw_id_is_anywhere_in_the_store_or_in_quarantine(tmp_path: Path, store: Store, data: Path) -> None:
    (data / "shop/events-2.csv").write_text("account,item,kind,at\nraw-bob,1,steal,30\nraw-ann,1,buy,x\nraw-ann\n")
    run(store, data)
    store.close()
    kept = [path for path in [tmp_path / "graph.db", *(tmp_path / "var").rglob("*")] if path.is_file()]
    assert len(kept) == 2
    assert rejects(data, "line", "value") == [(2, "steal"), (3, "x"), (4, "")]
    for path in kept:
        assert b"raw-" not in path.read_bytes(), path


def test_events_of_a_later_export_find_the_items_of_an_earlier_one(store: Store, data: Path) -> None:
    run(store, data)
    later = "platform: shop\n" + SHOP[SHOP.index("events:") :].replace("events-*", "events-1")
    (data / "shop/events-1.csv").write_text("account,item,kind,at\nraw-ann,3,buy,99\nraw-ann,4,buy,99\n")
    report = run(store, data, mapping(data, later))
    assert (report.files[0].accepted, report.files[0].rejected) == (1, 1)
    assert [item.title for item in store.items([ItemKey("shop", "3")])] == ["Mug"]


def test_batches_smaller_than_a_file_change_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums, totals = [], []
    for size in (10_000, 1):
        monkeypatch.setattr("ingest.batches.BATCH", size)
        with open_store(f"sqlite:///{tmp_path / f'{size}.db'}") as store:
            report = run(store, data, mapping(data), mapping(data, VIDEO))
            totals.append((report.total.read, report.total.accepted, report.total.duplicates))
            sums.append(checksum(store))
    assert sums[0] == sums[1]
    assert totals[0] == totals[1]


KNOWLEDGE = """\
platform: shop
items: {file: shop/items.csv, id: item}
knowledge:
  links: {file: links.csv, item: item, entity: entity}
  triples: {file: triples.csv, head: head, relation: relation, tail: tail}
  relations:
    made_by: {type: MADE_BY, kind: company}
    makes: {type: MADE_BY, kind: company, inverse: true}
    goes_with: {type: GOES_WITH, kind: item}
"""


def test_triples_join_items_to_entities_and_an_inverse_is_a_duplicate(store: Store, data: Path) -> None:
    (data / "links.csv").write_text("item,entity\n1,m.tent\n2,m.stove\n1,m.tent\n3,m.tent\n9,m.none\n")
    (data / "triples.csv").write_text(
        "head,relation,tail\n"
        "m.tent,made_by,m.acme\n"
        "m.acme,makes,m.tent\n"
        "m.stove,made_by,m.acme\n"
        "m.tent,goes_with,m.stove\n"
        "m.tent,goes_with,m.moon\n"
        "m.moon,made_by,m.cheese\n"
        "m.tent,painted_by,m.ann\n"
    )
    report = run(store, data, mapping(data, KNOWLEDGE))
    links, triples = report.files[1], report.files[2]
    assert (links.accepted, links.duplicates, links.rejected) == (2, 1, 2)
    assert (triples.accepted, triples.duplicates, triples.rejected) == (3, 1, 3)
    assert store.counts().edges == {"MADE_BY": 2, "GOES_WITH": 1}
    assert rejects(data, "file", "line", "field", "value", "rule") == [
        ("links.csv", 5, "entity", "m.tent", "contradicts-link"),
        ("links.csv", 6, "item", "shop:9", "unknown-item"),
        ("triples.csv", 6, "tail", "m.moon", "unlinked"),
        ("triples.csv", 7, "head", "m.moon", "unlinked"),
        ("triples.csv", 8, "relation", "painted_by", "unknown-relation"),
    ]
    before = checksum(store)
    run(store, data, mapping(data, KNOWLEDGE))
    assert checksum(store) == before


def test_nothing_is_written_when_any_file_or_column_is_missing(store: Store, data: Path) -> None:
    store.ensure_schema()
    (data / "shop/events-2.csv").write_text("account,itm,kind,at\n")
    with pytest.raises(
        MappingError, match=r"line 11: events\.item names column 'item', shop/events-2\.csv has account"
    ):
        run(store, data)
    with pytest.raises(MappingError, match=r"items\.file names shop/item\.csv, .*did you mean shop/items\.csv\?"):
        run(store, data, mapping(data, SHOP.replace("shop/items.csv", "shop/item.csv")))
    with pytest.raises(SourceError, match="is not a directory: give --data"):
        run(store, data / "nowhere", mapping(data))
    assert store.counts().nodes == {}


def test_one_file_holds_several_platforms(store: Store, data: Path) -> None:
    (data / "all.csv").write_text("site,item,who,at\nA.example,1,raw-u,2020-01-01\nB Two,1,raw-u,2020-01-02\n")
    text = """\
platform: {column: site}
items: {file: all.csv, id: item}
identities: {file: all.csv, person: who, platform: site, account: who}
events: {file: all.csv, account: who, item: item, type: VIEWED, at: at}
"""
    run(store, data, mapping(data, text))
    assert store.counts().nodes == {"Platform": 2, "Item": 2, "Account": 2, "User": 1}
    events = store.history(PSEUDONYMS.user("raw-u"))
    assert [event.item for event in events] == ["a.example:1", "b-two:1"]


def test_a_short_run_shows_no_bar_and_a_long_one_does(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for quiet_s, shown in ((60.0, False), (0.0, True)):
        monkeypatch.setattr("ingest.load._QUIET_S", quiet_s)
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=80)
        ingest([mapping(data)], store, PSEUDONYMS, data.parent / "var", data=data, console=console)
        assert ("ingest" in out.getvalue()) is shown


def test_an_event_told_again_with_another_value_is_a_contradiction_and_without_one_a_duplicate(
    store: Store, data: Path
) -> None:
    text = SHOP.replace("kind, values: {buy: PURCHASED, look: VIEWED}}", "kind, values: {rate: RATED, look: VIEWED}}")
    text += "  id: id\n  value: {column: stars, scale: [1, 5]}\n"
    header = "account,item,kind,at,id,stars\n"
    (data / "shop/events-1.csv").write_text(f"{header}raw-ann,1,rate,10,e1,4\nraw-ann,1,rate,10,e1,4\n")
    (data / "shop/events-2.csv").write_text(
        f"{header}raw-ann,1,rate,10,e1,5\nraw-ann,1,rate,10,e1,\nraw-ann,2,rate,10,e1,4\nraw-bob,1,rate,10,e1,4\n"
        "raw-ann,1,rate,11,e1,4\nraw-ann,1,look,99,e1,1\n"
    )
    for run_number in range(2):
        report = run(store, data, mapping(data, text))
        assert [(f.accepted, f.duplicates, f.rejected) for f in report.files[2:]] == (
            [(1, 1, 0), (1, 1, 4)] if run_number == 0 else [(0, 2, 0), (0, 2, 4)]
        )
        assert rejects(data, "line", "field", "value", "rule") == [
            (2, "value", "5.0", "contradicts-event"),
            (4, "item", "shop:2", "contradicts-event"),
            (5, "account", "", "contradicts-event"),
            (6, "at", "1970-01-01 00:00:11+00:00", "contradicts-event"),
        ]
    assert [event.value for event in store.events("RATED", ["shop:e1", "shop:none"])] == [4.0]


def test_two_rows_of_one_run_that_call_an_item_differently_contradict_and_a_later_run_knows_better(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = "item,title,tags\n1,Tent,\n2,,\n1,Tent,summer\n2,Stove,\n1,Tents,\n1,,\n2,Oven,\n3,Mug,\n"
    for batch in (1, 2, 100):
        monkeypatch.setattr("ingest.batches.BATCH", batch)
        (data / "shop/items.csv").write_text(items)
        report = run(store, data)
        assert (report.files[1].read, report.files[1].rejected) == (8, 2)
        assert rejects(data, "line", "field", "value", "rule") == [
            (6, "title", "Tents", "contradicts-item"),
            (8, "title", "Oven", "contradicts-item"),
        ]
        assert [item.title for item in store.items([ItemKey("shop", "1"), ItemKey("shop", "2")])] == ["Tent", "Stove"]
    (data / "shop/items.csv").write_text("item,title,tags\n1,Tents,\n2,Oven,\n3,Mug,\n")
    assert not run(store, data).broken
    assert [item.title for item in store.items([ItemKey("shop", "1")])] == ["Tents"]


def test_what_a_mapping_says_means_nothing_is_missing_and_counted(store: Store, data: Path) -> None:
    (data / "shop/items.csv").write_text("item,title,tags\n1,NULL,\\N\n2,Stove,outdoor\n3,  ,\n")
    (data / "shop/events-1.csv").write_text("account,item,kind,at\nNULL,1,buy,10\n")
    text = SHOP.replace("  id: item\n", '  id: item\n  missing: ["NULL", "\\\\N"]\n')
    text = text.replace("  account: account\n", "  account: account\n  missing: ['NULL']\n")
    report = run(store, data, mapping(data, text))
    assert report.files[1].missing == {"title": 2}
    assert "shop/items.csv (items): 2 rows without title" in str(report)
    assert [item.title for item in store.items([ItemKey("shop", id) for id in "123"])] == [None, "Stove", None]
    assert store.counts().nodes["Tag"] == 1
    assert rejects(data, "line", "field", "rule") == [(2, "account", "empty")]


def test_an_event_of_the_day_after_tomorrow_has_not_happened(store: Store, data: Path) -> None:
    now = int(datetime.now(UTC).timestamp())
    (data / "shop/events-1.csv").write_text(
        f"account,item,kind,at\nraw-ann,1,buy,{now + 3600}\nraw-ann,1,buy,{now + 2 * 86_400}\n"
    )
    assert run(store, data).files[2].accepted == 1
    assert rejects(data, "line", "rule") == [(3, "in-the-future")]


FIELD = st.sampled_from(["", "1", "2", "7", "raw-ann", "buy", "look", "10", "20", "ten", 'a"b', "x,y", "é\n", "\x00"])


@settings(max_examples=15)
@given(rows=st.lists(st.lists(FIELD, min_size=1, max_size=6), max_size=30))
def test_counts_add_up_whatever_the_rows_are(
    tmp_path_factory: pytest.TempPathFactory, rows: Sequence[Sequence[str]]
) -> None:
    data = tmp_path_factory.mktemp("run") / "data"
    for name, text in FILES.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(text)
    with (data / "shop/events-1.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["account", "item", "kind", "at"], *rows])
    with open_store(f"sqlite:///{data / 'graph.db'}") as store:
        report = run(store, data)
        events = report.files[2]
        assert events.read == len(rows)
        assert events.accepted + events.duplicates + events.rejected == events.read
        assert sum(store.counts().edges.get(type, 0) for type in ("PURCHASED", "VIEWED")) == (
            events.accepted + report.files[3].accepted
        )
        assert events.rejected == len(quarantined(data.parent / "var"))
        assert events.rejected == sum(broken.rows for broken in report.broken)


ROWS = {
    "identities": ["p,shop,ann", "p,video,anna", "q,shop,bob", "r,video,bert"],
    "shop/items": ["1,Tent,outdoor|summer", "2,Stove,outdoor", "3,,", "2,,winter"],
    "video": ['{"id": "v1", "name": "Camping"}', '{"id": "v2", "name": null}', '{"id": "v2", "name": "Snow"}'],
    "shop/events": ["ann,1,buy,10", "ann,2,look,20", "bob,1,buy,10", "cleo,3,look,5", "ann,1,buy,40"],
}
HEADS = {
    "identities": "person,platform,account",
    "shop/items": "item,title,tags",
    "shop/events": "account,item,kind,at",
}
ENDS = {"video": "jsonl"}


@st.composite
def exports(draw: st.DrawFn) -> list[dict[str, list[str]]]:
    """Exports that together hold all of ROWS: one or several, overlapping, each row anywhere, in any order."""
    number = draw(st.integers(1, 3))
    each: list[dict[str, list[str]]] = [{name: [] for name in ROWS} for _ in range(number)]
    for name, rows in ROWS.items():
        for row in rows:
            for at in draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=3)):
                each[at][name].append(row)
        for export in each:
            export[name] = draw(st.permutations(export[name]))
    return each


@settings(max_examples=8)
@given(exports=exports(), together=st.booleans())
def test_overlapping_exports_in_any_order_give_one_checksum(
    tmp_path_factory: pytest.TempPathFactory, exports: list[dict[str, list[str]]], together: bool
) -> None:
    """Either as files of one run, or as runs over an export each; these are repeated, for events before their items."""
    folder = tmp_path_factory.mktemp("run")
    with (
        open_store(f"sqlite:///{folder / 'whole.db'}") as whole,
        open_store(f"sqlite:///{folder / 'parts.db'}") as store,
    ):
        read_exports(whole, folder / "whole", [[ROWS]])
        read_exports(store, folder / "parts", [exports] if together else [[export] for export in exports] * 2)
        assert checksum(store) == checksum(whole)


def read_exports(store: Store, folder: Path, runs: Sequence[list[dict[str, list[str]]]]) -> None:
    """Runs over some exports each."""
    texts = [text.replace("items.csv", "items-*.csv").replace("identities.csv", "identities-*.csv") for text in FINAL]
    for number, files in enumerate(runs):
        data = written(folder / f"run-{number}" / "data", files)
        report = run(store, data, *(mapping(data.parent, text) for text in texts))
        assert report.total.accepted + report.total.duplicates + report.total.rejected == report.total.read


FINAL = (SHOP, VIDEO.replace("video.jsonl", "video-*.jsonl"))


def written(data: Path, exports: Sequence[dict[str, list[str]]]) -> Path:
    for number, export in enumerate(exports, 1):
        for name, rows in export.items():
            path = data / f"{name}-{number}.{ENDS.get(name, 'csv')}"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [HEADS[name]] if name in HEADS else ['{"id": "v1", "name": "Camping"}']
            path.write_text("\n".join([*lines, *rows, ""]))
    return data
