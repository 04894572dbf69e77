"""isthmus retrain: a new bundle takes the place of the one that answers when it is shown not to be worse, only then."""

import json
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import isthmus
from graph.records import Account, Event, Item, Platform
from graph.store import open_store
from models.bundle import newest_bundle, read_manifest
from serve.registry import Plan, Registry
from tests.planted import planted_records

SETTINGS = """
workers: 0
pseudonym_key: a secret of the tests
training:
  batch: 8
  learning_rate: 0.01
  encoder: {dim: 32, heads: 2, max_history: 20}
  objective: {negatives: 32}
"""


def plant_without_texts(store):
    """People, items and what happened: nothing that a language model would have to be started for."""
    planted = planted_records()
    store.ensure_schema()
    nodes = [replace(node, title=None, text=None) if isinstance(node, Item) else node for node in planted.nodes]
    store.upsert_nodes([node for node in nodes if isinstance(node, Platform | Account | Item)])
    store.link(planted.links)
    store.upsert_edges([edge for edge in planted.edges if isinstance(edge, Event)])


def say(capsys, monkeypatch, *arguments: str) -> str:
    """What a command that succeeds prints."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["isthmus", *arguments])
    with pytest.raises(SystemExit) as ended:
        isthmus.main()
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return printed.out


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all events in its store, and a bundle that knows the first days and was hardly trained."""
    folder = tmp_path_factory.mktemp("before")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "isthmus.yaml").write_text(SETTINGS)
        with open_store(f"sqlite:///{folder / 'var' / 'graph.db'}") as store:
            plant_without_texts(store)
        for arguments in (["embed"], ["train", "--epochs", "1", "--until", "2024-01-03"]):
            patch.setattr(sys, "argv", ["isthmus", *arguments])
            with pytest.raises(SystemExit) as ended:
                isthmus.main()
            assert ended.value.code == 0
    Registry(folder / "var" / "bundles", folder / "var").at_start(None)
    return folder


@pytest.fixture
def registry(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    registry = Registry(Path("var/bundles"), Path("var"))
    registry.choose(Plan.alone(newest_bundle(registry.bundles)))
    return registry


def test_a_better_bundle_goes_live_once_and_a_plan_that_somebody_changed_stays(
    registry: Registry, capsys, monkeypatch: pytest.MonkeyPatch
):
    import train.release

    old = registry.plan()
    (version,) = old.versions
    told = read_manifest(registry.path(version))["events"]
    assert told["newest"] < "2024-01-03"
    assert told["count"] == sum(told["counts"]["type"].values()) == sum(told["counts"]["item"].values())

    def changes_the_plan(*arguments, **named):
        registry.choose(replace(old, chosen=True))
        return assemble(*arguments, **named)

    assemble = train.release.assemble
    with monkeypatch.context() as patch:
        patch.setattr("train.release.assemble", changes_the_plan)
        said = say(capsys, monkeypatch, "retrain", "--epochs", "15", "--plan", old.tag)
    assert "It does not go live: the plan is" in said, said
    assert registry.plan() == replace(old, chosen=True)
    assert f"The plan is {registry.plan().tag} by now" in say(capsys, monkeypatch, "retrain", "--plan", old.tag)

    tag = registry.plan().tag
    said = say(capsys, monkeypatch, "retrain", "--epochs", "15", "--plan", tag)
    assert f"It is live: it answers in the place of {version}" in said, said
    live = registry.plan()
    (choice,) = live.variants
    judged = read_manifest(Path(choice.bundle))["judged"]
    assert (judged["against"], judged["not_worse"], judged["people"]) == (version, True, 40)
    assert judged["low"] > 0
    assert live.chosen
    assert newest_bundle(registry.bundles).name == choice.version
    with open_store("sqlite:///var/graph.db") as store:
        models = {
            json.loads(text)["model"]
            for batch in store.read_relations("LEADS_TO")
            for text in batch["properties"].to_pylist()
        }
    assert models == {choice.version}
    # A job that was cut off after that begins again: nothing more happens.
    assert "nothing was trained" in say(capsys, monkeypatch, "retrain", "--plan", tag)
    assert registry.plan() == live


def test_what_is_not_shown_to_be_as_good_stays_aside_and_nothing_takes_it_up(
    registry: Registry, capsys, monkeypatch: pytest.MonkeyPatch
):
    plan = registry.plan()
    with open_store("sqlite:///var/graph.db") as store:
        # Of those who did something since the bundle was made, three are left: too few to judge by.
        since = datetime(2024, 1, 3, tzinfo=UTC)
        events = [edge for edge in planted_records().edges if isinstance(edge, Event) and edge.at >= since]
        kept = {"space-0", "space-1", "space-2"}
        users = {store.user_of(event.account) for event in events if event.account.digest not in kept}
        for user in users - {None}:
            store.erase(user)
        leads = store.counts().edges.get("LEADS_TO")
    said = say(capsys, monkeypatch, "retrain", "--epochs", "1")
    assert "on what 3 people did since" in said
    assert "It does not go live: it was not shown to be as good" in said
    assert registry.plan() == plan
    refused = Path(said.split("bundle    ")[1].splitlines()[0])
    assert not read_manifest(refused)["judged"]["not_worse"]
    assert newest_bundle(registry.bundles) != refused
    assert Registry(registry.bundles, Path("var")).at_start(None).versions == plan.versions, "nor does a restart"
    with open_store("sqlite:///var/graph.db") as store:
        assert store.counts().edges.get("LEADS_TO") == leads
