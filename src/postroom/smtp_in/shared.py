"""What all SMTP sessions share: names, limits, rules, and the replies that depend on them; built once.

Promises: constant while sessions run, except for the count of bytes in `memory`. Fails: SettingsError for unreadable
networks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from postroom.settings import GatewaySettings, Smtp
from postroom.smtp_in.body import Memory
from postroom.smtp_in.routing import Routing

Admission = Callable[[], bytes | None]
MESSAGE = b"message"  # what a refusal at the end of data names as its command
NAMED = 10  # recipients of a refused message that are remembered
TurnedAway = tuple[bytes, bytes, str, str, tuple[str, ...]]  # reply, command, HELO name, sender, recipients


class SessionConfig:
    """What all sessions share; built once."""

    __slots__ = ("admission", "ehlo", "greeting", "helo", "hostname", "limits", "memory", "routing")

    def __init__(self, gateway: GatewaySettings, limits: Smtp, memory: Memory, admission: Admission) -> None:
        self.hostname = gateway.hostname or socket.gethostname()
        self.routing = Routing(gateway.internal_domains, gateway.relay_networks, self.hostname)
        self.limits = limits
        self.memory = memory
        self.admission = admission  # a 452 or 421 reply while the intake is closed
        name = self.hostname.encode("ascii", "replace")
        self.greeting = b"220 %s ESMTP Postroom\r\n" % name
        self.helo = b"250 %s\r\n" % name
        self.ehlo = (
            b"250-%s\r\n250-PIPELINING\r\n250-SIZE %d\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
            % (name, limits.max_size)
        )  # fmt: skip
