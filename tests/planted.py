"""The planted graph: three platforms, people of one taste each, and answers that are known beforehand.

Every taste has eight items on every platform: seven in a ring that people walk in order, and the eighth, cold, which
came after all events and is known by its text, its category and its creator alone. A person has one taste and walks
five steps of its ring on each of their platforms, the platforms taking turns; so what they want next on a platform is
the rest of that ring, its next item first, and then the cold item.

    36 people    `space-0` … `garden-11`, on two or three platforms, joined by the identity table
    3 newcomers  `space-newcomer` …, two events on books and none elsewhere: their films are known by their taste
    1 stray      an account on music whom nothing joins to a person; it hears space

Among them, on purpose: two relationships of different types between the same nodes, ties that only `sequence` parts,
dislikes, a title with umlauts and Chinese, and a text that tries to be a query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from graph.keys import AccountKey, EntityKey, ItemKey, PlatformKey, UserKey, lone_user
from graph.records import LONE, Account, Edge, Entity, Event, Item, Link, Node, Platform, Relation
from graph.store import Store

PLATFORMS: Final = ("books", "films", "music")
TASTES: Final = ("space", "crime", "garden")
RING: Final = 7
"""Items of a taste on a platform that people walk; the item of this number is the cold one."""
STEPS: Final = 5
"""Items that a person walks on each of their platforms."""
FIRST_EVENT: Final = datetime(2024, 1, 1, tzinfo=UTC)
COLD_FROM: Final = datetime(2024, 3, 1, tzinfo=UTC)
"""When the cold items came: later than all events."""

EVENT_TYPES: Final = {"books": ("PURCHASED", 1.0), "films": ("RATED", 1.0), "music": ("PLAYED", 0.7)}
"""What people do on each platform, and its weight."""

TITLES: Final = {
    "space": (
        "A rocket to the moon",
        "The astronaut's diary",
        "Orbit of Jupiter",
        "Voyage to the red planet",
        "Stars beyond the galaxy",
        "The space station",
        "A comet in the telescope",
        "Light years from Earth",
    ),
    "crime": (
        "Murder at midnight",
        "The detective's last case",
        "Blood on the stairs",
        "A thief in the museum",
        "The silent witness",
        "Poison for the judge",
        "The inspector returns",
        "Who killed the banker",
    ),
    "garden": (
        "Roses for beginners",
        "The vegetable patch",
        "Überraschung im Garten 花园",
        "Trees and hedges",
        "A year among the tulips",
        "Compost and soil",
        "The herb garden",
        "Pruning apple trees",
    ),
}
HOSTILE_TEXT: Final = "'); DROP TABLE nodes; -- \"}) DETACH DELETE n // {{7*7}} \\"


@dataclass(frozen=True)
class Person:
    """One of the 39 whose taste is known."""

    name: str
    taste: str
    platforms: Sequence[str]
    start: int
    """Where on the ring they begin."""
    steps: int
    shift: timedelta
    """How long after FIRST_EVENT they begin."""

    @property
    def user(self) -> UserKey:
        return UserKey(self.name)

    def account(self, platform: str) -> AccountKey:
        return AccountKey(platform, self.name)

    def walked(self, platform: str) -> Sequence[ItemKey]:
        """What they did on a platform, in order."""
        steps = self.steps if platform in self.platforms else 0
        return [item_of(platform, self.taste, (self.start + step) % RING) for step in range(steps)]

    def wanted(self, platform: str) -> Sequence[ItemKey]:
        """What they want next on a platform: the rest of the ring, next item first, then the cold item."""
        steps = self.steps if platform in self.platforms else 0
        ring = [item_of(platform, self.taste, (self.start + step) % RING) for step in range(steps, RING)]
        return [*ring, item_of(platform, self.taste, RING)]


class Planted(NamedTuple):
    """What `plant` writes, in the order it writes it."""

    nodes: Sequence[Node]
    links: Sequence[Link]
    edges: Sequence[Edge]


def people() -> Sequence[Person]:
    """The 36 people and the 3 newcomers."""
    joined = (("books", "films", "music"), ("books", "films"), ("films", "music"), ("books", "music"))
    known = [
        Person(f"{taste}-{n}", taste, joined[n % 4], n % RING, STEPS, timedelta(hours=12 * t + n))
        for t, taste in enumerate(TASTES)
        for n in range(12)
    ]
    newcomers = [Person(f"{taste}-newcomer", taste, ("books",), 2, 2, timedelta(days=20)) for taste in TASTES]
    return [*known, *newcomers]


def person(name: str) -> Person:
    """The person of this name, such as "space-0" or "crime-newcomer"."""
    return next(each for each in people() if each.name == name)


def item_of(platform: str, taste: str, number: int) -> ItemKey:
    """`item_of("films", "space", 3)` is "films:space-3"; number 7 is the cold one."""
    return ItemKey(platform, f"{taste}-{number}")


def taste_of(item: str) -> str:
    """The taste an item was planted with."""
    return ItemKey.parse(item).id.rpartition("-")[0]


def planted_records() -> Planted:
    """The whole planted graph, the same on every call."""
    nodes: list[Node] = [Platform(PlatformKey(platform)) for platform in PLATFORMS]
    links: list[Link] = []
    edges: list[Edge] = []
    for t, taste in enumerate(TASTES):
        category = EntityKey("category", taste)
        creators = [EntityKey("creator", f"{author} {taste.capitalize()}") for author in ("Ada", "Ben")]
        nodes += [Entity(entity, entity.name) for entity in (category, *creators)]
        for platform in PLATFORMS:
            for number, title in enumerate(TITLES[taste]):
                key = item_of(platform, taste, number)
                nodes.append(
                    Item(
                        key,
                        title=title,
                        text=HOSTILE_TEXT if key == "music:crime-6" else f"About {taste}, in {platform}.",
                        url=f"https://{platform}.example/{key.id}",
                        created_at=COLD_FROM if number == RING else datetime(2023, 1 + number, 1 + t, tzinfo=UTC),
                        attributes={"number": number, "tags": [taste, platform]},
                    )
                )
                edges.append(Relation("IN_CATEGORY", key, category))
                edges.append(Relation("BY", key, creators[number > RING // 2], {"role": "author"}))
        edges.append(
            Relation(
                "SAME_WORK",
                item_of("books", taste, 0),
                item_of("films", taste, 0),
                {"score": 1.0, "evidence": "title"},
            )
        )

    for each in people():
        for platform in each.platforms:
            nodes.append(Account(each.account(platform)))
            links.append(Link(each.account(platform), each.user, "identity-table"))
        edges += _walk(each)
    edges.append(Relation("FOLLOWS", person("space-0").account("books"), person("crime-0").account("books")))

    stray = AccountKey("music", "stray")
    nodes.append(Account(stray))
    links.append(Link(stray, lone_user(stray), LONE))
    edges += [
        Event(f"stray-{n}", "PLAYED", stray, item_of("music", "space", n), FIRST_EVENT + timedelta(days=n), weight=0.7)
        for n in range(3)
    ]
    return Planted(nodes, links, edges)


def plant(store: Store) -> None:
    """Write the planted graph into a store."""
    planted = planted_records()
    store.ensure_schema()
    store.upsert_nodes(planted.nodes)
    store.link(planted.links)
    store.upsert_edges(planted.edges)


def _walk(person: Person) -> Sequence[Event]:
    """A day for each step, an hour between platforms; the last two steps are one instant, told apart by sequence."""
    events = []
    begin = FIRST_EVENT + person.shift
    for p, platform in enumerate(person.platforms):
        type, weight = EVENT_TYPES[platform]
        for step, item in enumerate(person.walked(platform)):
            at = begin + timedelta(days=min(step, person.steps - 2), hours=p)
            value = {"books": None, "films": 4.0 + step % 2, "music": float(1 + step)}[platform]
            id = f"{person.name}-{platform}-{step}"
            events.append(Event(id, type, person.account(platform), item, at, weight, value, step, {"device": "phone"}))
            if step == 0:
                events.append(
                    Event(f"{id}-view", "VIEWED", person.account(platform), item, at - timedelta(minutes=5), 0.2)
                )
    if person.steps == STEPS:
        other = TASTES[(TASTES.index(person.taste) + 1) % len(TASTES)]
        platform = person.platforms[0]
        disliked = item_of(platform, other, person.start)
        events.append(
            Event(
                f"{person.name}-dislike",
                "DISLIKED",
                person.account(platform),
                disliked,
                begin + timedelta(days=1, hours=6),
                weight=-1.0,
            )
        )
    return events
