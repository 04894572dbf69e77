import os
import stat
from pathlib import Path

import pytest

from serve import keys
from serve.errors import KeysError
from serve.keys import Key, Keyring, add, make, read

SHOP, SHOP_KEY = make("shop", ["read", "write"], 600)
OPS, OPS_KEY = make("ops", ["admin"], 0)


def bearer(key: str) -> bytes:
    return f"Bearer {key}".encode()


def test_a_key_is_found_by_its_text_and_kept_as_a_hash_alone():
    ring = Keyring([SHOP_KEY.line(), OPS_KEY.line()])
    assert ring.find(bearer(SHOP)) == SHOP_KEY
    assert ring.find(f"bearer  {OPS}".encode()) == OPS_KEY
    assert SHOP.startswith("isthmus_")
    assert len(SHOP) == len("isthmus_") + 43
    assert SHOP not in SHOP_KEY.line()
    assert SHOP.removeprefix("isthmus_") not in repr(SHOP_KEY)


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", SHOP.encode(), b"Basic " + SHOP.encode(), b"Bearer x"],
    ids=["nothing", "no key", "a space", "a key alone", "another scheme", "no key of ours"],
)
def test_anything_else_is_no_key(header: bytes):
    assert Keyring([SHOP_KEY.line()]).find(header) is None


def test_the_hash_of_a_key_is_not_a_key():
    assert Keyring([SHOP_KEY.line()]).find(bearer(SHOP_KEY.digest.hex())) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "the key on a line is not written as"),
        ("shop read 600", "the key shop is not written as"),
        ("Shop read 600 " + 64 * "0", "the key on a line is not written as"),
        ("shop read,delete 600 " + 64 * "0", "unknown scope 'delete'"),
        ("shop read -1 " + 64 * "0", "'-1' requests a minute"),
        ("shop read 600 isthmus_secret", "no SHA-256"),
    ],
)
def test_a_line_that_is_no_key_is_explained_without_its_hash(line: str, said: str):
    with pytest.raises(KeysError, match=said) as caught:
        Key.parse(line)
    assert "secret" not in str(caught.value)


def test_a_line_is_read_as_it_was_written():
    assert Key.parse(SHOP_KEY.line()) == SHOP_KEY
    assert Key.parse(f"  {OPS_KEY.line()}  ") == OPS_KEY


def test_the_file_is_its_owners_alone(tmp_path: Path):
    file = tmp_path / "var" / "keys"
    add(file, SHOP_KEY)
    add(file, OPS_KEY)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read(file) == [SHOP_KEY, OPS_KEY]
    file.write_text(f"# for the shop\n\n{SHOP_KEY.line()}\n")
    assert read(file) == [SHOP_KEY]
    file.chmod(0o640)
    with pytest.raises(KeysError, match=f"others than its owner can read .*: chmod 600 {file}"):
        Keyring((), file)


def test_a_key_that_comes_into_the_file_is_valid_and_one_that_leaves_is_not(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(keys, "LOOK_AGAIN_S", 0.0)
    file = tmp_path / "keys"
    ring = Keyring((), file)
    assert not ring.are_needed()
    add(file, SHOP_KEY)
    assert ring.are_needed()
    assert ring.find(bearer(SHOP)) == SHOP_KEY
    replace(file, OPS_KEY.line() + "\n")
    assert ring.are_needed()
    assert (ring.find(bearer(SHOP)), ring.find(bearer(OPS))) == (None, OPS_KEY)


def test_a_server_that_asked_for_keys_goes_on_to_ask_when_the_last_one_is_gone(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(keys, "LOOK_AGAIN_S", 0.0)
    file = tmp_path / "keys"
    add(file, SHOP_KEY)
    ring = Keyring((), file)
    assert ring.are_needed()
    file.unlink()
    assert ring.are_needed()
    assert ring.find(bearer(SHOP)) is None
    assert Keyring((), file, required=True).are_needed()


def test_a_broken_file_leaves_the_keys_as_they_were(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(keys, "LOOK_AGAIN_S", 0.0)
    file = tmp_path / "keys"
    add(file, SHOP_KEY)
    ring = Keyring((), file)
    replace(file, "shop everything\n")
    assert ring.are_needed()
    assert ring.find(bearer(SHOP)) == SHOP_KEY
    assert "the keys known before go on: the key shop is not written as" in caplog.text


def test_the_servers_own_key_may_do_everything_and_makes_no_key_needed():
    text, own = make("isthmus", ["read"], 1)
    ring = Keyring(own=own.digest)
    assert not ring.are_needed()
    found = ring.find(bearer(text))
    assert found is not None
    assert (found.scopes, found.per_minute) == ({"read", "write", "admin"}, 0)


def replace(file: Path, text: str) -> None:
    draft = file.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(text)
    os.replace(draft, file)
