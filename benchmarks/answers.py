"""CPU time of an answer, part by part: reasons, a filter, diversity, rules, a mask, a cursor, and the whole request.

    python -m benchmarks.answers            about a minute; --items 100000 for twice as many

What `serve.recommender` does with 50 events of a person over the bundle of random numbers that benchmarks.serving asks;
then the same through the application in this process, without a network. Each is the median of 120, of 120 people
who ask in turn; nobody asks again before their reading is forgotten, but where it says so. Beside it stands the plain
way to the same: every item compared in single precision, the encoder in PyTorch.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.serving import HISTORY, NUM_ITEMS, _fill_store, _guests, _item, write_random_bundle

if TYPE_CHECKING:
    from models.bundle import Bundle
    from serve.recommender import Recommender

TIMES: Final = 120
_APART: Final = 20
"""Rounds between two questions of one person: by then more people were read than are remembered."""


def main() -> None:
    """Ask each kind of answer in turn, so that a busy moment falls on all alike, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=NUM_ITEMS)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, asyncio.Runner() as runner:
        from models.bundle import Bundle
        from models.ranker import Ranker
        from serve.recommender import Recommender

        bundle = Bundle.open(write_random_bundle(Path(folder), options.items))
        recommender = Recommender(bundle, Ranker(bundle))
        asked = _parts(bundle) | _questions(recommender)
        with _requests(recommender, Path(folder)) as requests:
            asked |= {
                name: lambda n, request=request: runner.run(request(n))  # type: ignore[misc]
                for name, request in requests.items()
            }
            measured: dict[str, list[float]] = {name: [] for name in asked}
            for n in range(-2, TIMES):
                for name, ask in asked.items():
                    begun = time.process_time()
                    ask(n)
                    if n >= 0:
                        measured[name].append(1000 * (time.process_time() - begun))
    print(f"| {options.items:,} items, {HISTORY} events | CPU ms |\n|---|--:|")
    for name, milliseconds in measured.items():
        print(f"| {name} | {statistics.median(milliseconds):.2f} |")


def _parts(bundle: "Bundle") -> dict[str, Callable[[int], object]]:
    """The steps of a list, each beside the plain way to the same."""
    import torch

    from graph.interactions import Histories
    from models.encoder import EventBatch
    from models.flagship import wanted
    from models.ranker import Ranker

    model, random = bundle.flagship, np.random.default_rng(1)
    size = len(bundle.items)
    people = [
        Histories(
            np.array([0, HISTORY]),
            random.integers(0, size, HISTORY),
            random.integers(0, 2, HISTORY),
            np.arange(HISTORY) * 3600,
            np.ones(HISTORY, np.float32),
        )
        for _ in range(TIMES)
    ]
    plain, looked = Ranker(bundle, look_from=size + 1), Ranker(bundle)

    def network(n: int) -> object:
        with torch.inference_mode():
            batch = EventBatch.from_histories(wanted(people[n]), model.max_history)
            rows = batch.item.numpy()
            vectors, platform = torch.from_numpy(model.vectors[rows]), torch.from_numpy(model.item_platform[rows])
            return model.history.parts(vectors, batch, platform).sum(dim=1)

    def list_of(ranker: Ranker) -> Callable[[int], object]:
        return lambda n: ranker.rank(people[n], exclude=people[n].item, k=200)

    return {
        "the encoder in PyTorch, plainly": network,
        "the encoder": lambda n: model.queries(people[n]),
        "the encoder, once more": lambda n: model.queries(people[n]),
        "the sparse part": lambda n: model.leads_to.score(people[n]),
        "the best 200, every item compared, encoder read before": list_of(plain),
        "the best 200, encoder read before": list_of(looked),
    }


@contextmanager
def _requests(recommender: "Recommender", folder: Path) -> Iterator[dict[str, Callable[[int], Awaitable[object]]]]:
    """Whole requests, through the application over an embedded store."""
    from graph.keys import Pseudonyms
    from graph.store import open_store
    from serve.app import create_app
    from serve.live import Live, StoreGate
    from serve.metrics import Metrics
    from serve.outbox import Outbox
    from serve.service import Service

    url = f"sqlite:///{folder / 'graph.db'}"
    _fill_store(url, len(recommender.bundle.items))
    gate = StoreGate(lambda: open_store(url))
    with Outbox(folder / "outbox.db") as outbox:
        service = Service(Live(outbox, gate), outbox, Pseudonyms(b"0" * 32), Metrics())
        service.recommender = recommender
        app = create_app(service, shows_request_id=False)

        async def ask(body: bytes) -> None:
            sent: list[Any] = []
            received = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive() -> Any:
                return received.pop()

            async def send(message: Any) -> None:
                sent.append(message)

            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": "/v1/recommendations",
                "query_string": b"",
                "headers": headers,
            }
            await app(scope, receive, send)
            if sent[0]["status"] != 200:
                raise SystemExit(f"{body[:100]!r} was answered {sent}")

        def asking(**rest: object) -> Callable[[int], Awaitable[object]]:
            bodies = [json.dumps({"user_id": f"user:{n}", **rest}).encode() for n in range(TIMES)]
            return lambda n: ask(bodies[(n + _APART) % TIMES] if "explain" in rest else bodies[n])

        guests = [
            json.dumps({"events": events, "explain": False}).encode()
            for events in _guests(len(recommender.bundle.items))
        ]
        try:
            yield {
                "a request: person never seen, without reasons": lambda n: ask(guests[n]),
                "the same request, once more": lambda n: ask(guests[n]),
                "a request: known person, without reasons": asking(explain=False),
                "a request: known person, with reasons": asking(),
            }
        finally:
            service.close()
            gate.close()


def _questions(recommender: "Recommender") -> dict[str, Callable[[int], object]]:
    """Answers without HTTP and store, by what the table calls them; each takes the number of the person who asks."""
    from serve import filters
    from serve.cursors import Cursors, Rest
    from serve.recommender import Signal
    from serve.scenarios import Scenario

    random = np.random.default_rng(0)
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    people: Sequence[list[Signal]] = [
        [Signal(str(_item(int(item))), "RATED", begin + timedelta(hours=hour), 1.0) for hour, item in enumerate(items)]
        for items in random.integers(0, len(recommender.bundle.items), (TIMES, HISTORY))
    ]
    of_films = filters.parse('platform == "films"')
    rules = Scenario.model_validate(
        {
            "boost": [{"filter": 'platform == "shop"', "by": 0.5}],
            "bury": ['title == "Item 7"'],
            "quotas": {"films": {"at_least": 0.3}},
        }
    )
    cursors = Cursors(b"0" * 32)
    rest = Rest(np.arange(180), [])

    def person(n: int, place: int) -> list[Signal]:
        return people[(n + place * _APART) % TIMES]

    def turn(n: int) -> object:
        return cursors.read(cursors.write("version", b"request1", rest), "version", b"request1", "/cursor")

    return {
        "plain, without reasons": lambda n: recommender.recommend(people[n], limit=20, explain=False),
        "plain, with reasons": lambda n: recommender.recommend(person(n, 1), limit=20),
        "a filter that is remembered, without reasons": lambda n: recommender.recommend(
            person(n, 2), limit=20, allowed=recommender.allowed(of_films), explain=False
        ),
        "diversity .3, without reasons": lambda n: recommender.recommend(
            person(n, 3), limit=20, diversity=0.3, explain=False
        ),
        "a boost, something buried and a quota, without reasons": lambda n: recommender.recommend(
            person(n, 4), limit=20, scenario=rules, explain=False
        ),
        "a filter's mask, not remembered": lambda n: filters.mask(of_films, recommender.bundle.attributes),
        "a cursor written and read": turn,
    }


if __name__ == "__main__":
    main()
