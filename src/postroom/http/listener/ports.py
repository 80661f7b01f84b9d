"""The sockets that the HTTP server listens on.

Promises: all of them or none. Fails: EnvironmentFailed names the address that cannot be bound.
"""

from __future__ import annotations

import socket

from postroom.errors import EnvironmentFailed
from postroom.settings import Address


def bound(listen: tuple[Address, ...]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for address in listen:
            try:
                sockets.append(_listening(address))
            except OSError as problem:
                raise EnvironmentFailed(
                    f"cannot listen for HTTP on {address}: {problem.strerror or problem}; "
                    "is another program there? change [http] listen or give --http"
                ) from problem
    except EnvironmentFailed:
        for one in sockets:
            one.close()
        raise
    return sockets


def _listening(address: Address) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def address_of(one: socket.socket) -> Address:
    host, port, *_ = one.getsockname()
    return Address(host, port)
