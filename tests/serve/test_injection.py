"""Texts that want to be a query, in every string field: none is executed. Twenty here, all 200 in `make fuzz`."""

import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.testclient import TestClient

from graph.keys import ItemKey
from graph.store import Store, checksum
from serve.drain import drain
from serve.service import Service

PRINTED = "PWNED4711"
CLOSERS = ("", "'", '"', "`", "')", '"})', "'})", "*/", "\\'", "\u02bc")
WANTED = (
    "; DROP TABLE nodes; --",
    " OR 1=1 --",
    "; DELETE FROM accepted; --",
    f" UNION SELECT '{PRINTED}' --",
    "; ATTACH DATABASE '/tmp/pwned4711.db' AS pwned; --",
    f"; UPDATE items SET title = '{PRINTED}'; --",  # noqa: S608
    "; PRAGMA writable_schema = 1; --",
    " MATCH (n) DETACH DELETE n //",
    f" CREATE (:{PRINTED}) //",
    f" SET n.title = '{PRINTED}' //",
    " CALL dbms.shutdown() //",
    " WITH 1 AS x MATCH (m) REMOVE m:Item RETURN x //",
    " LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l //",
    "}) RETURN 1 UNION MATCH (u:User) RETURN u.key //",
    " FOREACH (i IN [1] | CREATE (:Account {key: 'account:films:pwned'})) //",
    "$(touch /tmp/pwned4711)",
    "{{ 7 * 191 }}",
    "__import__('os').system('touch /tmp/pwned4711')",
    "\x00; DROP TABLE edges; --",
    "%27%3B%20DROP%20TABLE%20items%3B%20--",
)
ALL = [closer + wanted for closer, wanted in itertools.product(CLOSERS, WANTED)]
SOME = [CLOSERS[n % len(CLOSERS)] + wanted for n, wanted in enumerate(WANTED)]
PAYLOADS = ALL if "FUZZ_CASES" in os.environ else SOME

EVENT: dict[str, Any] = {
    "event_id": "e",
    "type": "RATED",
    "account_id": "films:a",
    "session_id": "s",
    "item_id": "films:crime-0",
    "occurred_at": "2026-05-01T12:00:00Z",
    "recommendation_id": "r",
    "context": {"device": "tv"},
}


def requests(payload: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """One request for each string field of each route."""
    events = [EVENT | {name: payload} for name in EVENT if name != "context"]
    events += [EVENT | {"context": context} for context in ({payload: "x"}, {"device": payload})]
    for number, event in enumerate(events):
        if event["event_id"] != payload:
            event["event_id"] = f"{number}-{zlib.crc32(payload.encode())}"
    yield "POST", "/v1/events", {"json": {"events": events}}
    for name, value in (("user_id", payload), ("account_id", payload), ("session_id", payload)):
        yield "POST", "/v1/recommendations", {"json": {name: value, "limit": 1}}
    yield "POST", "/v1/recommendations", {"json": {"account_id": f"films:{payload}", "limit": 1}}
    wrong: list[dict[str, Any]] = [
        {"target_platforms": [payload]},
        {"exclude_item_ids": [payload]},
        {"filter": payload},
        {"filter": f'title == "{payload}"'},
        {"context": {"device": payload}},
        {"events": [{"item_id": payload, "type": "RATED"}]},
        {"events": [{"item_id": "films:crime-0", "type": payload}]},
    ]
    for fields in wrong:
        who = {} if "events" in fields else {"user_id": "user:a"}
        yield "POST", "/v1/recommendations", {"json": who | fields}
    for path in ("/v1/users/{}/recommendations", "/v1/users/{}/events", "/v1/items/{}/similar"):
        yield "GET", path.format(quote(payload, safe="")), {}
    for name in ("platform", "cursor"):
        yield "GET", "/v1/users/user:a/events", {"params": {name: payload}}
    yield "GET", "/v1/items/films:crime-0/similar", {"params": {"target_platforms": payload}}
    yield "GET", "/readyz", {"headers": {"x-request-id": payload.encode()}}


def test_no_payload_is_executed_in_any_field(client: TestClient, service: Service, planted_store: Store):
    assert len(set(ALL)) == 200
    assert set(SOME) < set(ALL)
    before, names = checksum(planted_store), (set(planted_store.labels()), set(planted_store.event_types()))
    for payload in PAYLOADS:
        for method, path, fields in requests(payload):
            response = client.request(method, path, **fields)
            assert response.status_code < 500, (payload, path, response.text)
            if response.status_code >= 400:
                assert response.headers["content-type"] == "application/problem+json"
    assert checksum(planted_store) == before, "a request has written to the store"
    assert service.outbox.counts()[1] == 0
    while drain(service.outbox, planted_store):
        pass
    assert (set(planted_store.labels()), set(planted_store.event_types())) == names
    items = planted_store.items([ItemKey.parse("films:crime-0"), ItemKey.parse("films:space-0")])
    assert len(items) == 2
    assert PRINTED not in str(items)
    assert not Path("/tmp/pwned4711").exists()  # noqa: S108
    assert not Path("/tmp/pwned4711.db").exists()  # noqa: S108
