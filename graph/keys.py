"""Keys: what the world calls a node. A key is its own text, so it is stored, logged and served as it is.

ItemKey      <platform>:<id>                 "movielens:50"
AccountKey   account:<platform>:<digest>     the digest is a pseudonym, see `Pseudonyms`
UserKey      user:<digest>
IdentityKey  <kind>:<digest>                 what several accounts may share: a mail address, a telephone number
EntityKey    <kind>:<name>                   "category:Science Fiction"
PlatformKey  <platform>                      "movielens"
"""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Final, Self

from graph.errors import KeyFormatError

MAX_KEY_LENGTH: Final = 256
"""Characters a key may have; the HTTP API holds its callers to the same."""

_PLATFORM = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9_:@.-]+")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED_PLATFORMS: Final = frozenset({"account", "user"})
_ITEM = re.compile(rf"(?!(?:{'|'.join(_RESERVED_PLATFORMS)}):){_PLATFORM.pattern}:{_ID.pattern}")
_RESERVED_KINDS: Final = frozenset({"account", "user", "item", "platform"})


@lru_cache(maxsize=1024)
def check_platform(platform: str) -> str:
    """Return `platform` if it is a platform's name; raise KeyFormatError otherwise."""
    if not _PLATFORM.fullmatch(platform) or platform in _RESERVED_PLATFORMS:
        raise KeyFormatError(
            f"{platform!r} is not a platform name: use 1-64 of a-z 0-9 _ . - beginning with a letter, "
            "and neither 'account' nor 'user'"
        )
    return platform


def _check_id(text: str, what: str) -> None:
    if not _ID.fullmatch(text):
        raise KeyFormatError(f"{text!r} is not {what}: use the characters A-Z a-z 0-9 _ : @ . - (at least one)")


def _check_length(text: str) -> None:
    if len(text) > MAX_KEY_LENGTH:
        raise KeyFormatError(f"{text[:40]!r}… has {len(text)} characters: a key has at most {MAX_KEY_LENGTH}")


def check_item(text: str) -> str:
    """Return `text` if `ItemKey.parse` takes it, in a third of its time; raise KeyFormatError otherwise."""
    return text if _ITEM.fullmatch(text) and len(text) <= MAX_KEY_LENGTH else ItemKey.parse(text)


class PlatformKey(str):
    """A platform's name."""

    __slots__ = ()
    label: ClassVar[str] = "Platform"

    def __new__(cls, name: str) -> Self:
        return str.__new__(cls, check_platform(name))


class ItemKey(str):
    """An item of a platform: `ItemKey("steam", "440")` is the text "steam:440"."""

    __slots__ = ()
    label: ClassVar[str] = "Item"

    def __new__(cls, platform: str, id: str) -> Self:
        check_platform(platform)
        _check_id(id, "an item id")
        text = f"{platform}:{id}"
        _check_length(text)
        return str.__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "platform:id"; raises KeyFormatError."""
        platform, colon, id = text.partition(":")
        if not colon:
            raise KeyFormatError(f"{text!r} is not an item key: write platform:id, such as movielens:50")
        return cls(platform, id)

    @property
    def platform(self) -> str:
        return self.partition(":")[0]

    @property
    def id(self) -> str:
        return self.partition(":")[2]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).parse, (str(self),)


class AccountKey(str):
    """An account of a platform, under its pseudonym: "account:steam:9f86d081884c7d65"."""

    __slots__ = ()
    label: ClassVar[str] = "Account"

    def __new__(cls, platform: str, digest: str) -> Self:
        check_platform(platform)
        _check_id(digest, "an account's pseudonym")
        text = f"account:{platform}:{digest}"
        _check_length(text)
        return str.__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "account:platform:digest"; raises KeyFormatError."""
        prefix, _, rest = text.partition(":")
        platform, colon, digest = rest.partition(":")
        if prefix != "account" or not colon:
            raise KeyFormatError(f"{text!r} is not an account key: write account:platform:digest")
        return cls(platform, digest)

    @property
    def platform(self) -> str:
        return self.split(":", 2)[1]

    @property
    def digest(self) -> str:
        return self.split(":", 2)[2]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).parse, (str(self),)


class UserKey(str):
    """A person, joined from accounts: "user:2c26b46b68ffc68f"."""

    __slots__ = ()
    label: ClassVar[str] = "User"

    def __new__(cls, digest: str) -> Self:
        _check_id(digest, "a user's digest")
        text = f"user:{digest}"
        _check_length(text)
        return str.__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "user:digest"; raises KeyFormatError."""
        prefix, colon, digest = text.partition(":")
        if prefix != "user" or not colon:
            raise KeyFormatError(f"{text!r} is not a user key: write user:digest")
        return cls(digest)

    @property
    def digest(self) -> str:
        return self.partition(":")[2]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).parse, (str(self),)


class IdentityKey(str):
    """What several accounts may share, under its pseudonym: "mail:5d41402abc4b2a76"; it is no node that reads show."""

    __slots__ = ()

    def __new__(cls, kind: str, digest: str) -> Self:
        if not _KIND.fullmatch(kind) or kind in _RESERVED_KINDS:
            raise KeyFormatError(f"{kind!r} is not a kind of identity: write mail, phone, or another word in a-z 0-9 _")
        _check_id(digest, "an identity's pseudonym")
        text = f"{kind}:{digest}"
        _check_length(text)
        return str.__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "kind:digest"; raises KeyFormatError."""
        kind, _, digest = text.partition(":")
        return cls(kind, digest)

    @property
    def kind(self) -> str:
        return self.partition(":")[0]

    @property
    def digest(self) -> str:
        return self.partition(":")[2]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).parse, (str(self),)


class EntityKey(str):
    """Knowledge around items: `EntityKey("category", "Drama")`. Its label is its kind in CamelCase: Category."""

    __slots__ = ()

    def __new__(cls, kind: str, name: str) -> Self:
        if not _KIND.fullmatch(kind) or kind.replace("_", "") in _RESERVED_KINDS:
            raise KeyFormatError(
                f"{kind!r} is not a kind of entity: use a-z 0-9 _ beginning with a letter, such as category, "
                "and none of account, user, item, platform"
            )
        name = unicodedata.normalize("NFC", name).strip()
        if not name or not name.isprintable():
            raise KeyFormatError(f"{name!r} is not the name of a {kind}: give at least one printable character")
        text = f"{kind}:{name}"
        _check_length(text)
        return str.__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "kind:name"; raises KeyFormatError."""
        kind, colon, name = text.partition(":")
        if not colon:
            raise KeyFormatError(f"{text!r} is not an entity key: write kind:name, such as category:Drama")
        return cls(kind, name)

    @property
    def kind(self) -> str:
        return self.partition(":")[0]

    @property
    def name(self) -> str:
        return self.partition(":")[2]

    @property
    def label(self) -> str:
        return "".join(part.capitalize() for part in self.kind.split("_"))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).parse, (str(self),)


NodeKey = PlatformKey | ItemKey | AccountKey | UserKey | EntityKey


class Pseudonyms:
    """Turns raw identities into pseudonyms with a keyed hash (HMAC-SHA256, 128 bits kept); raw values go no further.

    The same secrets give the same pseudonym on every run, which is what makes ingest idempotent; without the newest of
    them nobody can go from a pseudonym back to a guessed identity. Each secret but the first makes a new pseudonym of
    the one before, so that a rotation needs no raw identity (see `rekeyed`).
    """

    def __init__(self, secret: bytes, former: Sequence[bytes] = ()) -> None:
        """Take the secret in use, and those that it replaced, oldest first. Raises: KeyFormatError."""
        secrets = [*former, secret]
        for each in secrets:
            if len(each) < 16:
                raise KeyFormatError(
                    f"the pseudonym key has {len(each)} bytes: give at least 16, for example "
                    "ISTHMUS_PSEUDONYM_KEY=$(openssl rand -hex 32)"
                )
        self._given = secret, tuple(former)
        self._hmac, *self._rotations = (hmac.new(each, digestmod="sha256") for each in secrets)

    def digest(self, *parts: str) -> str:
        """32 hexadecimal characters for these parts; ("a", "bc") and ("ab", "c") differ."""
        mac = self._hmac.copy()
        encoded = [part.encode() for part in parts]
        mac.update(b"".join([piece for raw in encoded for piece in (len(raw).to_bytes(4, "big"), raw)]))
        digest = mac.hexdigest()[:32]
        for rotation in self._rotations:
            digest = _rotated(rotation, tombstone(digest))
        return digest

    def rekeyed(self, grave: str) -> str:
        """The digest that the newest secret makes of the one before, which is given by its tombstone."""
        if not self._rotations:
            raise KeyFormatError("there is one secret only: give the one that it replaces as well")
        return _rotated(self._rotations[-1], grave)

    def account(self, platform: str, raw_id: str) -> AccountKey:
        """The key of the account that `platform` calls `raw_id`."""
        return AccountKey(platform, self.digest("account", platform, raw_id))

    def session(self, platform: str, raw_id: str) -> AccountKey:
        """The key of a session, which is an account of its own until a login says whose it is."""
        return AccountKey(platform, self.digest("session", platform, raw_id))

    def user(self, raw_person_id: str) -> UserKey:
        """The key of the person that an identity table calls `raw_person_id`."""
        return UserKey(self.digest("user", raw_person_id))

    def identity(self, kind: str, raw: str) -> IdentityKey:
        """The key of a mail address or telephone number, whose spelling has been made one beforehand."""
        return IdentityKey(kind, self.digest("identity", kind, raw))

    def __reduce__(self) -> tuple[object, ...]:
        return Pseudonyms, self._given

    def __repr__(self) -> str:
        return "Pseudonyms(secret=…)"


def tombstone(digest: str) -> str:
    """What is kept of an erased account or person: SHA-256 of the digest, which does not give the digest back."""
    return hashlib.sha256(f"tombstone:{digest}".encode()).hexdigest()


def _rotated(rotation: "hmac.HMAC", grave: str) -> str:
    mac = rotation.copy()
    mac.update(grave.encode())
    return mac.hexdigest()[:32]


def lone_user(account: AccountKey) -> UserKey:
    """The person of an account that no evidence joins to another: one per account, under the account's digest."""
    return UserKey(account.digest)
