"""Notifies the service manager with datagrams of sd_notify(3), so that `systemctl` waits for start, reload and stop.

Promises: sends nothing without an address; nothing here can stop mail. Fails: never; a manager that does not listen
misses the notice.
"""

from __future__ import annotations

import contextlib
import socket
import time


class Supervisor:
    def __init__(self, address: str) -> None:
        """`address`: from NOTIFY_SOCKET, a path or @NAME in the abstract namespace."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        """Call `ready` afterwards."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one,
        ):
            one.setblocking(False)
            one.sendto(text.encode(), self._address)
