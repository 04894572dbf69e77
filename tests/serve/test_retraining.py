"""Retraining: what is measured, when it is proposed, and that nothing begins beside or soon after another."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from graph.keys import AccountKey, ItemKey
from graph.records import Event
from graph.store import Store
from serve.drain import drain
from serve.follow import Follower, load
from serve.jobs import COMMANDS, LANES, Job
from serve.outbox import Outbox
from serve.registry import Choice, Plan, Registry
from serve.retraining import Measured, Thresholds, Watch, may_start, propose, read
from serve.service import Service
from tests.planted import item_of
from tests.serve.test_outbox import wait_until
from tests.serve.tiny import write_tiny_bundle

FEW = Thresholds(events=5)
NOW = 1_700_000_000.0
DAY = 24 * 3600.0
ENOUGH = Measured(NOW, "a" * 12, "s", trained_on=10_000, new=1_000, sampled=0)
RUNNING = Job("1", "retrain", {}, "running", 1, datetime.fromtimestamp(NOW, UTC), None, None, None)
ENDED = replace(RUNNING, state="done", ended=datetime.fromtimestamp(NOW, UTC))


def test_it_is_proposed_from_a_tenth_of_new_events_on():
    assert propose(ENOUGH, Thresholds()).proposed
    assert "1,000 events are new to a bundle trained on 10,000 (10.0%)" in propose(ENOUGH, Thresholds()).why
    for measured in (
        replace(ENOUGH, new=999),
        replace(ENOUGH, trained_on=10_001),
        replace(ENOUGH, trained_on=100, new=999),
        replace(ENOUGH, new=None),
        replace(ENOUGH, trained_on=None, new=None),
        None,
    ):
        proposal = propose(measured, Thresholds())
        assert not proposal.proposed
        assert proposal.why


def test_it_is_proposed_when_any_feature_has_drifted_and_says_which():
    few = replace(ENOUGH, new=1_000, trained_on=10**6, sampled=1_000, drift={"platform": 0.0, "item": 0.25})
    assert not propose(few, Thresholds()).proposed
    proposal = propose(replace(few, drift={"platform": 0.26, "type": 0.1, "item": 0.4}), Thresholds())
    assert proposal.proposed
    assert "by item is 0.40, above 0.25, over 1,000 events" in proposal.why
    assert propose(replace(few, new=None, drift={"type": 0.3}), Thresholds()).proposed, "the store need not answer"


def test_nothing_begins_by_itself_unless_told_to_nor_beside_or_soon_after_another():
    proposal = propose(ENOUGH, Thresholds())
    start = partial(may_start, proposal, "start", now=NOW + DAY, thresholds=Thresholds())
    assert start(None)
    assert start(ENDED)
    assert start(replace(ENDED, state="failed"))
    assert not start(ENDED, now=NOW + DAY - 1)
    assert not start(replace(ENDED, state="failed"), now=NOW + DAY - 1)
    assert not start(RUNNING)
    assert not start(replace(RUNNING, state="queued"), now=NOW + 10 * DAY)
    assert not start(None, variants=2), "two variants are compared: their plan is somebody's"
    assert not may_start(proposal, "propose", None, NOW, Thresholds())
    assert not may_start(propose(None, Thresholds()), "start", None, NOW, Thresholds())


@pytest.fixture
def registry(tmp_path: Path, planted_store: Store) -> Registry:
    """Of a bundle that was trained a while ago, on all that the planted store has."""
    bundle = write_tiny_bundle(tmp_path / "bundles", trained_on=events_in(planted_store))
    os.utime(bundle / "manifest.json", (NOW, NOW))
    registry = Registry(tmp_path / "bundles", tmp_path)
    registry.at_start(bundle)
    return registry


@pytest.fixture(autouse=True)
def follower(service: Service, registry: Registry) -> Iterator[Follower]:
    service.follower = Follower(registry, load, partial(setattr, service, "variants"))
    service.thresholds = FEW
    yield service.follower
    service.follower.stop()


@pytest.fixture
def watch(service: Service, registry: Registry, planted_store: Store) -> Callable[..., Watch]:
    def watch(mode: str = "propose") -> Watch:
        ask = partial(_asked, planted_store)
        return Watch(registry, service.outbox.newest, service.jobs, ask, mode=mode, thresholds=FEW)

    return watch


def _asked(store, question):
    return question(store)


def events_in(store: Store) -> int:
    return sum(store.counts().edges.get(type, 0) for type in store.event_types())


def happened(number: int, item: ItemKey | None = None, type: str = "RATED") -> Event:
    account, of = AccountKey("films", f"p{number}"), item or item_of("films", "space", 1)
    return Event(f"n-{number}", type, account, of, datetime(2026, 1, 1, tzinfo=UTC), 1.0)


def test_new_events_are_counted_however_they_came_and_told_by_every_replica(
    client: TestClient, service: Service, planted_store: Store, watch: Callable[..., Watch]
):
    asked = client.get("/v1/retraining").json()
    assert (asked["proposed"], asked["model_version"], asked["last_job"]) == (False, None, None)
    before = events_in(planted_store)
    watch().look(NOW)
    asked = client.get("/v1/retraining").json()
    assert (asked["trained_on_events"], asked["new_events"], asked["drift"]) == (before, 0, None)
    service.outbox.accept([happened(number) for number in range(4)])
    drain(service.outbox, planted_store)
    known = AccountKey("films", "p0")
    planted_store.upsert_edges([replace(happened(100 + number), account=known) for number in range(30)])  # as ingest
    watch().look(NOW)
    asked = client.get("/v1/retraining").json()
    assert asked["new_events"] == 34
    assert asked["new_share"] == 34 / before
    page = client.get("/metrics").text
    assert f"isthmus_new_events {asked['new_events']}\n" in page
    assert f"isthmus_retraining_proposed {int(asked['proposed'])}\n" in page


def test_what_people_do_now_is_compared_with_what_they_did(
    client: TestClient, service: Service, planted_store: Store, watch: Callable[..., Watch]
):
    service.outbox.accept([happened(number) for number in range(4)])
    drain(service.outbox, planted_store)
    assert not watch().look(NOW).drift, "too few to tell"
    service.outbox.accept([happened(10 + number, item_of("music", "crime", 7), "PLAYED") for number in range(60)])
    drain(service.outbox, planted_store)
    found = watch().look(NOW)
    assert found.sampled == 64
    assert found.drift["platform"] > 0.25
    asked = client.get("/v1/retraining").json()
    assert asked["proposed"]
    assert "drifted" in asked["why"]
    assert 'isthmus_drift{by="platform"}' in client.get("/metrics").text


def test_what_came_before_the_snapshot_is_no_drift(
    service: Service, planted_store: Store, registry: Registry, watch: Callable[..., Watch]
):
    service.outbox.accept([happened(number) for number in range(60)])
    drain(service.outbox, planted_store)
    assert watch().look(NOW).sampled == 60
    (bundle,) = registry.plan().bundles
    os.utime(bundle / "manifest.json")
    assert watch().look(NOW).sampled == 0


def test_each_event_counts_once_and_only_so_many_are_remembered(
    outbox: Outbox, planted_store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serve.newest.NEWEST", 10)
    outbox.accept([happened(number) for number in range(8)])
    drain(outbox, planted_store)
    outbox.accept([happened(number) for number in range(8)])
    drain(outbox, planted_store)
    assert outbox.newest.counts(NOW)[0] == 8
    outbox.accept([happened(100 + number) for number in range(9)])
    drain(outbox, planted_store)
    assert outbox.newest.counts(NOW)[0] == 10
    assert outbox.newest.counts(NOW)[1]["type"] == {"RATED": 10}


def test_a_proposal_begins_one_job_where_it_is_to_and_the_job_knows_the_plan(
    client: TestClient, service: Service, registry: Registry, planted_store: Store, watch: Callable[..., Watch]
):
    service.outbox.accept([happened(number) for number in range(200)])
    drain(service.outbox, planted_store)
    watch().look(NOW)
    assert client.get("/v1/retraining").json()["proposed"]
    assert service.jobs.newest("retrain") is None, "proposed only"
    for _ in range(2):
        watch("start").look(NOW)
    ((count,),) = service.jobs.read("SELECT count(*) FROM jobs")
    assert count == 1
    job = service.jobs.begin(LANES["work"])
    assert COMMANDS["retrain"](job.arguments, Path()) == ["retrain", "--plan", registry.plan().tag]
    watch("start").look(NOW)
    ((count,),) = service.jobs.read("SELECT count(*) FROM jobs")
    assert count == 1, "it runs already"
    service.jobs.end(job, failed=True, said="no")
    watch("start").look(NOW)
    ((count,),) = service.jobs.read("SELECT count(*) FROM jobs")
    assert count == 1, "it has just failed"
    assert client.get("/v1/retraining").json()["last_job"]["output"] == "no"


def test_of_two_watches_one_measures(
    service: Service, watch: Callable[..., Watch], registry: Registry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serve.retraining.POLL_S", 0.02)
    first, second = watch(), watch()
    seen = []
    for one in (first, second):
        one.look = lambda now, one=one: seen.append(one)
        one.start()
    wait_until(lambda: len(seen) == 1)
    leader = seen[0]
    registry.choose(Plan.alone(registry.plan().bundles[0], chosen=True))
    wait_until(lambda: len(seen) == 2)
    assert seen == [leader, leader], "a changed plan is measured at once, by the same one"
    leader.stop()
    wait_until(lambda: len(seen) == 3)
    assert seen[2] is not leader
    first.stop()
    second.stop()


def test_a_retraining_that_is_asked_for_is_of_the_plan_of_now(client: TestClient, service: Service, registry: Registry):
    asked = {"kind": "retrain", "continue": True, "epochs": 4}
    assert client.post("/v1/jobs", json=asked).status_code == 202
    assert client.post("/v1/jobs", json=asked).status_code == 202
    ((count,),) = service.jobs.read("SELECT count(*) FROM jobs")
    assert count == 1
    told = COMMANDS["retrain"](service.jobs.newest("retrain").arguments, Path())
    assert told == ["retrain", "--continue", "--epochs", "4", "--plan", registry.plan().tag]
    assert client.post("/v1/jobs", json={"kind": "retrain", "name": "x"}).status_code == 422


def test_a_bundle_of_an_earlier_isthmus_says_to_train_once(
    client: TestClient, registry: Registry, tmp_path: Path, watch: Callable[..., Watch]
):
    registry.choose(Plan((Choice.of(write_tiny_bundle(tmp_path / "bundles", seed=5)),)))
    watch().look(NOW)
    asked = client.get("/v1/retraining").json()
    assert not asked["proposed"]
    assert "train once" in asked["why"]


def test_what_another_version_measured_is_nothing(tmp_path: Path):
    assert read(tmp_path) is None
    for said in ("", "{}", json.dumps({"strange": 1}), "[1]"):
        (tmp_path / "retraining.json").write_text(said)
        assert read(tmp_path) is None
