"""Keys: their form, their parts, and pseudonyms."""

import copy
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import IsthmusError, KeyFormatError
from graph.keys import (
    MAX_KEY_LENGTH,
    AccountKey,
    EntityKey,
    IdentityKey,
    ItemKey,
    PlatformKey,
    Pseudonyms,
    UserKey,
    check_item,
    check_platform,
    lone_user,
)

SECRET = b"0123456789abcdef"
platforms = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True).filter(
    lambda name: name not in {"account", "user"}
)
ids = st.text(string.ascii_letters + string.digits + "_:@.-", min_size=1, max_size=100)


def test_a_key_is_its_text_and_knows_its_parts() -> None:
    item = ItemKey("steam", "440:dlc")
    account = AccountKey("steam", "9f86:d0")
    entity = EntityKey("science_field", "Physics: waves")

    assert (item, item.platform, item.id, item.label) == ("steam:440:dlc", "steam", "440:dlc", "Item")
    assert (account, account.platform, account.digest) == ("account:steam:9f86:d0", "steam", "9f86:d0")
    assert (entity, entity.kind, entity.name) == ("science_field:Physics: waves", "science_field", "Physics: waves")
    assert entity.label == "ScienceField"
    assert UserKey("2c26") == "user:2c26"
    assert PlatformKey("steam") == "steam"


@given(platforms, ids)
def test_every_key_parses_back_to_itself(platform: str, id: str) -> None:
    for key in (ItemKey(platform, id), AccountKey(platform, id), UserKey(id), EntityKey("tag", id)):
        assert type(key).parse(str(key)) == key


@given(platforms, ids)
def test_every_key_survives_pickling_and_copying_with_its_type(platform: str, id: str) -> None:
    keys = (ItemKey(platform, id), AccountKey(platform, id), UserKey(id), EntityKey("tag", id), PlatformKey(platform))
    for key in keys:
        for twin in (pickle.loads(pickle.dumps(key)), copy.deepcopy(key)):  # noqa: S301
            assert twin == key
            assert type(twin) is type(key)


@pytest.mark.parametrize("name", ["", "Steam", "9gag", "a b", "a:b", "account", "user", "ü", "a" * 65, "a\n"])
def test_a_platform_has_a_plain_name(name: str) -> None:
    with pytest.raises(KeyFormatError, match="is not a platform name: use"):
        check_platform(name)


@pytest.mark.parametrize("id", ["", "a b", "ü", "a/b", "a'b", "a\n", "a\0"])
def test_an_id_has_plain_characters(id: str) -> None:
    for make in (lambda: ItemKey("steam", id), lambda: AccountKey("steam", id), lambda: UserKey(id)):
        with pytest.raises(KeyFormatError, match="use the characters"):
            make()


def test_a_key_has_at_most_256_characters() -> None:
    longest = "a" * (MAX_KEY_LENGTH - len("steam:"))
    assert len(ItemKey("steam", longest)) == 256
    with pytest.raises(KeyFormatError, match="has 257 characters"):
        ItemKey("steam", longest + "a")
    with pytest.raises(KeyFormatError, match="at most 256"):
        EntityKey("tag", "界" * 256)


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (ItemKey, "steam", "write platform:id"),
        (ItemKey, "account:steam:1", "not a platform name"),
        (AccountKey, "steam:1", "write account:platform:digest"),
        (AccountKey, "account:steam", "write account:platform:digest"),
        (AccountKey, "user:1", "write account:platform:digest"),
        (UserKey, "account:1", "write user:digest"),
        (UserKey, "user", "write user:digest"),
        (EntityKey, "Drama", "write kind:name"),
    ],
)
def test_a_text_that_is_no_key_is_named(kind: type[ItemKey], text: str, problem: str) -> None:
    with pytest.raises(KeyFormatError, match=problem):
        kind.parse(text)


@pytest.mark.parametrize(
    "kind", ["", "Tag", "1st", "a-b", "account", "user", "item", "platform", "user_", "it_em_", "platform__", "tag\n"]
)
def test_a_kind_of_entity_is_plain_and_none_of_ours(kind: str) -> None:
    with pytest.raises(KeyFormatError, match="is not a kind of entity"):
        EntityKey(kind, "name")


def test_an_entity_name_is_normalised_and_printable() -> None:
    assert EntityKey("tag", "  Cafe\u0301 ") == EntityKey("tag", "Café")
    for name in ("", "   ", "a\nb", "a\0b", "a\u200fb"):
        with pytest.raises(KeyFormatError, match="is not the name of a tag"):
            EntityKey("tag", name)


def test_pseudonyms_are_the_same_for_the_same_secret_and_others_for_another() -> None:
    first, again, other = Pseudonyms(SECRET), Pseudonyms(SECRET), Pseudonyms(SECRET + b"!")
    assert first.account("steam", "ann@example.org") == again.account("steam", "ann@example.org")
    assert first.account("steam", "ann@example.org") != other.account("steam", "ann@example.org")
    assert first.account("steam", "1") != first.account("epic", "1").replace("epic", "steam")
    assert first.user("1") != first.user("2")


def test_pseudonyms_keep_parts_apart_and_hide_what_they_are_made_of() -> None:
    pseudonyms = Pseudonyms(SECRET)
    assert pseudonyms.digest("a", "bc") != pseudonyms.digest("ab", "c")
    assert "ann" not in pseudonyms.account("steam", "ann@example.org")
    assert SECRET.decode() not in repr(pseudonyms)
    assert len(pseudonyms.digest("a")) == 32


def test_a_short_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(KeyFormatError, match="has 5 bytes: give at least 16") as caught:
        Pseudonyms(b"hello")
    assert "hello" not in str(caught.value)
    assert isinstance(caught.value, IsthmusError)


def test_an_account_without_evidence_has_a_person_of_its_own() -> None:
    assert lone_user(AccountKey("steam", "9f86")) == UserKey("9f86")


def test_an_identity_has_a_kind_and_a_pseudonym() -> None:
    mail = Pseudonyms(b"0123456789abcdef").identity("mail", "ann@example.org")
    assert (mail.kind, IdentityKey.parse(mail)) == ("mail", mail)
    assert "ann" not in mail
    for kind in ("account", "user", "Mail", ""):
        with pytest.raises(KeyFormatError, match="kind of identity"):
            IdentityKey(kind, mail.digest)


def test_secrets_are_a_chain_of_which_the_newest_is_needed() -> None:
    old, new = b"0123456789abcdef", b"fedcba9876543210"
    both = Pseudonyms(new, [old]).account("shop", "ann")
    assert both not in {Pseudonyms(old).account("shop", "ann"), Pseudonyms(new).account("shop", "ann")}
    assert both != Pseudonyms(old, [new]).account("shop", "ann")
    with pytest.raises(KeyFormatError, match="5 bytes"):
        Pseudonyms(new, [b"short"])


@given(
    st.one_of(platforms, st.sampled_from(["account", "user", "accounts", "A", ""])),
    ids,
    st.sampled_from(["", " ", "\n", "é"]),
)
def test_an_item_key_is_checked_as_it_is_parsed(platform: str, id: str, after: str) -> None:
    def said(read, text: str) -> str:
        try:
            return f"key {read(text)}"
        except KeyFormatError as error:
            return f"error {error}"

    for text in (f"{platform}:{id}{after}", f"{platform}{id}", f"{platform}:", f"{platform}:{id}" + 200 * "x"):
        assert said(check_item, text) == said(ItemKey.parse, text)
