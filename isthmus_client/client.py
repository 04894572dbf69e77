"""`Isthmus` and `AsyncIsthmus`: the same methods, each one request; what fails for a moment is sent once more."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Generic, NotRequired, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx

from isthmus_client.answers import Kept, Page, Readiness, Recommendations, Similar
from isthmus_client.errors import Problem, Unreachable

TIMEOUT_S: Final = 10.0
MAX_WAIT_S: Final = 5.0
"""A server that says to come back later than this is not waited for."""

_T = TypeVar("_T")


class PastEvent(TypedDict):
    """One thing a person did, told with the request and kept nowhere."""

    item_id: str
    type: str
    occurred_at: NotRequired[datetime | str]
    value: NotRequired[float]


class Event(TypedDict):
    """One thing an account or a session did, to be kept."""

    event_id: str
    """Yours: sent again it is a duplicate, so a list of events can always be sent again."""
    type: str
    account_id: NotRequired[str]
    session_id: NotRequired[str]
    item_id: str
    occurred_at: datetime | str
    value: NotRequired[float]
    recommendation_id: NotRequired[str]
    context: NotRequired[Mapping[str, Any]]


class Person(TypedDict, total=False):
    """Who is asked for: just one of these."""

    user_id: str
    account_id: str
    session_id: str
    events: Sequence[PastEvent]


class RecommendationOptions(Person, total=False):
    """Who is asked for, and what is wanted; docs/api.md says what each means."""

    limit: int
    target_platforms: Sequence[str]
    exclude_item_ids: Sequence[str]
    filter: str
    scenario: str
    context: Mapping[str, Any]
    diversity: float
    explain: bool


@dataclass(frozen=True, slots=True)
class _Call(Generic[_T]):
    """A request, and what reads its answer."""

    method: str
    path: str
    read: Callable[[Any], _T]
    json: Any = None
    parameters: Mapping[str, Any] | None = None

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        # A write that is sent again under the same key is done once.
        headers = {} if self.method == "GET" else {"Idempotency-Key": uuid.uuid4().hex}
        given = {name: value for name, value in (self.parameters or {}).items() if value is not None}
        return http.build_request(self.method, self.path, json=_plain(self.json), params=given, headers=headers)


def _recommend(options: RecommendationOptions) -> _Call[Recommendations]:
    return _Call("POST", "/v1/recommendations", Recommendations.read, dict(options))


def _similar(item_id: str, limit: int, target_platforms: Sequence[str] | None) -> _Call[Similar]:
    parameters = {"limit": limit, "target_platforms": target_platforms}
    return _Call("GET", f"/v1/items/{quote(item_id, safe=':@')}/similar", Similar.read, parameters=parameters)


def _send(events: Sequence[Event]) -> _Call[Kept]:
    return _Call("POST", "/v1/events", Kept.read, {"events": list(events)})


def _history(user_id: str, platform: str | None, cursor: str | None, limit: int | None) -> _Call[Page]:
    parameters = {"platform": platform, "cursor": cursor, "limit": limit}
    return _Call("GET", f"/v1/users/{quote(user_id, safe=':@')}/events", Page.read, parameters=parameters)


_READY: Final = _Call("GET", "/readyz", Readiness.read)


class Isthmus:
    """A server to ask. Close it, or use it in a `with`; threads may share it.

    Every method raises Problem for an error that the server tells, and Unreachable where no answer comes. A 503 and a
    connection that breaks are tried once more, after what Retry-After says (at most 5 s).
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        http: httpx.Client | None = None,
    ) -> None:
        """
        Args:
            url: such as http://127.0.0.1:8000
            key: where the server asks for one (isthmus key).
            timeout_s: how long to wait for an answer, each time.
            http: an httpx client of your own (proxies, certificates), which must know the server's address.
        """
        self._http = http or httpx.Client(base_url=url, timeout=timeout_s)
        _authorize(self._http, key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._http.base_url.copy_with(userinfo=b''))!r})"

    def recommend(self, **options: Unpack[RecommendationOptions]) -> Recommendations:
        """What should this person see? Say who with just one of user_id, account_id, session_id and events."""
        return self._ask(_recommend(options))

    def similar(self, item_id: str, *, limit: int = 20, target_platforms: Sequence[str] | None = None) -> Similar:
        """Items like this one, on all platforms or some."""
        return self._ask(_similar(item_id, limit, target_platforms))

    def send(self, events: Sequence[Event]) -> Kept:
        """Keep events (at most 1,000): on return the accepted ones are on the server's disk."""
        return self._ask(_send(events))

    def history(
        self, user_id: str, *, platform: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> Page:
        """What a person did, newest first."""
        return self._ask(_history(user_id, platform, cursor, limit))

    def ready(self) -> Readiness:
        """Whether the server answers, and from which model."""
        return self._ask(_READY)

    def request(self, method: str, path: str, *, json: Any = None, parameters: Mapping[str, Any] | None = None) -> Any:
        """Any other endpoint: its answer as JSON says it (None if it has none), with the same retries and errors."""
        return self._ask(_Call(method, path, lambda body: body, json, parameters))

    def close(self) -> None:
        """Give back the connections; safe to call again."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: _Call[_T]) -> _T:
        request = call.request(self._http)
        first = self._sent(request)
        wait_s = _wait(first)
        if wait_s is not None:
            time.sleep(wait_s)
            return call.read(_body(self._sent(request)))
        return call.read(_body(first))

    def _sent(self, request: httpx.Request) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.send(request)
        except httpx.TransportError as error:
            return error


class AsyncIsthmus:
    """`Isthmus` for asyncio: the same methods, to be awaited. Close it, or use it in an `async with`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """See `Isthmus`."""
        self._http = http or httpx.AsyncClient(base_url=url, timeout=timeout_s)
        _authorize(self._http, key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._http.base_url.copy_with(userinfo=b''))!r})"

    async def recommend(self, **options: Unpack[RecommendationOptions]) -> Recommendations:
        """What should this person see? Say who with just one of user_id, account_id, session_id and events."""
        return await self._ask(_recommend(options))

    async def similar(self, item_id: str, *, limit: int = 20, target_platforms: Sequence[str] | None = None) -> Similar:
        """Items like this one, on all platforms or some."""
        return await self._ask(_similar(item_id, limit, target_platforms))

    async def send(self, events: Sequence[Event]) -> Kept:
        """Keep events (at most 1,000): on return the accepted ones are on the server's disk."""
        return await self._ask(_send(events))

    async def history(
        self, user_id: str, *, platform: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> Page:
        """What a person did, newest first."""
        return await self._ask(_history(user_id, platform, cursor, limit))

    async def ready(self) -> Readiness:
        """Whether the server answers, and from which model."""
        return await self._ask(_READY)

    async def request(
        self, method: str, path: str, *, json: Any = None, parameters: Mapping[str, Any] | None = None
    ) -> Any:
        """Any other endpoint: its answer as JSON says it (None if it has none), with the same retries and errors."""
        return await self._ask(_Call(method, path, lambda body: body, json, parameters))

    async def close(self) -> None:
        """Give back the connections; safe to call again."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, call: _Call[_T]) -> _T:
        request = call.request(self._http)
        first = await self._sent(request)
        wait_s = _wait(first)
        if wait_s is not None:
            await asyncio.sleep(wait_s)
            return call.read(_body(await self._sent(request)))
        return call.read(_body(first))

    async def _sent(self, request: httpx.Request) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.send(request)
        except httpx.TransportError as error:
            return error


def _authorize(http: httpx.Client | httpx.AsyncClient, key: str | None) -> None:
    if key is not None:
        http.headers["Authorization"] = f"Bearer {key}"


def _wait(came: httpx.Response | httpx.TransportError) -> float | None:
    """Seconds until it is worth sending the request once more, or None."""
    if isinstance(came, httpx.TransportError):
        return 0.2
    if came.status_code != 503:
        return None
    later = _retry_after(came)
    return 0.2 if later is None else later if later <= MAX_WAIT_S else None


def _body(came: httpx.Response | httpx.TransportError) -> Any:
    if isinstance(came, httpx.TransportError):
        raise Unreachable(f"no answer from {came.request.url.copy_with(userinfo=b'')}: {came!r}") from came
    if came.is_success:
        return came.json() if came.content else None
    try:
        told = came.json()
    except ValueError:
        told = None
    raise Problem(came.status_code, told if isinstance(told, dict) else {}, _retry_after(came))


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _plain(value: Any) -> Any:
    """What JSON can hold: instants become text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
