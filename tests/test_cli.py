"""The command line: help to learn from, one sentence for what a user can mend, exit codes that scripts can read."""

import errno
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import isthmus
from graph.keys import ItemKey, Pseudonyms, lone_user
from graph.records import Event
from graph.snapshot import Snapshot, write_snapshot
from graph.store import open_store
from models.encoder import EncoderConfig
from serve.outbox import Outbox
from settings import read_settings
from train.loop import LoopConfig
from train.regimes import suited
from train.runs import Run

ISTHMUS = Path(sys.executable).with_name("isthmus")
SECRET = "a secret of the tests"

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
    listed = re.findall(r"^│ ([a-z]+) ", shown, re.MULTILINE)
    named = ["demo", "mapping", "ingest", "embed", "train", "evaluate", "compare", "serve", "erase", "quarantine"]
    assert listed == named


@pytest.mark.parametrize("command", ["demo", "ingest", "embed", "train", "evaluate", "compare", "serve", "erase"])
def test_every_command_explains_itself(command, capsys, monkeypatch):
    assert _exit_code(monkeypatch, command, "--help") == 0
    shown = capsys.readouterr().out
    assert f" {command} [OPTIONS]" in shown
    assert "--var" in shown
    assert "--config" in shown


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
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        assert "Traceback" not in process.stderr.read()


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
