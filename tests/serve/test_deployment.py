import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from graph.errors import StoreUrlError
from models.bundle import BundleError
from serve import proxy
from serve.deployment import run, wait_for_signal
from serve.errors import BindError, KeysError, OutboxError
from serve.security import check_host, check_port, free_port
from tests.serve.test_outbox import wait_until
from tests.serve.tiny import write_tiny_bundle

SECRET = b"sixteen bytes or more"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org", ""])  # noqa: S104
def test_another_host_than_this_machine_is_refused_without_keys(host: str):
    with pytest.raises(BindError, match=r"no keys .* listen on 127\.0\.0\.1, or make a key first"):
        check_host(host, has_keys=False)


def test_this_machine_is_accepted_by_name_and_number_and_others_with_keys():
    for has_keys in (False, True):
        assert check_host("localhost", has_keys=has_keys) == check_host("127.0.0.1", has_keys=has_keys) == "127.0.0.1"
    assert check_host("0.0.0.0", has_keys=True) == "0.0.0.0"  # noqa: S104
    with pytest.raises(BindError, match=r"'example\.org' is no address to listen on"):
        check_host("example.org", has_keys=True)


def test_a_port_in_use_is_refused_and_a_free_one_is_not():
    check_port("127.0.0.1", free_port())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=f"port {port} of 127.0.0.1 is in use"):
            check_port("127.0.0.1", port)
    with pytest.raises(BindError, match="70000 is not a port"):
        check_port("127.0.0.1", 70000)


def test_what_cannot_be_served_is_said_before_anything_starts(tmp_path: Path):
    bundle, store = write_tiny_bundle(tmp_path / "bundles"), f"sqlite:///{tmp_path / 'graph.db'}"
    fine = {"var": tmp_path, "pseudonym_secret": SECRET, "port": free_port()}
    with pytest.raises(BindError, match="no keys"):
        run(bundle, store, **fine, host="0.0.0.0")  # noqa: S104
    with pytest.raises(KeysError, match="the key shop is not written as"):
        run(bundle, store, **fine, keys=["shop read"])
    with pytest.raises(BundleError, match="holds no bundle"):
        run(tmp_path, store, **fine)
    with pytest.raises(StoreUrlError, match="is not a store URL"):
        run(bundle, "redis://here", **fine)
    (tmp_path / "outbox.db").mkdir()
    with pytest.raises(OutboxError, match="cannot be opened"):
        run(bundle, store, **fine)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_and_nothing_else(number: int):
    before = signal.getsignal(number)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), number)).start()
    wait_for_signal()
    assert signal.getsignal(number) is before


def test_the_proxys_configuration_is_mended_before_haproxy_reads_it(tmp_path: Path):
    script = proxy.environment(tmp_path)["RAY_SERVE_HAPROXY_BINARY_PATH"]
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        "global\n"
        f"    stats socket {tmp_path}/admin.sock mode 666 level admin expose-fd listeners\n"
        "defaults\n    mode http\n    timeout client 10s\n    errorfile 502 /nowhere/500.http\n"
        f"frontend prometheus\n    bind :{free_port()}\n"
        f"frontend http_frontend\n    bind 0.0.0.0:{free_port()}\n    acl routes path -i /-/routes\n"
        "    http-request return status 200 content-type application/json string x if routes\n"
        f"listen stats\n  bind *:{free_port()}\n"
    )
    done = subprocess.run([script, "-c", "-f", str(configuration)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mended = configuration.read_text()
    assert "mode 600 level admin" in mended
    assert mended.count("bind 127.0.0.1:") == 2
    assert mended.count("bind 0.0.0.0:") == 1, "where the server listens is not the proxy's to say"
    assert "string x" not in mended
    assert "http-request set-path" in mended
    assert "timeout http-request 10s" in mended
    assert f"errorfile 502 {tmp_path}/503.http" in mended


def test_haproxy_ends_with_the_process_that_started_it_even_by_kill_9(tmp_path: Path):
    script = proxy.environment(tmp_path)["RAY_SERVE_HAPROXY_BINARY_PATH"]
    port = free_port()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(f"defaults\n    mode http\n    timeout client 10s\nlisten stats\n  bind *:{port}\n")
    program = (
        f"import subprocess, time; subprocess.Popen([{script!r}, '-db', '-f', {str(configuration)!r}]); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        wait_until(lambda: listens(port))
        parent.kill()
    wait_until(lambda: not listens(port))


def test_a_haproxy_that_is_left_over_is_ended_by_its_own_pid(tmp_path: Path):
    script = proxy.environment(tmp_path)["RAY_SERVE_HAPROXY_BINARY_PATH"]
    port = free_port()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(f"defaults\n    mode http\n    timeout client 10s\nlisten stats\n  bind *:{port}\n")
    with subprocess.Popen([script, "-db", "-f", str(configuration)]):
        wait_until(lambda: listens(port))
        proxy.end(tmp_path)
        wait_until(lambda: not listens(port))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
