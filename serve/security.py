"""Who may reach the server. Without keys, which another issue brings, only this machine may."""

import errno
import socket
from typing import Final

from serve.errors import BindError

LOOPBACK: Final = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1"}


def check_host(host: str) -> str:
    """The address to listen on for `host`; BindError unless it is this machine's own."""
    if host not in LOOPBACK:
        raise BindError(
            f"the server has no keys yet and would answer anybody at {host!r}: listen on 127.0.0.1 "
            "and put a proxy that checks its callers in front"
        )
    return LOOPBACK[host]


def check_port(host: str, port: int) -> None:
    """BindError unless `port` is free on `host`."""
    if not 1 <= port <= 65535:
        raise BindError(f"{port} is not a port: give 1 to 65535, such as 8000")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise BindError(
                    f"port {port} of {host} is in use by another process: stop it or give another port with --port"
                ) from None
            raise BindError(
                f"port {port} of {host} cannot be used ({error.strerror}): give another with --port"
            ) from None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
