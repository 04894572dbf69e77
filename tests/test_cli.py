"""The command line: help to learn from, one sentence for what a user can mend, exit codes that scripts can read."""

import contextlib
import errno
import gzip
import hashlib
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import isthmus
from graph.keys import ItemKey, Pseudonyms, lone_user
from graph.records import Event, Item
from graph.snapshot import Snapshot, write_snapshot
from graph.store import checksum, open_store
from models.encoder import EncoderConfig
from serve.outbox import Outbox
from settings import read_settings
from tests.embedding_server import KEY, embedding_server
from train.loop import LoopConfig
from train.regimes import suited
from train.runs import Run

ISTHMUS = Path(sys.executable).with_name("isthmus")
SECRET = "a secret of the tests"
COMMANDS = ["demo", "ingest", "embed", "train", "evaluate", "compare", "serve"]
COMMANDS += ["person", "link", "unlink", "erase", "rotate"]

MAPPING = """
platform: shop
items: {file: items.csv, id: sku, title: name}
events: {file: orders.csv, account: customer, item: sku, type: PURCHASED, at: {column: at, format: seconds}}
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A shop's export with its mapping, in the working directory; one of its three orders is of an unknown item."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISTHMUS_PSEUDONYM_KEY", SECRET)
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / "items.csv").write_text("sku,name\nk1,Kettle\nc1,Cup\n")
    (tmp_path / "orders.csv").write_text("customer,sku,at\nann,k1,100\nann,c1,200\nbob,x9,300\n")
    return tmp_path


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ISTHMUS, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs a command in this process, which takes a tenth of a new one's time."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        code = _exit_code(monkeypatch, *arguments)
        return subprocess.CompletedProcess(arguments, int(code or 0), *capsys.readouterr())

    return run


def _exit_code(monkeypatch, *arguments: str) -> int | str | None:
    """What a command that runs in this process exits with."""
    monkeypatch.setattr(sys, "argv", ["isthmus", *arguments])
    with pytest.raises(SystemExit) as ended:
        isthmus.main()
    return ended.value.code


def _said(capsys, monkeypatch, *arguments: str) -> str:
    """What a command that succeeds in this process prints."""
    assert _exit_code(monkeypatch, *arguments) == 0
    printed: str = capsys.readouterr().out
    return printed


def _refused(capsys, monkeypatch, *arguments: str) -> str:
    """The sentence that a command ends with, in this process."""
    code = _exit_code(monkeypatch, *arguments)
    written = capsys.readouterr().err
    assert code == 1, written
    assert written.startswith("isthmus: ")
    assert written.count("\n") == 1, "more than one line"
    return written


def test_help_lists_every_command_in_the_order_of_the_road():
    shown = _run("--help").stdout
    listed = re.findall(r"^│ ([a-z][a-z-]*) ", shown, re.MULTILINE)
    road = ["demo", "mapping", "ingest", "embed", "vectors", "same-work", "train", "evaluate", "compare", "recommend"]
    care = ["retrain", "key", "person", "link", "unlink", "erase", "rotate", "quarantine", "bulk"]
    assert listed == [*road, "serve", *care]


COMMANDS = ["demo", "ingest", "embed", "vectors", "same-work", "train", "evaluate", "compare", "serve"]


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, "recommend", "retrain", "key", "person", "link", "unlink", "erase", "rotate"],
)
def test_every_command_explains_itself(command, capsys, monkeypatch):
    assert _exit_code(monkeypatch, command, "--help") == 0
    shown = capsys.readouterr().out
    assert f" {command} [OPTIONS]" in shown
    assert "--var" in shown
    assert "--config" in shown


@pytest.mark.parametrize(("command", "extra"), [("embed", "multilingual"), ("train", "mlflow")])
def test_help_shows_the_name_of_an_extra(command, extra, capsys, monkeypatch):
    """Square brackets that are not escaped are markup to Rich, and vanish."""
    assert _exit_code(monkeypatch, command, "--help") == 0
    assert f"'isthmus[{extra}]'" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["list", "show", "retry"])
def test_every_command_of_the_quarantine_explains_itself(command, capsys, monkeypatch):
    assert _exit_code(monkeypatch, "quarantine", command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"isthmus quarantine {command} [OPTIONS]" in shown
    assert f"Example: isthmus quarantine {command}" in shown


@pytest.mark.parametrize("arguments", [["bogus"], ["ingest"], ["serve", "--port", "http"], ["embed", "--bogus"]])
def test_a_command_that_is_not_one_exits_with_2(arguments, monkeypatch):
    assert _exit_code(monkeypatch, *arguments) == 2


def test_ingest_writes_the_graph_and_says_what_became_of_each_row(shop):
    first = _run("ingest", "shop.yaml")
    assert first.returncode == 0, first.stderr
    assert re.search(r"total +5 +4 +0 +1", first.stdout.replace("│", " ")), first.stdout
    assert "quarantine" in first.stdout
    with open_store("sqlite:///var/graph.db") as store:
        assert store.counts().edges["PURCHASED"] == 2
    again = _run("ingest", "shop.yaml")
    assert re.search(r"total +5 +0 +4 +1", again.stdout), again.stdout


def test_a_rejected_row_is_listed_shown_and_taken_once_its_item_is_there(shop, capsys, monkeypatch):
    assert "0 rows are in quarantine" in _said(capsys, monkeypatch, "quarantine", "list")
    _said(capsys, monkeypatch, "ingest", "shop.yaml")
    listed = _said(capsys, monkeypatch, "quarantine", "list")
    assert "run or an earlier one names (orders.csv, events, first in line 4)" in listed
    assert "isthmus quarantine retry then takes the row" in listed
    assert _said(capsys, monkeypatch, "quarantine", "show", "--limit", "5") == (
        "orders.csv line 4: item 'shop:x9' is an item that no items file of this run or an earlier one names "
        "(unknown-item)\n"
    )
    assert "no such row" in _said(capsys, monkeypatch, "quarantine", "show", "--rule", "off-scale")
    (shop / "new.yaml").write_text("platform: shop\nitems: {file: new.csv, id: sku}\n")
    (shop / "new.csv").write_text("sku\nx9\n")
    _said(capsys, monkeypatch, "ingest", "new.yaml")
    retried = _said(capsys, monkeypatch, "quarantine", "retry")
    assert re.search(r"total +1 +1 +0 +0", retried), retried
    assert _said(capsys, monkeypatch, "quarantine", "retry") == "there is nothing in quarantine\n"
    with open_store("sqlite:///var/graph.db") as store:
        assert store.counts().edges["PURCHASED"] == 3


def test_a_drafted_mapping_is_checked_and_ingested_as_it_is(shop):
    drafted = _run("mapping", "init", "items.csv", "orders.csv", "--platform", "shop", "--out", "first.yaml")
    assert "isthmus mapping check first.yaml" in drafted.stdout, drafted.stderr
    checked = _run("mapping", "check", "first.yaml")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.search(r"total +5 +4 +0 +1", checked.stdout), checked.stdout
    assert not (shop / "var").exists()
    assert re.search(r"total +5 +4 +0 +1", _run("ingest", "first.yaml").stdout)


def test_check_exits_with_1_where_no_row_of_a_file_is_taken(shop, capsys, monkeypatch):
    (shop / "shop.yaml").write_text(MAPPING.replace("format: seconds", "format: iso"))
    assert "no row of orders.csv was taken" in _refused(capsys, monkeypatch, "mapping", "check", "shop.yaml")


@pytest.mark.parametrize("command", ["init", "check"])
def test_every_command_about_mappings_explains_itself(command, capsys, monkeypatch):
    assert _exit_code(monkeypatch, "mapping", command, "--help") == 0
    assert "Example: isthmus mapping" in capsys.readouterr().out


def test_an_endpoint_embeds_within_a_budget_and_images_are_brought(shop, run, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("ISTHMUS_TEXT_API_KEY", KEY)
    with open_store("sqlite:///var/graph.db") as store:
        store.ensure_schema()
        store.upsert_nodes([Item(ItemKey("shop", f"k{number}"), title=f"kettle {number}") for number in range(3)])
    with embedding_server() as server:
        embed = ["embed", "--text-model", f"openai:tiny@{server.url}"]
        stopped = run(*embed, "--budget", "13")
        whole = run(*embed)
    assert stopped.returncode == 1
    assert "has used 2 of 13 tokens" in stopped.stderr, "a kettle may take 12 and takes 2"
    assert "1 of 3 new texts are embedded and kept" in stopped.stderr
    assert whole.stdout.endswith("texts/s, 4 tokens\n")
    assert server.keys == [f"Bearer {KEY}"] * 2
    assert KEY not in "".join(said.stdout + said.stderr for said in (stopped, whole))

    pq.write_table(pa.table({"sku": ["k0", "k9"], "clip": [[1.0, 0.0], [0.0, 1.0]]}), shop / "images.parquet")
    said = run("vectors", "images", "images.parquet", "--platform", "shop", "--key", "sku", "--column", "clip")
    assert said.stdout.splitlines() == [
        "2 rows: 1 kept, 0 repeated, 0 without a vector, 1 of no item",
        "images: 1 of 3 items have a vector of 2 numbers",
    ]


def test_the_same_work_is_linked_and_unlinked(shop, monkeypatch, capsys):
    from tests.ingest.test_same_work import ITEMS, write_vectors

    with open_store("sqlite:///var/graph.db") as store:
        store.upsert_nodes(ITEMS)
    write_vectors(Path("var/vectors/all-MiniLM-L6-v2/Item.parquet"))
    for arguments, said in (([], "cinema and shop: 1"), (["--undo"], "1 links were taken back")):
        monkeypatch.setattr(sys, "argv", ["isthmus", "same-work", *arguments])
        with pytest.raises(SystemExit) as ended:
            isthmus.main()
        assert ended.value.code in {None, 0}
        assert capsys.readouterr().out.strip() == said


def test_the_secret_for_pseudonyms_is_mentioned_once(shop, monkeypatch):
    monkeypatch.delenv("ISTHMUS_PSEUDONYM_KEY")
    assert "var/pseudonym.key" in _run("ingest", "shop.yaml").stderr
    assert "var/pseudonym.key" not in _run("ingest", "shop.yaml").stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ingest", "shop.yaml", "--store", "mysql://host/db"], "not a store URL"),
        (["ingest", "missing.yaml"], "missing.yaml"),
        (["ingest", "shop.yaml", "--data", "nowhere"], "nowhere"),
        (["ingest", "shop.yaml", "--config", "missing.yaml"], "missing.yaml is not there"),
        (["mapping", "init", "missing.csv"], "missing.csv is not there"),
        (["mapping", "init", "items.csv", "--platform", "The Shop"], "'The Shop' is not a platform name"),
        (["mapping", "check", "missing.yaml"], "missing.yaml"),
        (["serve", "--port", "80000"], "port is 80000"),
        (["key", "The Shop"], "the key on a line is not written as"),
        (["key", "shop", "--scopes", "all"], "the key shop has the unknown scope 'all'"),
        (["embed", "--index"], "SQLite has no vector index"),
        (["embed", "--budget", "5"], "all-MiniLM-L6-v2 runs here and uses no tokens"),
        (["embed", "--text-model", "openai:tiny@localhost:8000/v1"], "openai:MODEL@http(s)://HOST/v1"),
        (["vectors", "images", "missing.parquet"], "missing.parquet cannot be read as Parquet"),
        (["same-work"], "write the vectors of that model with isthmus embed"),
        (["compare", "--metrics", "ndcg"], "'ndcg' is no metric"),
        (["quarantine", "show", "--rule", "unknown-items"], "'unknown-items' is no rule; did you mean unknown-item?"),
        (["erase", "shop", "--yes"], "'shop' names nobody"),
        (["erase", "shop:nobody", "--yes"], "nobody called 'shop:nobody'"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(shop, capsys, monkeypatch, arguments, sentence):
    assert sentence in _refused(capsys, monkeypatch, *arguments)


def test_an_unreachable_neo4j_is_one_sentence_without_the_password(shop, capsys, monkeypatch):
    url = "neo4j://neo4j:geheim@127.0.0.1:1/neo4j"
    sentence = _refused(capsys, monkeypatch, "ingest", "shop.yaml", "--store", url)
    assert "127.0.0.1:1" in sentence
    assert "geheim" not in sentence


@pytest.mark.parametrize("number", sorted(isthmus.MENDABLE))
def test_what_the_system_refuses_is_one_sentence_with_the_file(capsys, monkeypatch, number):
    def refuse() -> None:
        raise OSError(number, "refused", "var/graph.db")

    monkeypatch.setattr(isthmus, "app", refuse)
    assert "var/graph.db: " in _refused(capsys, monkeypatch)


def test_ctrl_c_exits_with_130_and_no_traceback(tmp_path):
    mapping = tmp_path / "shop.yaml"
    os.mkfifo(mapping)
    with subprocess.Popen([ISTHMUS, "ingest", mapping], stderr=subprocess.PIPE, text=True) as process:
        with mapping.open("w"):  # opens when the command has, which then waits for what is written
            for _ in range(6):  # one that arrives just before the command begins to wait is seen only by the next
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                    break
            assert process.returncode == 130
        assert "Traceback" not in process.stderr.read()


def test_a_followed_folder_is_in_the_graph_and_a_signal_ends_it_with_the_report(shop):
    command = [ISTHMUS, "ingest", "shop.yaml", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "following; Ctrl-C ends it" in line:
                break
        with (shop / "orders.csv").open("a") as orders:
            orders.write("bob,k1,400\n")
        assert "orders.csv (events): 1 read, 1 accepted, 0 duplicates, 0 rejected" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        report, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert re.search(r"orders\.csv +events +4 +3 +0 +1", report)
    assert re.search(r"total +6 +5 +0 +1", report)
    assert (shop / "var" / "reports").is_dir()


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def fail() -> None:
        raise OSError(errno.EIO, "a broken disk")

    monkeypatch.setattr(isthmus, "app", fail)
    with pytest.raises(OSError, match="a broken disk"):
        isthmus.main()


def test_erase_forgets_a_person_in_store_outbox_and_snapshots(shop):
    _run("ingest", "shop.yaml")
    with open_store("sqlite:///var/graph.db") as store:
        snapshot = write_snapshot(store, shop / "var" / "snapshots")
        account = Pseudonyms(SECRET.encode()).account("shop", "ann")
        assert store.user_of(account) is not None
    done = _run("erase", "shop:ann", "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 accounts, 2 events" in done.stdout
    assert not snapshot.path.exists()
    with open_store("sqlite:///var/graph.db") as store:
        assert store.user_of(account) is None
    assert account.digest.encode() not in b"".join(path.read_bytes() for path in (shop / "var").rglob("*.*"))


def test_erase_asks_first_and_a_no_leaves_everything(shop):
    _run("ingest", "shop.yaml")
    answered = subprocess.run([ISTHMUS, "erase", "shop:ann"], input="n\n", capture_output=True, text=True, check=False)
    assert answered.returncode == 1
    with open_store("sqlite:///var/graph.db") as store:
        assert store.counts().edges["PURCHASED"] == 2


def test_erase_refuses_the_rows_of_a_second_import_also_into_a_new_store(shop, run):
    run("ingest", "shop.yaml")
    run("erase", "shop:ann", "--yes")
    for store in ("sqlite:///var/graph.db", "sqlite:///var/new.db"):
        again = run("ingest", "shop.yaml", "--store", store)
        assert re.search(r"2 x erased: account is of somebody who was erased", again.stdout), again.stdout
        with open_store(store) as graph:
            assert graph.counts().edges == {}
    assert "ann" not in again.stdout + again.stderr


def test_erase_proves_that_nothing_is_left_and_what_it_searched(shop, run):
    (shop / "people.csv").write_text("customer,mail\nann,ann@example.org\nbob,bob@example.org\n")
    (shop / "shop.yaml").write_text(MAPPING + "accounts: {file: people.csv, id: customer, mail: mail}\n")
    run("ingest", "shop.yaml")
    backup = shop / "var" / "backup.db.gz"
    with open_store("sqlite:///var/graph.db") as store:
        account = Pseudonyms(SECRET.encode()).account("shop", "ann")
        write_snapshot(store, shop / "var" / "snapshots")
    backup.write_bytes(gzip.compress((shop / "var" / "graph.db").read_bytes()))
    found = run("erase", "shop:ann", "--yes", "--prove")
    assert found.returncode == 1
    assert re.search(r" [1-9] +var/backup.db.gz\n", found.stdout), found.stdout
    assert re.search(r" 0 +var/graph.db\n", found.stdout), found.stdout
    assert "isthmus: traces of user:" in found.stderr
    backup.unlink()
    proved = run("erase", "shop:ann", "--prove")
    assert proved.returncode == 0, proved.stderr
    assert "No trace in" in proved.stdout
    assert "outbox.db" in proved.stdout
    assert re.search(r"\n +\d+ +0  evidence\n", proved.stdout), proved.stdout
    assert account.digest not in found.stdout.partition("Searched")[2].replace(f"user:{account.digest}", "")


def test_link_joins_two_accounts_and_unlink_takes_it_back(shop, run):
    (shop / "orders.csv").write_text("customer,sku,at\nann,k1,100\nbob,c1,200\n")
    run("ingest", "shop.yaml")
    ann, bob = (Pseudonyms(SECRET.encode()).account("shop", name) for name in ("ann", "bob"))
    with open_store("sqlite:///var/graph.db") as store:
        before = checksum(store)
    linked = run("link", "shop:ann", bob, "--source", "ticket-17")
    assert linked.returncode == 0, linked.stderr
    shown = run("person", "shop:bob").stdout
    assert f"  {ann}  login, since " in shown
    assert "says ticket-17, since " in shown
    assert "Linked already" in run("link", "shop:ann", "shop:bob").stdout
    assert "Taken back: 1 " in run("unlink", "shop:ann", "shop:bob").stdout
    with open_store("sqlite:///var/graph.db") as store:
        assert checksum(store) == before
    assert "Linked:" in run("link", "shop:ann", "shop:bob").stdout


def test_link_says_what_speaks_against_it_and_leaves_the_graph_as_it_was(shop, run):
    (shop / "people.csv").write_text("customer,mail,phone\nann,a@example.org,+4915112345\nbob,,\n")
    (shop / "film.csv").write_text("id,mail,phone\nanna,a@example.org,+4915112345\n")
    (shop / "shop.yaml").write_text(MAPPING + "accounts: {file: people.csv, id: customer, mail: mail, phone: phone}\n")
    (shop / "film.yaml").write_text("platform: film\naccounts: {file: film.csv, id: id, mail: mail, phone: phone}\n")
    assert run("ingest", "shop.yaml", "film.yaml").returncode == 0
    with open_store("sqlite:///var/graph.db") as store:
        before = checksum(store)
        code = run("link", "film:anna", "shop:bob")
        assert code.returncode == 1
        assert "stay two persons: it would join two accounts of one platform" in code.stderr
        assert checksum(store) == before
    assert run("link", "shop:ann", "shop:bob").returncode == 0
    assert "Linked" in run("link", "film:anna", "shop:bob").stdout


def test_a_key_is_shown_once_and_its_hash_is_kept(shop, run):
    made = run("key", "shop", "--scopes", "read,write", "--per-minute", "60")
    assert made.returncode == 0
    text = made.stdout.strip()
    assert "Shown this once; its hash is kept in var/keys" in made.stderr
    line = (shop / "var" / "keys").read_text().strip()
    assert line == f"shop read,write 60 {hashlib.sha256(text.encode()).hexdigest()}"
    printed = run("key", "ops", "--scopes", "admin", "--print")
    assert f"ops admin 600 {hashlib.sha256(printed.stdout.strip().encode()).hexdigest()}" in printed.stderr
    assert (shop / "var" / "keys").read_text().strip() == line


def test_rotate_puts_every_pseudonym_under_a_new_secret_and_the_rows_are_known_again(shop, run, monkeypatch):
    monkeypatch.delenv("ISTHMUS_PSEUDONYM_KEY")
    (shop / "orders.csv").write_text("customer,sku,at\nann,k1,100\nbob,c1,200\neve,c1,300\n")
    run("ingest", "shop.yaml")
    run("erase", "shop:eve", "--yes")
    old = (shop / "var" / "pseudonym.key").read_bytes()
    done = run("rotate", "sqlite:///var/graph-2.db")
    assert done.returncode == 0, done.stderr
    kept = (shop / "var" / "pseudonym.key").read_bytes()
    assert kept.startswith(old)
    assert len(kept.split()) == 2
    assert (shop / "var" / "pseudonym.key").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("ISTHMUS_STORE", "sqlite:///var/graph-2.db")
    again = run("ingest", "shop.yaml")
    assert re.search(r"total +5 +0 +4 +1", again.stdout), again.stdout
    assert "erased" in again.stdout
    ann = Pseudonyms(old.strip()).account("shop", "ann")
    assert ann.digest.encode() not in (shop / "var" / "graph-2.db").read_bytes()
    assert "account:shop:" in run("person", "shop:ann").stdout


def test_a_secret_of_the_environment_is_rotated_to_one_of_the_environment(shop, run, monkeypatch):
    run("ingest", "shop.yaml")
    assert "ISTHMUS_NEXT_PSEUDONYM_KEY" in run("rotate", "sqlite:///var/graph-2.db").stderr
    monkeypatch.setenv("ISTHMUS_NEXT_PSEUDONYM_KEY", "another secret of the tests")
    done = run("rotate", "sqlite:///var/graph-2.db")
    assert done.returncode == 0, done.stderr
    assert "secret of the tests" not in done.stdout + done.stderr
    monkeypatch.setenv("ISTHMUS_PSEUDONYM_KEY", "another secret of the tests")
    monkeypatch.setenv("ISTHMUS_FORMER_PSEUDONYM_KEYS", f'["{SECRET}"]')
    monkeypatch.delenv("ISTHMUS_NEXT_PSEUDONYM_KEY")
    again = run("ingest", "shop.yaml", "--store", "sqlite:///var/graph-2.db")
    assert re.search(r"total +5 +0 +4 +1", again.stdout), again.stdout + again.stderr


def test_no_raw_identity_is_in_any_file_or_message(shop, run):
    """Check 6 of the twenty: planted values appear nowhere, in good rows and bad ones."""
    canaries = ["canary-id", "canary@example.org", "+49 151 7654321", "491517654321", "canary-login", "canary-person"]
    (shop / "people.csv").write_text(
        "customer,mail,phone,films,person\n"
        "canary-id,canary@example.org,+49 151 7654321,canary-login,canary-person\n"
        "canary-id2,canary@example,canary@example.org,,\n"
    )
    (shop / "shop.yaml").write_text(
        MAPPING
        + "accounts: {file: people.csv, id: customer, mail: mail, phone: phone, logins: {films: films}}\n"
        + "identities: {file: people.csv, person: person, account: customer}\n"
    )
    (shop / "orders.csv").write_text("customer,sku,at\ncanary-id,k1,100\ncanary-id,c1,x\n,k1,100\n")
    said = [run("ingest", "shop.yaml"), run("person", "shop:canary-id"), run("erase", "shop:canary-id", "--yes")]
    said.append(run("ingest", "shop.yaml"))
    assert [each.returncode for each in said] == [0, 0, 0, 0], said
    written = [file for file in (shop / "var").rglob("*") if file.is_file()]
    kept = b"".join(file.read_bytes() for file in written)
    messages = "".join(each.stdout + each.stderr for each in said)
    for canary in [*canaries, SECRET]:
        assert canary.encode() not in kept, canary
        assert canary not in messages, canary
    assert len(written) > 3


def test_erase_finds_somebody_whom_only_events_on_their_way_know(shop):
    _run("ingest", "shop.yaml")
    account = Pseudonyms(SECRET.encode()).account("shop", "new")
    with open_store("sqlite:///var/graph.db") as store, Outbox(shop / "var" / "outbox.db") as outbox:
        item = ItemKey.parse(next(store.read_nodes("Item"))["key"][0].as_py())
        outbox.accept([Event("e", "PURCHASED", account, item, datetime(2024, 1, 1, tzinfo=UTC))])
    done = _run("erase", lone_user(account), "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 events on their way" in done.stdout
    with Outbox(shop / "var" / "outbox.db") as outbox:
        assert outbox.is_empty()


def test_training_on_keeps_the_shape_of_the_network_however_the_graph_has_grown(
    planted_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = Run("0123", "model", LoopConfig(encoder=EncoderConfig(dim=96, dropout=0.1)), tmp_path)
    monkeypatch.setattr(Run, "newest", classmethod(lambda cls, var: before))
    settings = read_settings(var=tmp_path)
    anew, further = (isthmus._suited(settings, planted_snapshot, as_before=going_on) for going_on in (False, True))
    assert anew.encoder == suited(planted_snapshot, "leave_one_out").encoder != before.config.encoder
    assert further.encoder == before.config.encoder
    assert further.batch == anew.batch
    said = settings.with_training(batch=7)
    assert isthmus._suited(said, planted_snapshot).batch == 7
