"""Schemathesis asks every operation of the live OpenAPI document; `make fuzz` asks a thousand times each.

All but `/v1/search`, which rightly answers 503 without a text model: test_search.py asks that.
"""

import os
from collections.abc import Iterator
from functools import partial

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from graph.keys import Pseudonyms
from graph.store import open_store
from serve.access import Guard
from serve.app import create_app
from serve.follow import Follower, load
from serve.keys import SCOPES, Keyring, make
from serve.live import Live, StoreGate
from serve.metrics import Metrics
from serve.outbox import Outbox
from serve.recommender import Recommender
from serve.registry import Registry
from serve.service import Service
from tests.planted import person, plant

CASES = int(os.environ.get("FUZZ_CASES", "8"))
"""Well-formed requests for each operation, and as many that are not."""
TEXT, KEY = make("fuzz", SCOPES, 0)
EACH_BY_ITSELF = {"POST /v1/events"}
"""A list of which each part is taken or rejected by itself, so that a wrong part does not make the answer an error."""
KNOWN = {"user_id": str(person("space-0").user), "item_id": "films:crime-0"}
BEARER = {"Authorization": f"Bearer {TEXT}"}


@pytest.fixture(scope="module")
def app(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("fuzz")
    url = f"sqlite:///{folder / 'graph.db'}"
    with open_store(url) as store:
        plant(store)
    with Outbox(folder / "outbox.db") as outbox:
        gate = StoreGate(lambda: open_store(url))
        service = Service(Live(outbox, gate), outbox, Pseudonyms(b"sixteen bytes or more"), Metrics())
        registry = Registry(recommender.bundle.path.parent, folder)
        registry.at_start(None)
        service.follower = Follower(registry, load, partial(setattr, service, "variants"))
        service.guard = Guard(Keyring([KEY.line()]))
        yield create_app(service)
        service.follower.stop()
        service.close()
        gate.close()


def test_no_request_however_strange_breaks_the_server_or_its_contract(app: FastAPI):
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=BEARER).exclude(path="/v1/search")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 8
    asked: dict[str, dict[int, int]] = {}
    for operation in operations:
        statuses = asked.setdefault(operation.label, {})
        can_be_wrong = operation.body or operation.query or operation.path_parameters
        for mode in GenerationMode if can_be_wrong else [GenerationMode.POSITIVE]:
            # What fits the schema may still not fit the bundle (a platform, an event type): 422 and its reason.
            excluded = [positive_data_acceptance]
            excluded += [negative_data_rejection] if operation.label in EACH_BY_ITSELF else []
            _ask(operation.as_strategy(generation_mode=mode), mode, excluded, statuses)
    print(*(f"{label}: {dict(sorted(statuses.items()))}" for label, statuses in asked.items()), sep="\n")
    rightly = [label for label, statuses in asked.items() if statuses.keys() & {200, 201, 202, 204}]
    assert len(rightly) > len(asked) / 2, rightly


def _about_what_is_there(case: Case) -> None:
    """Let a request that fits the schema name things that the server knows, which no generator hits upon."""
    case.path_parameters.update({name: KNOWN[name] for name in KNOWN.keys() & case.path_parameters.keys()})
    for fields in (case.query, case.body if isinstance(case.body, dict) else {}):
        for name in {
            "target_platforms",
            "platform",
            "filter",
            "exclude_item_ids",
            "cursor",
            "scenario",
        } & fields.keys():
            del fields[name]
    if case.operation.label == "POST /v1/recommendations":
        for name in {"account_id", "session_id", "events"} & case.body.keys():
            del case.body[name]
        case.body["user_id"] = KNOWN["user_id"]


def _ask(cases, mode: GenerationMode, excluded, statuses: dict[int, int]) -> None:
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize="FUZZ_CASES" not in os.environ,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, known=strategies.booleans())
    def ask(case: Case, known: bool) -> None:
        if known and mode is GenerationMode.POSITIVE:
            _about_what_is_there(case)
        response = case.call_and_validate(headers=BEARER, excluded_checks=excluded)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        assert response.status_code < 500
        if response.status_code >= 400:
            kind = response.headers["content-type"]
            assert kind == ["application/problem+json"], kind
            assert response.json()["status"] == response.status_code

    ask()
