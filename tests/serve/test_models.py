"""The registry through HTTP: list, activate, roll back, share out, refuse."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from models.bundle import Bundle
from serve.follow import Follower, load
from serve.registry import Plan, Registry
from serve.service import Service
from tests.serve.test_outbox import wait_until
from tests.serve.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [write_tiny_bundle(tmp_path_factory.mktemp("releases"), seed) for seed in (1, 2)]


@pytest.fixture
def bundles(releases: list[Path], tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(path, tmp_path / "bundles" / path.name)) for path in releases]


@pytest.fixture
def registry(bundles: list[Path], tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "bundles", tmp_path / "var")
    registry.at_start(bundles[0])
    return registry


@pytest.fixture(autouse=True)
def follower(service: Service, registry: Registry) -> Iterator[Follower]:
    service.follower = Follower(registry, load, partial(setattr, service, "variants"))
    yield service.follower
    service.follower.stop()


def version_of(client: TestClient) -> str:
    return client.post("/v1/recommendations", json={"user_id": "user:a"}).json()["model_version"]


def test_bundles_are_listed_and_what_answers_is_told(client: TestClient, bundles: list[Path]):
    answer = client.get("/v1/models").json()
    assert {one["version"]: one["active"] for one in answer["models"]} == {
        bundles[0].name: True,
        bundles[1].name: False,
    }
    assert answer["active"] == {
        "variants": [{"name": "default", "version": bundles[0].name, "share": 1.0}],
        "shadow": None,
        "chosen": False,
    }


def test_another_bundle_answers_at_once_and_the_old_one_again_after_a_roll_back(
    client: TestClient, bundles: list[Path]
):
    first, second = (path.name for path in bundles)
    for version in (second, first):
        answer = client.put("/v1/models/active", json={"version": version})
        assert answer.status_code == 200
        assert answer.json()["chosen"] is True
        assert version_of(client) == version
        assert client.get("/v1/models").headers["etag"] == answer.headers["etag"]


def test_if_match_refuses_what_somebody_else_changed(client: TestClient, bundles: list[Path]):
    tag = client.get("/v1/models").headers["etag"]
    request = partial(client.put, "/v1/models/active", headers={"if-match": tag})
    assert request(json={"version": bundles[1].name}).status_code == 200
    refused = request(json={"version": bundles[0].name})
    assert (refused.status_code, refused.json()["type"]) == (412, "urn:isthmus:problem:plan-changed")
    assert version_of(client) == bundles[1].name


@pytest.mark.parametrize("name", ["bias.npy", "manifest.json", "network.safetensors", "leads_to.indptr.npy"])
def test_a_damaged_bundle_is_refused_and_the_old_one_goes_on(client: TestClient, bundles: list[Path], name: str):
    (bundles[1] / name).write_bytes((bundles[1] / name).read_bytes()[:-3] + b"abc")
    refused = client.put("/v1/models/active", json={"version": bundles[1].name})
    assert refused.status_code in (404, 422)
    assert "changed or damaged" in refused.json()["detail"] or "cannot be read" in refused.json()["detail"]
    assert version_of(client) == bundles[0].name
    assert client.get("/v1/models").json()["active"]["variants"][0]["version"] == bundles[0].name


def test_a_bundle_whose_checksums_are_right_but_which_does_not_fit_is_refused(
    client: TestClient, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
):
    opened = Bundle.open(bundles[1])
    opened.manifest["encoder"]["dim"] = 16  # type: ignore[index]
    monkeypatch.setattr(Bundle, "open", classmethod(lambda cls, path: opened))
    refused = client.put("/v1/models/active", json={"version": bundles[1].name})
    assert refused.status_code == 422
    assert "does not fit this Isthmus" in refused.json()["detail"]
    assert version_of(client) == bundles[0].name


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"version": "000000000000"}, 404, "there is no bundle 000000000000"),
        ({"version": "../../etc"}, 422, "one mistake"),
        ({}, 422, "one mistake"),
        ({"variants": []}, 422, "one mistake"),
    ],
)
def test_what_cannot_be_activated_is_said(client: TestClient, body: dict, status: int, says: str):
    refused = client.put("/v1/models/active", json=body)
    assert refused.status_code == status
    assert says in refused.json()["detail"]


def test_two_variants_share_the_people_and_each_keeps_theirs(client: TestClient, bundles: list[Path]):
    shared = [
        {"name": name, "version": path.name, "share": 0.5} for name, path in zip(("a", "b"), bundles, strict=True)
    ]
    assert client.put("/v1/models/active", json={"variants": shared}).status_code == 200
    seen = {}
    for _ in range(2):
        for number in range(30):
            answer = client.get(f"/v1/users/user:{number}/recommendations").json()
            assert (
                answer["model_version"]
                == dict(zip(("a", "b"), (path.name for path in bundles), strict=True))[answer["variant"]]
            )
            assert seen.setdefault(number, answer["variant"]) == answer["variant"]
    assert set(seen.values()) == {"a", "b"}
    page = client.get("/metrics").text
    assert f'isthmus_bundle{{variant="b",version="{bundles[1].name}"}} 0.5\n' in page
    short = [{**shared[0], "share": 0.3}, shared[1]]
    assert "add up to 0.8" in client.put("/v1/models/active", json={"variants": short}).json()["detail"]


def test_a_shadow_is_asked_and_never_shown(client: TestClient, service: Service, bundles: list[Path]):
    body = {"version": bundles[0].name, "shadow": bundles[1].name}
    assert client.put("/v1/models/active", json=body).json()["shadow"] == bundles[1].name
    assert version_of(client) == bundles[0].name
    wait_until(lambda: "isthmus_shadow_overlap_count 1.0" in client.get("/metrics").text)


def test_a_replica_follows_what_another_one_chose(client: TestClient, registry: Registry, bundles: list[Path]):
    registry.choose(Plan.alone(bundles[1], chosen=True))
    wait_until(lambda: version_of(client) == bundles[1].name)


def test_a_replica_goes_on_where_the_plan_names_what_it_cannot_load(
    client: TestClient, registry: Registry, bundles: list[Path], caplog: pytest.LogCaptureFixture
):
    plan = Plan.alone(bundles[1], chosen=True)
    (bundles[1] / "bias.npy").write_bytes(b"")
    registry.choose(plan)
    wait_until(lambda: "the bundles in use go on" in caplog.text)
    assert version_of(client) == bundles[0].name
    registry.choose(Plan.alone(bundles[0], chosen=True))
    assert version_of(client) == bundles[0].name
