"""A topic is followed through the same mapping and code as files, on a real broker; its offsets follow the store."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graph.errors import StoreUnavailableError
from graph.keys import PlatformKey
from graph.records import Platform
from graph.store import Store, checksum, open_store
from ingest.errors import MappingError, SourceError
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.quarantine import quarantined
from ingest.retry import retry
from ingest.sources import growing, kafka
from ingest.sources.kafka import partitions
from tests.ingest.follower import PSEUDONYMS, Follower
from tests.kafka_server import KafkaForTests, kafka_for_tests
from tests.neo4j_server import load_server_script

ROOT = Path(__file__).parents[2]
MAPPING = """\
platform: shop
items: {file: items.jsonl, id: id, title: name}
events:
  file: EVENTS
  account: who
  item: item
  type: {column: kind, values: {buy: PURCHASED, look: VIEWED}}
  at: {column: at, format: seconds}
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaForTests]:
    with kafka_for_tests(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
    kafka._consumer.cache_clear()


@pytest.fixture
def topic(broker: KafkaForTests, request: pytest.FixtureRequest, data: Path) -> str:
    """A topic of two partitions of its own, which the mapping names."""
    name = f"t-{abs(hash(request.node.name)):x}"
    (data / "shop.yaml").write_text(MAPPING.replace("EVENTS", broker.create(name, 2)))
    return name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "items.jsonl").write_text('{"id": "1", "name": "Tent"}\n{"id": "2"}\n')
    return tmp_path


def event(who: str, item: object, at: int, kind: str = "buy") -> str:
    return json.dumps({"who": who, "item": item, "kind": kind, "at": at})


def of_files(data: Path, rows: list[str]) -> dict[str, str]:
    """The checksum of the same rows as a file."""
    (data / "whole").mkdir()
    (data / "events.jsonl").write_text("".join(f"{row}\n" for row in rows))
    (data / "whole.yaml").write_text(MAPPING.replace("EVENTS", "events.jsonl"))
    with open_store(f"sqlite:///{data / 'whole' / 'graph.db'}") as store:
        ingest([read_mapping(data / "whole.yaml")], store, PSEUDONYMS, data / "whole", data=data)
        return checksum(store)


def lag(broker: KafkaForTests, topic: str) -> list[int]:
    """Messages of each partition that no group has committed yet, as operators see it."""
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": broker.servers})
    ends = [each.end for each in partitions(f"kafka://{broker.servers}/{topic}")]
    for group in admin.list_consumer_groups().result(30).valid:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group.group_id)])
        for found in asked[group.group_id].result(30).topic_partitions:
            if found.topic == topic:
                ends[found.partition] -= found.offset
    return ends


def test_messages_are_rows_and_bad_ones_are_in_quarantine_with_partition_and_offset(
    broker: KafkaForTests, topic: str, store: Store, data: Path
) -> None:
    good = [event("ann", 1, 10), event("bob", 2, 20, "look")]
    broker.send(topic, [good[0], "{not json", b"\xff{}", None, event("ann", 9, 30), event("ann", 1, 10)], 0)
    broker.send(topic, [event("bob", 1, 40, "stare"), json.dumps(json.loads(good[1]), indent=2)], 1)
    follower = Follower(store, data)
    assert follower.look() == {"items.jsonl": (2, 2, 0, 0), "0": (6, 1, 1, 4), "1": (2, 1, 0, 1)}
    follower.end()
    url = f"kafka://{broker.servers}/{topic}"
    rows = quarantined(data / "var").to_pylist()
    assert [(row["file"], row["line"], row["rule"]) for row in rows] == [
        (f"{url}/0", 1, "malformed"),
        (f"{url}/0", 2, "encoding"),
        (f"{url}/0", 3, "malformed"),
        (f"{url}/0", 4, "unknown-item"),
        (f"{url}/1", 0, "unknown-type"),
    ]
    assert checksum(store) == of_files(data, good)
    assert lag(broker, topic) == [0, 0]


def test_what_comes_later_is_read_alone_and_a_restart_goes_on(
    broker: KafkaForTests, topic: str, store: Store, data: Path
) -> None:
    broker.send(topic, ['{"ping": true}'], 1)
    follower = Follower(store, data)
    assert follower.look() == {"items.jsonl": (2, 2, 0, 0), "1": (1, 0, 0, 1)}
    broker.send(topic, [event("ann", 1, 10)], 1)
    assert follower.look() == {"1": (1, 1, 0, 0)}
    broker.send(topic, [event("ann", 2, 20)], 1)
    assert follower.look() == {"1": (1, 1, 0, 0)}
    follower.end()
    broker.send(topic, [event("bob", 2, 30)], 0)
    follower = Follower(store, data)
    assert follower.look() == {"0": (1, 1, 0, 0)}
    follower.end()
    with open_store(f"sqlite:///{data / 'another.db'}") as another:
        another.ensure_schema()
        another.upsert_nodes([Platform(PlatformKey("shop"))])
        follower = Follower(another, data)
        assert follower.look() == {"items.jsonl": (2, 2, 0, 0), "0": (1, 1, 0, 0), "1": (3, 2, 0, 1)}
        follower.end()
        assert checksum(another) == checksum(store)


def test_offsets_are_committed_when_the_store_has_the_rows_and_not_before(
    broker: KafkaForTests, topic: str, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "MESSAGES", 2)
    broker.send(topic, [event("ann", 1, at) for at in range(5)])
    upsert, calls = store.upsert_events, []

    def refuse_the_second(events: object) -> object:
        calls.append(lag(broker, topic)[0])
        if len(calls) == 2:
            raise StoreUnavailableError("the store does not answer")
        return upsert(events)

    monkeypatch.setattr(store, "upsert_events", refuse_the_second)
    follower = Follower(store, data)
    with pytest.raises(StoreUnavailableError):
        follower.look()
    assert (calls, lag(broker, topic)) == ([5, 3], [3, 0])
    follower = Follower(store, data)
    assert follower.look()["0"] == (3, 3, 0, 0)
    assert lag(broker, topic) == [0, 0]
    follower.end()
    assert store.counts().edges["PURCHASED"] == 5


def test_a_process_that_is_killed_loses_nothing(broker: KafkaForTests, topic: str, store: Store, data: Path) -> None:
    rows = [event(f"a{n % 7}", n % 2 + 1, n) for n in range(400)]
    broker.send(topic, rows[:200])
    script = (
        "import sys; from ingest.sources import growing; growing.MESSAGES = 10; from isthmus import main; "
        f"sys.argv[1:] = ['ingest', 'shop.yaml', '--follow', '--store', '{store.url}']; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ISTHMUS_PSEUDONYM_KEY": "0123456789abcdef"}
    with subprocess.Popen([sys.executable, "-c", script], cwd=data, env=environment) as process:
        while store_events(data) < 50:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    killed_at, open_lag = store_events(data), lag(broker, topic)[0]
    assert killed_at >= 50
    assert 200 - open_lag <= killed_at, "what is committed is in the store"
    broker.send(topic, rows[200:])
    follower = Follower(store, data)
    read, accepted, duplicates, rejected = follower.look()["0"]
    follower.end()
    assert (accepted + duplicates, rejected) == (read, 0)
    assert read == 200 + open_lag
    assert checksum(store) == of_files(data, rows)


def store_events(data: Path) -> int:
    if not (data / "graph.db").exists():
        return 0
    with open_store(f"sqlite:///{data / 'graph.db'}") as store:
        store.ensure_schema()
        return store.counts().edges.get("PURCHASED", 0)


def test_only_what_a_transaction_has_committed_is_read(
    broker: KafkaForTests, topic: str, store: Store, data: Path
) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": topic})
    producer.init_transactions(30)

    def begin(at: int) -> None:
        producer.begin_transaction()
        producer.produce(topic, event("ann", 1, at), partition=0)
        producer.flush(30)

    begin(10)
    producer.abort_transaction(30)
    begin(20)
    producer.commit_transaction(30)
    begin(30)
    broker.send(topic, [event("bob", 1, 40)])  # behind the one that is open
    follower = Follower(store, data)
    assert follower.look() == {"items.jsonl": (2, 2, 0, 0), "0": (1, 1, 0, 0)}
    producer.commit_transaction(30)
    assert follower.look() == {"0": (2, 2, 0, 0)}
    follower.end()
    assert sorted(at.timestamp() for batch in store.read_events("PURCHASED") for at in batch["at"].to_pylist()) == [
        20,
        30,
        40,
    ]


def test_a_message_in_quarantine_is_retried_from_the_topic(
    broker: KafkaForTests, topic: str, store: Store, data: Path
) -> None:
    broker.send(topic, [event("ann", 1, 10), event("ann", 3, 20), event("ann", 2, 30), event("ann", 4, 40)])
    follower = Follower(store, data)
    assert follower.look()["0"] == (4, 2, 0, 2)
    with (data / "items.jsonl").open("a") as items:
        items.write('{"id": "3"}\n')
    broker.send(topic, [event("ann", 1, 50)])
    follower.look()
    follower.end()
    report = retry(store, PSEUDONYMS, data / "var")
    assert (report.tried.total.read, report.tried.total.accepted, report.left) == (2, 1, [])
    assert [(row["line"], row["rule"]) for row in quarantined(data / "var").to_pylist()] == [(3, "unknown-item")]


def test_an_item_that_is_sent_before_its_event_is_there_when_the_event_is(
    broker: KafkaForTests, topic: str, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, find, unsent = broker.create(f"{topic}-items"), kafka.partitions, [event("ann", 7, 10)]
    mapping = data / "shop.yaml"
    mapping.write_text(mapping.read_text().replace("items.jsonl", items))

    def find_while_both_are_sent(url: str) -> list[kafka.Partition]:
        if url != items and unsent:  # the items' topic was looked at already
            broker.send(f"{topic}-items", ['{"id": "7", "name": "Lamp"}'])
            broker.send(topic, [unsent.pop()])
        return find(url)

    monkeypatch.setattr(kafka, "partitions", find_while_both_are_sent)
    follower = Follower(store, data)
    follower.look()
    follower.end()
    assert store.counts().edges["PURCHASED"] == 1
    assert len(quarantined(data / "var")) == 0


def test_messages_that_kafka_deleted_unread_are_named(
    broker: KafkaForTests, topic: str, store: Store, data: Path
) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    broker.send(topic, [event("ann", 1, 10)])
    follower = Follower(store, data)
    follower.look()
    follower.end()
    broker.send(topic, [event("ann", 1, at) for at in (20, 30, 40)])
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for each in admin.delete_records([TopicPartition(topic, 0, 3)]).values():
        each.result(30)
    follower = Follower(store, data)
    assert follower.look() == {"0": (1, 1, 0, 0)}
    follower.end()
    assert follower.said == [f"kafka://{broker.servers}/{topic}/0: Kafka deleted messages 1 to 2 unread"]


def test_while_the_broker_is_down_it_is_tried_again(
    broker: KafkaForTests, topic: str, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "TIMEOUT_S", 1.0)
    broker.send(topic, [event("ann", 1, 10)])
    follower = Follower(store, data)
    follower.look()
    broker.kill()

    def come_back() -> None:
        broker.start()
        broker.send(topic, [event("ann", 1, 20)])

    coming = threading.Thread(target=come_back)
    coming.start()
    assert follower.look() == {"0": (1, 1, 0, 0)}
    coming.join()
    follower.end()
    assert f"kafka://{broker.servers}/{topic} cannot be read: " in follower.said[0]
    assert "; see to the broker; tried again in 0.002 s" in follower.said[0]


def test_a_topic_that_is_not_there_and_a_url_with_a_password_are_refused(
    broker: KafkaForTests, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(url: str) -> str:
        (data / "shop.yaml").write_text(MAPPING.replace("EVENTS", url))
        with pytest.raises((MappingError, SourceError)) as refusal:
            Follower(store, data).look()
        return str(refusal.value)

    monkeypatch.setattr(kafka, "TIMEOUT_S", 1.0)
    assert "cannot be read: " in refused(f"kafka://127.0.0.1:{load_server_script().free_port()}/t")
    assert "no file is there" in refused(f"kafka://{broker.servers}/nothing-here")
    assert "names no topic: write kafka://host:9092/topic" in refused(f"kafka://{broker.servers}")
    said = refused(f"kafka://me:secret@{broker.servers}/t")
    assert kafka.PROPERTIES in said
    assert "secret" not in said
    assert "format is csv, and the messages of" in refused(f"kafka://{broker.servers}/t\n  format: csv")
    (data / "client.properties").write_text("# ours\nclient.id=isthmus\nsasl.password secret\n")
    monkeypatch.setenv(kafka.PROPERTIES, str(data / "client.properties"))
    kafka._consumer.cache_clear()
    said = refused(f"kafka://{broker.servers}/t")
    assert "line 3 is no property: write name=value" in said
    assert "secret" not in said
    (data / "client.properties").write_text("sasl.passwrd=secret\n")
    said = refused(f"kafka://{broker.servers}/t")
    assert "No such configuration property" in said
    assert "secret" not in said
    kafka._consumer.cache_clear()
