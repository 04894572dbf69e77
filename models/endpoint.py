"""Endpoint: a text model behind an OpenAI-compatible embeddings API, asked in batches, with retries and a budget.

EndpointError   what was asked for cannot be asked, or was not answered (a TextError)
└── BudgetError the next text may cost more tokens than are left
"""

import hashlib
import ipaddress
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from models.text import TextError

if TYPE_CHECKING:
    import httpx

PREFIX: Final = "openai:"
OPENAI: Final = "https://api.openai.com/v1"
KEYS: Final = ("ISTHMUS_TEXT_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key, the first that is set counts."""

BATCH: Final = 128
"""Texts of one request, at most."""
BATCH_BYTES: Final = 100_000
"""Bytes of one request's texts, at most: a token is at least a byte, and endpoints limit tokens."""
MAX_CHARACTERS: Final = 1_000
"""Characters of a text that are sent, about what the local models read; the rest is cut off."""
ATTEMPTS: Final = 6
LONGEST_WAIT_S: Final = 120.0
"""An endpoint that asks for more patience is not waited for."""
_SHOWN: Final = 300
"""Characters of what an endpoint says of its refusal that are shown."""
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NAME: Final = re.compile(r"(?P<model>[^\s]+?)(?:@(?P<url>https?://[^\s]+))?", re.IGNORECASE)


class EndpointError(TextError):
    """What was asked for cannot be asked, or was not answered."""


class BudgetError(EndpointError):
    """The next text may cost more tokens than are left."""


@dataclass(frozen=True)
class Address:
    """A model and where it is asked."""

    model: str
    url: str
    """The base URL, such as https://api.openai.com/v1; never one with a user, a password or a query."""

    @classmethod
    def parse(cls, name: str) -> Self:
        """`openai:<model>`, or `openai:<model>@<base url>` for another endpoint; raises EndpointError."""
        match = _NAME.fullmatch(name.removeprefix(PREFIX))
        if match is None or (match["url"] is None and "@" in match["model"]) or "://" in match["model"]:
            raise EndpointError(
                f"a text model that begins with {PREFIX} is {PREFIX}MODEL for {OPENAI}, or "
                f"{PREFIX}MODEL@http(s)://HOST/v1 for another endpoint; what was given is neither"
            )
        url = (match["url"] or OPENAI).rstrip("/")
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname:
            raise EndpointError(
                f"the base URL of {match['model']} has a user, a password or a query, or no host: give the plain "
                f"address, and the key in the environment as {KEYS[0]}"
            )
        return cls(match["model"], url)

    @property
    def folder(self) -> str:
        """What its vectors are filed under; the same model's name at another endpoint may be another model."""
        model = PREFIX.replace(":", "--") + re.sub(r"[^\w.-]+", "--", self.model)
        return (
            model if self.url == OPENAI else f"{model}-{hashlib.blake2b(self.url.encode(), digest_size=4).hexdigest()}"
        )

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"


class EndpointModel:
    """A text model that somebody else runs: sends texts over the network, and nothing before the first is asked for.

    What an endpoint refuses for the moment (408, 425, 429, 5xx) and what does not get through is tried again, after as
    long as it asks for (Retry-After) or twice as long each time.
    """

    def __init__(
        self,
        name: str,
        *,
        budget: int | None = None,
        sleep: Callable[[float], object] = time.sleep,
        timeout_s: float = 60.0,
    ) -> None:
        """
        Args:
            name: as `Address.parse` takes it; the key comes from the environment.
            budget: tokens that may be used in all. A text counts, before it is sent, as if each of its bytes were a
                token, and afterwards as the endpoint says; where it says nothing, as before.
        Raises: EndpointError if there is no such address, or the key would cross a network in the clear.
        """
        self._address = Address.parse(name)
        self.name = self._address.folder
        self.tokens = 0
        """Tokens used so far."""
        self._budget, self._sleep = budget, sleep
        self._dim: int | None = None
        self._key = next(filter(None, (os.environ.get(variable, "").strip() for variable in KEYS)), "")
        if not (self._key.isascii() and self._key.isprintable()):
            raise EndpointError(f"the key in {' or '.join(KEYS)} has characters that no header takes: set it again")
        if self._key and self._address.url.lower().startswith("http:") and not _is_here(self._address.url):
            raise EndpointError(
                f"{self._address.url} is not encrypted and would carry the key of {' or '.join(KEYS)} in the clear: "
                "give an https address, or unset the key if it needs none"
            )
        self._timeout_s = timeout_s

    @property
    def dim(self) -> int:
        """Numbers in a vector; asks the endpoint where it has not answered yet."""
        if self._dim is None:
            self.encode(["dimension"])
        assert self._dim is not None  # noqa: S101
        return self._dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), dim] unit vectors; raises EndpointError."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return np.concatenate(list(self.batches(texts)))

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """The unit vectors of the first texts, of the next ones, and so on: what came before an error is there."""
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = httpx.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s))
        # A proxy of the environment is for other machines: what is here is asked here, and no proxy sees the key.
        there = not _is_here(self._address.url)
        with httpx.Client(headers=headers, timeout=timeout, trust_env=there) as client:
            start = 0
            while start < len(texts):
                batch = self._next_batch(texts, start)
                yield self._ask(client, batch)
                start += len(batch)

    def _next_batch(self, texts: Sequence[str], start: int) -> list[str]:
        left = BATCH_BYTES if self._budget is None else min(BATCH_BYTES, self._budget - self.tokens)
        batch: list[str] = []
        for text in texts[start : start + BATCH]:
            text = text[:MAX_CHARACTERS]
            left -= _bytes(text)
            if left < 0:
                break
            batch.append(text)
        if not batch:
            raise BudgetError(
                f"{self._address} has used {self.tokens:,} of {self._budget:,} tokens, and the next text of "
                f"{_bytes(texts[start][:MAX_CHARACTERS]):,} bytes may take more than are left: give a larger --budget"
            )
        return batch

    def _ask(self, client: "httpx.Client", batch: Sequence[str]) -> NDArray[np.float32]:
        body = {"model": self._address.model, "input": batch, "encoding_format": "float"}
        response = self._answered(client, body)
        try:
            answer = response.json()
            rows = sorted(answer["data"], key=lambda row: row["index"])
            numbers = [row["index"] for row in rows]
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
            used = (answer.get("usage") or {}).get("total_tokens")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EndpointError(
                f"{self._address} answered something else than embeddings ({type(error).__name__}): check the base URL"
            ) from error
        if numbers != list(range(len(batch))) or vectors.ndim != 2:
            raise EndpointError(f"{self._address} answered {len(numbers)} vectors for {len(batch)} texts: try again")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise EndpointError(f"{self._address} answered vectors of no direction (zeros, infinite or NaN): check it")
        if self._dim not in {None, vectors.shape[1]}:
            raise EndpointError(f"{self._address} answered {vectors.shape[1]} numbers a text, {self._dim} before")
        self._dim = vectors.shape[1]
        self.tokens += used if isinstance(used, int) and used >= 0 else sum(_bytes(text) for text in batch)
        return np.asarray(vectors / lengths, np.float32)

    def _answered(self, client: "httpx.Client", body: dict[str, Any]) -> "httpx.Response":
        import httpx

        for attempt in range(1, ATTEMPTS + 1):
            wait = 2.0 ** (attempt - 2) * random.uniform(1, 1.5)  # noqa: S311
            try:
                response = client.post(f"{self._address.url}/embeddings", json=body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise EndpointError(f"{self._address} cannot be asked: {type(error).__name__}") from None
            else:
                if response.is_success:
                    return response
                reason = f"{response.status_code} {self._said(response, body['input'])}"
                if response.status_code not in _RETRIED or "insufficient_quota" in reason:
                    raise EndpointError(f"{self._address} refused: {reason}{_advice(response.status_code)}")
                wait = _retry_after(response) or wait
            if wait > LONGEST_WAIT_S:
                raise EndpointError(f"{self._address} asks to wait {wait:,.0f} s ({reason}): try then")
            if attempt < ATTEMPTS:
                self._sleep(wait)
        raise EndpointError(f"{self._address} did not answer in {ATTEMPTS} attempts, at last {reason}: try again later")

    def _said(self, response: "httpx.Response", texts: Sequence[str]) -> str:
        """What an endpoint says of its refusal, in short, without the key and the texts, which it may repeat."""
        said = _message(response) or response.reason_phrase
        for secret in filter(None, (self._key, *sorted(texts, key=len, reverse=True))):
            said = said.replace(secret, "***")
        return " ".join(said.split())[:_SHOWN]


def _bytes(text: str) -> int:
    """At least its tokens: tokenizers make one of a byte at most, and a few that mark where a text begins and ends."""
    return len(text.encode(errors="replace")) + 4


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _message(response: "httpx.Response") -> str:
    """The sentence of an error: OpenAI's form, or that of those who only nearly have it; else nothing is quoted."""
    try:
        body = response.json()
    except ValueError:
        return ""
    said = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(said, dict):
        return said if isinstance(said, str) else ""
    parts = (said.get(name) for name in ("code", "message", "detail"))
    return " ".join(part for part in parts if isinstance(part, str))


def _advice(status: int) -> str:
    if status in {401, 403}:
        return f"; set {' or '.join(KEYS)} to a key that it takes"
    return "; check the model's name and the base URL" if status == 404 else ""


def _retry_after(response: "httpx.Response") -> float | None:
    """Seconds that an endpoint asks to wait, given as such or as a date (RFC 9110, 10.2.3)."""
    said = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
