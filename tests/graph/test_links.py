"""Links: what evidence makes of accounts, whatever the order in which it came."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from graph.keys import AccountKey, IdentityKey, UserKey, lone_user
from graph.links import SAME_PLATFORM, Known, Resolved, Touched, resolve
from graph.records import LONE, Evidence, Link

A, B, C, D = map(AccountKey, ("films", "books", "films", "music"), "abcd")
MAIL, OTHER, PHONE = IdentityKey("mail", "1"), IdentityKey("mail", "2"), IdentityKey("phone", "1")
DAYS = [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 10)]


def has(identity: IdentityKey, *accounts: AccountKey, at: datetime | None = None) -> list[Evidence]:
    return [Evidence(account, identity, "test", at) for account in accounts]


def resolved(evidence: Iterable[Evidence], stated: Iterable[Link] = ()) -> Resolved:
    links = {account: Link(account, lone_user(account), LONE) for account in (A, B, C, D)}
    links |= {link.account: link for link in stated}
    return resolve(Touched({one.id: Known(one) for one in evidence}, links, set()))


def people(found: Resolved) -> set[frozenset[str]]:
    users = {link.user for link in found.links.values()}
    return {frozenset(link.account for link in found.links.values() if link.user == user) for user in users}


def test_the_pair_that_shares_more_is_joined_and_the_other_left_out() -> None:
    weak = has(MAIL, C)
    found = resolved([*has(MAIL, A, B), *weak, *has(PHONE, A, B)])
    assert people(found) == {frozenset({A, B}), frozenset({C}), frozenset({D})}
    assert found.left_out == {weak[0].id: SAME_PLATFORM}


def test_where_nothing_says_which_pair_is_right_neither_is_joined() -> None:
    found = resolved(has(MAIL, A, B, C))
    assert len(people(found)) == 4
    assert len(found.left_out) == 3


def test_a_mail_address_goes_before_a_telephone_number() -> None:
    found = resolved([*has(PHONE, A, B), *has(MAIL, B, C)])
    assert people(found) == {frozenset({B, C}), frozenset({A}), frozenset({D})}


def test_a_login_joins_what_an_address_may_not() -> None:
    found = resolved([Evidence(A, C, "test"), *has(MAIL, C, B)])
    assert people(found) == {frozenset({A, B, C}), frozenset({D})}
    assert found.links[A] == Link(A, lone_user(B), "login")
    assert found.links[B] == Link(B, lone_user(B), "mail")


def test_a_login_that_contradicts_what_says_more_is_left_out() -> None:
    login = Evidence(B, C, "test")
    found = resolved([*has(MAIL, A, B), *has(PHONE, A, B), login])
    assert people(found) == {frozenset({A, B}), frozenset({C}), frozenset({D})}
    assert found.left_out == {login.id: SAME_PLATFORM}
    assert people(resolved([*has(MAIL, A, B), login])) == {frozenset({C, B}), frozenset({A}), frozenset({D})}
    said = Evidence(A, C, "test")
    assert people(resolved([*has(MAIL, A, B), *has(PHONE, A, B), login, said])) == {
        frozenset({A, B, C}),
        frozenset({D}),
    }


def test_a_person_of_a_table_gives_the_key_and_keeps_the_link_as_it_was_stated() -> None:
    stated = Link(C, UserKey("zoe"), "identity-table", DAYS[3])
    found = resolved(has(MAIL, B, C, at=DAYS[0]), [stated])
    assert found.links[C] == stated
    assert found.links[B] == Link(B, UserKey("zoe"), "mail", DAYS[3])


def test_a_link_holds_since_the_newest_step_of_its_oldest_road() -> None:
    late = [*has(MAIL, A, B, at=DAYS[5]), Evidence(A, D, "test", DAYS[2])]
    assert {key: link.at for key, link in resolved(late).links.items()} == {B: None, A: DAYS[5], D: DAYS[5], C: None}
    early = [*late, *has(PHONE, B, D, at=DAYS[1])]
    assert {key: link.at for key, link in resolved(early).links.items()} == {B: None, A: DAYS[2], D: DAYS[1], C: None}


accounts = [AccountKey(platform, name) for platform in ("p", "q", "r") for name in ("1", "2", "3")]
pieces = st.one_of(
    st.builds(Evidence, st.sampled_from(accounts), st.sampled_from([MAIL, OTHER, PHONE]), st.just("test")),
    st.lists(st.sampled_from(accounts), min_size=2, max_size=2, unique=True).map(lambda two: Evidence(*two, "test")),
)


@given(st.lists(pieces, max_size=14, unique_by=lambda one: one.id), st.data())
def test_the_order_in_which_evidence_comes_says_nothing_and_shared_identities_keep_platforms_apart(
    said: list[Evidence], data: st.DataObject
) -> None:
    links = {account: Link(account, UserKey(f"{account.platform}-{account.digest}"), LONE) for account in accounts}
    known = {one.id: Known(one) for one in said}
    first = resolve(Touched(known, links, set()))
    other_order = dict(data.draw(st.permutations(list(known.items()))))
    other_accounts = dict(data.draw(st.permutations(list(links.items()))))
    assert resolve(Touched(other_order, other_accounts, set())) == first
    stated = resolve(Touched({one.id: Known(one) for one in said if one.is_within_a_platform}, links, set()))
    person_of = {account: link.user for account, link in first.links.items()}
    stated_of = {account: link.user for account, link in stated.links.items()}
    for one, other in combinations(accounts, 2):
        if one.platform == other.platform and person_of[one] == person_of[other]:
            assert stated_of[one] == stated_of[other]
