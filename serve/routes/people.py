"""Routes of persons: who they are, which accounts are theirs, and their erasure."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from fastapi import FastAPI
from fastapi.responses import Response

from graph.errors import ErasedError
from graph.keys import AccountKey, PlatformKey, UserKey, lone_user, tombstone
from graph.records import Account, Link, Platform, User
from graph.store import Store
from serve.api import JobAnswer, UserAnswer, check_account_id
from serve.errors import Problem
from serve.routes.jobs import accepted
from serve.routes.wire import account_key, answers, in_path, send
from serve.service import Service, in_pool

API: Final = "api"
"""What says that an account is a person's, where this interface was told so."""
UNLINKED: Final = "unlinked"

_T = TypeVar("_T")


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.put("/v1/users/{user_id}", responses=answers(UserAnswer, 410, 422, 503) | answers(UserAnswer, good=201))
    async def put(user_id: str) -> Response:
        """Make a person, to link accounts to. The part after user: is yours to choose, and is stored as it is."""
        user = in_path(UserKey.parse, user_id)
        if service.is_erased(user):
            raise _erased()
        counts = await _told_by(service, lambda store: store.upsert_nodes([User(user)]))
        links = await _told_by(service, lambda store: _links(store, user))
        return send(_told(user, links, False), 201 if counts.created else 200)

    @app.get("/v1/users/{user_id}", responses=answers(UserAnswer, 404, 422, 503))
    async def get(user_id: str) -> Response:
        """A person's accounts, and what says that they are theirs."""
        user = in_path(UserKey.parse, user_id)
        found = None if service.is_erased(user) else await service.ask(lambda store: _find(store, user))
        if found is None and not service.is_erased(user):
            return send(_told(user, [], True))
        if not found or (not found[1] and not service.outbox.pending_of(digest=user.digest)):
            raise _unknown(user)
        return send(_told(user, found[0], False))

    @app.delete("/v1/users/{user_id}", status_code=202, responses=answers(JobAnswer, 404, 422, 503, good=202))
    async def erase(user_id: str) -> Response:
        """Forget a person with accounts and events. Nothing is shown of them from now on; the job removes the rest."""
        user = in_path(UserKey.parse, user_id)
        found = await service.ask(lambda store: _find(store, user))
        waiting = await in_pool(service.disk_pool, lambda: service.outbox.pending_of(digest=user.digest))
        if found is not None and not found[1] and not waiting and not service.is_erased(user):
            raise _unknown(user)
        accounts = {link.account for link in (found[0] if found else [])} | {event.account for event in waiting}
        digests = {user.digest} | {account.digest for account in accounts}
        graves = [tombstone(digest) for digest in digests]
        await in_pool(service.disk_pool, lambda: service.tombstones.add(graves))
        return accepted(await in_pool(service.disk_pool, lambda: service.jobs.add("erase", {"user_id": user})))

    @app.put(
        "/v1/users/{user_id}/accounts/{account_id}",
        responses=answers(UserAnswer, 409, 410, 422, 503) | answers(UserAnswer, good=201),
    )
    async def link(user_id: str, account_id: str) -> Response:
        """Say that an account is this person's. 409 where it is somebody else's; unlink it there first.

        The account is platform:id as the platform writes it, or its pseudonym account:…, which no log can give away.
        """
        user, account = in_path(UserKey.parse, user_id), _account(account_id, service)
        if service.is_erased(user) or service.is_erased(account):
            raise _erased()
        created, links = await _told_by(service, lambda store: _link(store, user, account))
        return send(_told(user, links, False), 201 if created else 200)

    @app.delete(
        "/v1/users/{user_id}/accounts/{account_id}", status_code=204, responses=answers(None, 404, 422, 503, good=204)
    )
    async def unlink(user_id: str, account_id: str) -> Response:
        """Take back that an account is this person's: it is a person of its own again. What it did stays with it."""
        user, account = in_path(UserKey.parse, user_id), _account(account_id, service)
        await _told_by(service, lambda store: _unlink(store, user, account))
        return Response(status_code=204)


def _account(text: str, service: Service) -> AccountKey:
    if text.startswith("account:"):
        return in_path(AccountKey.parse, text)
    try:
        return account_key(check_account_id(text), service.pseudonyms)
    except ValueError as error:
        raise Problem(422, "invalid-id", str(error)) from None


async def _told_by(service: Service, question: Callable[[Store], _T]) -> _T:
    """The store's answer; Problem 503 where it cannot be had now."""

    def asked(store: Store) -> tuple[_T]:
        try:
            return (question(store),)
        except ErasedError:
            raise _erased() from None

    answer = await service.ask(asked)
    if answer is None:
        detail = "the graph store does not answer now: send it again later"
        raise Problem(503, "store-unavailable", detail, headers={"Retry-After": "5"})
    return answer[0]


def _find(store: Store, user: UserKey) -> tuple[list[Link], bool]:
    """A person's links, and whether there is such a person."""
    around = store.neighbourhood(user)
    return [edge for edge in around.edges if isinstance(edge, Link)], bool(around.nodes)


def _links(store: Store, user: UserKey) -> list[Link]:
    return _find(store, user)[0]


def _link(store: Store, user: UserKey, account: AccountKey) -> tuple[bool, list[Link]]:
    before = store.user_of(account)
    if before == user:
        return False, _links(store, user)
    if before not in {None, lone_user(account)}:
        raise Problem(409, "linked-elsewhere", f"the account is {before}'s: unlink it there first")
    store.upsert_nodes([Platform(PlatformKey(account.platform)), Account(account)])
    store.link([Link(account, user, API, datetime.now(UTC))])
    after = store.user_of(account)
    if after != user:
        raise Problem(409, "linked-elsewhere", f"other accounts that are known to be the same make it {after}'s")
    return True, _links(store, user)


def _unlink(store: Store, user: UserKey, account: AccountKey) -> None:
    if store.user_of(account) != user:
        raise Problem(404, "not-linked", f"the account is not one of {user}'s accounts")
    store.revoke([known.evidence for known in store.evidence_of([account])])
    if store.user_of(account) == user != lone_user(account):
        store.link([Link(account, lone_user(account), UNLINKED, datetime.now(UTC))])


def _told(user: UserKey, links: list[Link], degraded: bool) -> dict[str, Any]:
    return {
        "user_id": user,
        "degraded": degraded,
        "accounts": [
            {
                "account": link.account,
                "platform": link.account.platform,
                "evidence": link.evidence,
                "since": None if link.at is None else link.at.isoformat().replace("+00:00", "Z"),
            }
            for link in sorted(links, key=lambda link: link.account)
        ],
    }


def _unknown(user: UserKey) -> Problem:
    return Problem(404, "unknown-user", f"nobody is known as {user}")


def _erased() -> Problem:
    return Problem(410, "erased-account", "this person was erased and is not taken again")
