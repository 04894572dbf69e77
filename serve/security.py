"""Where the server may listen: on this machine, or beyond it where callers need a key."""

import errno
import ipaddress
import socket
from typing import Final

from serve.errors import BindError

LOOPBACK: Final = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1"}


def check_host(host: str, *, has_keys: bool) -> str:
    """The address to listen on for `host`; BindError for one beyond this machine without keys, or for a name."""
    if host in LOOPBACK:
        return LOOPBACK[host]
    if not has_keys:
        raise BindError(
            f"the server has no keys and would answer anybody at {host!r}: listen on 127.0.0.1, "
            "or make a key first, such as: isthmus key shop --scopes read,write"
        )
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise BindError(f"{host!r} is no address to listen on: give an IPv4 address, such as 0.0.0.0 for all") from None


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
