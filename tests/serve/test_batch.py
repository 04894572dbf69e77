"""Batch: the file holds what the server answers, for everybody, or is not there."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from graph.errors import IsthmusError
from graph.keys import AccountKey, lone_user
from graph.records import Account
from graph.store import Store
from serve.batch import SCHEMA, everybody, write_lists
from serve.errors import ServeError
from serve.filters import parse
from serve.jobs import COMMANDS
from serve.scenarios import read_scenarios
from serve.service import Service
from tests.planted import people
from tests.serve.test_app import assert_problem
from tests.serve.tiny import write_tiny_bundle


def test_everybody_is_everybody_once(planted_store: Store):
    alone = AccountKey("films", "alone")
    planted_store.upsert_nodes([Account(alone)])
    found = list(everybody(planted_store))
    stray = lone_user(AccountKey("music", "stray"))
    assert sorted(found) == sorted([*(person.user for person in people()), stray, lone_user(alone)])


def test_the_file_holds_what_the_server_answers(
    client: TestClient, service: Service, planted_store: Store, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("serve.batch._PEOPLE_AT_ONCE", 7)
    scenarios = read_scenarios({"odd": {"filter": "not even"}})
    file = tmp_path / "new" / "lists.parquet"
    heard: list[int] = []
    counts = write_lists(
        service.recommender,
        service.live,
        everybody(planted_store),
        file,
        limit=3,
        platforms=["films", "music"],
        allowed=service.recommender.allowed(parse("number > 2")),
        scenario=scenarios["odd"],
        told=heard.append,
    )
    table = pq.read_table(file)
    assert counts == (40, 120) == (len(set(table["user_id"].to_pylist())), len(table))
    assert table.schema == SCHEMA
    assert heard == [7, 14, 21, 28, 35, 40]
    assert [each.name for each in file.parent.iterdir()] == ["lists.parquet"]
    rows = table.to_pylist()
    asked = {"limit": 3, "target_platforms": ["films", "music"], "filter": "number > 2 and not even"}
    for user in sorted({row["user_id"] for row in rows})[::8]:
        answer = client.post("/v1/recommendations", json=asked | {"user_id": user}).json()
        own = [row for row in rows if row["user_id"] == user]
        assert [(row["position"], row["item_id"]) for row in own] == [
            (place, item["item_id"]) for place, item in enumerate(answer["items"], 1)
        ]
        assert [row["score"] for row in own] == pytest.approx([item["score"] for item in answer["items"]])
        assert {(row["source"], row["model_version"]) for row in own} == {("model", answer["model_version"])}


def test_a_store_that_stops_answering_leaves_no_file(service: Service, planted_store: Store, tmp_path: Path):
    found = everybody(planted_store)

    def until_it_stops():
        yield next(found)
        service.live.rest(TimeoutError("down"))
        yield next(found)

    with pytest.raises(ServeError, match="stopped answering after 1 people"):
        write_lists(service.recommender, service.live, until_it_stops(), tmp_path / "lists.parquet", limit=3)
    assert not list(tmp_path.glob("*lists*"))
    assert not list(tmp_path.glob(".writing*"))


def test_a_job_writes_below_var_and_takes_what_a_list_takes(client: TestClient, tmp_path: Path):
    asked = {"kind": "recommend", "name": "friday", "limit": 5, "filter": "not number > 3"}
    answer = client.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    assert COMMANDS["recommend"]({key: asked[key] for key in ("name", "limit", "filter")}, tmp_path) == [
        "recommend",
        "--to",
        str(tmp_path.resolve() / "recommendations" / "friday.parquet"),
        "--limit=5",
        "--filter=not number > 3",
    ]
    for wrong in (
        {"kind": "recommend"},
        {"kind": "train", "limit": 5},
        asked | {"name": "../x"},
        asked | {"epochs": 1},
    ):
        assert_problem(client.post("/v1/jobs", json=wrong), 422, "invalid-request")
    assert_problem(client.post("/v1/jobs", json=asked | {"filter": "-1 <"}), 422, "invalid-filter")
    assert_problem(client.post("/v1/jobs", json=asked | {"scenario": "none"}), 422, "unknown-scenario")


def test_the_command_says_how_many_and_refuses_what_is_wrong_in_a_sentence(
    planted_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import isthmus

    write_tiny_bundle(tmp_path / "bundles")
    where = ["--var", str(tmp_path), "--store", planted_store.url, "--to", str(tmp_path / "lists.parquet")]
    isthmus.app(["recommend", *where, "--limit", "2", "--filter", "even"], standalone_mode=False)
    assert "40 people, 80 lines in" in capsys.readouterr().out
    for wrong, said in (
        (["--filter", "colour > 3"], "at character 1: items have no colour"),
        (["--platforms", "radio"], "has no platform radio: use books, films, music"),
        (["--scenario", "none"], "there is no scenario none: the settings have none"),
    ):
        with pytest.raises(IsthmusError, match=said):
            isthmus.app(["recommend", *where, *wrong], standalone_mode=False)
