"""The Kafka of the tests: a broker from Maven Central, on free ports, with its data in a temporary folder."""

import base64
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.neo4j_server import load_server_script

POM = Path(__file__).with_name("kafka") / "pom.xml"
HEAP_MIB = 256
START_TIMEOUT_S = 60
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
"""


class KafkaForTests:
    """One broker; it can be ended and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        script = load_server_script()
        java = script.find_java(print)
        lib = script.assemble(java, print, POM, "Kafka (43 MB)")
        self._folder, self._port = folder, script.free_port()
        self._java = (java, f"-Xmx{HEAP_MIB}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{lib}/*")
        self._process: subprocess.Popen[bytes] | None = None
        self.servers = f"127.0.0.1:{self._port}"
        text = PROPERTIES.format(port=self._port, controller=script.free_port(), folder=folder)
        (folder / "server.properties").write_text(text)
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        arguments = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", folder / "server.properties")
        subprocess.run([*self._java, *arguments], check=True, capture_output=True)

    def start(self) -> None:
        with (self._folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", self._folder / "server.properties"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "console.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Kafka did not come up"
            time.sleep(0.1)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def create(self, topic: str, partitions: int = 1, **settings: str) -> str:
        """Make a topic; returns its URL."""
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.servers})
        for made in admin.create_topics([NewTopic(topic, partitions, 1, config=settings)]).values():
            made.result(30)
        return f"kafka://{self.servers}/{topic}"

    def send(self, topic: str, messages: Sequence[str | bytes | None], partition: int = 0) -> None:
        """Send messages; the broker has them when this returns."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.servers})
        for message in messages:
            producer.produce(topic, message, partition=partition)
        assert producer.flush(30) == 0

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@contextmanager
def kafka_for_tests(folder: Path) -> Iterator[KafkaForTests]:
    """A broker while the context lasts."""
    broker = KafkaForTests(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
