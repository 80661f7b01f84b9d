"""How these tests talk to a session: its configuration, and a conversation that answers every message."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from postroom.model import Recipient, Route
from postroom.settings import GatewaySettings, Smtp
from postroom.smtp_in.body import Memory
from postroom.smtp_in.session import Session
from postroom.smtp_in.shared import SessionConfig

GATEWAY = GatewaySettings(hostname="gw.corp.example", internal_domains=("corp.example", "Second.Example"))
QUEUED = b"250 2.0.0 1 queued\r\n"
OPEN_RELAY = GatewaySettings(hostname="gw.corp.example")


def config(
    *, gateway: GatewaySettings = GATEWAY, memory: int = 1 << 30, closed: bytes | None = None, **limits: int
) -> SessionConfig:
    smtp = msgspec.structs.replace(Smtp(), **limits)
    return SessionConfig(gateway, smtp, Memory(memory), lambda: closed)


def session(of: SessionConfig | None = None, *, trusted: bool = False, ip: str = "198.51.100.7") -> Session:
    return Session(of or config(), ip, "", trusted)


@dataclass
class Taken:
    """What a message was when it was handed over."""

    env_from: str
    recipients: tuple[Recipient, ...]
    body: bytes
    size: int
    helo: str
    esmtp: bool

    @property
    def to(self) -> list[str]:
        return [recipient.address for recipient in self.recipients]

    @property
    def routes(self) -> list[Route]:
        return [recipient.route for recipient in self.recipients]


@dataclass
class Heard:
    """Everything that came of some bytes."""

    said: bytes = b""
    messages: list[Taken] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return self.said.decode("ascii").split("\r\n")[:-1]

    @property
    def codes(self) -> list[str]:
        """`250 2.1.0` of each reply; of a reply of several lines its last."""
        return [" ".join(line.split(" ")[:2]) for line in self.lines if line[3] == " "]

    @property
    def last(self) -> str:
        return self.lines[-1]


def say(to: Session, *chunks: bytes, answer: bytes = QUEUED) -> Heard:
    """Send the chunks one by one and answer every message at once."""
    heard = Heard()
    for chunk in chunks:
        to.receive(chunk)
        heard.said += to.outgoing()
        while (message := to.transaction) is not None:
            client = message.client
            heard.messages.append(
                Taken(message.env_from, message.recipients, message.body, message.size, client.helo, client.esmtp)
            )
            to.answer(answer)
            heard.said += to.outgoing()
    return heard


def greeted(of: SessionConfig | None = None, *, trusted: bool = False) -> Session:
    """A session behind its EHLO."""
    new = session(of, trusted=trusted)
    assert say(new, b"EHLO client.example\r\n").codes == ["250 ENHANCEDSTATUSCODES"]
    return new


ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@corp.example>\r\nDATA\r\n"


def deliver(to: Session, wire: bytes, *, answer: bytes = QUEUED) -> Heard:
    """One message to one of our own, with these bytes on the wire (with end of data); only what came of the body."""
    assert say(to, ENVELOPE).codes[-1].startswith("354")
    return say(to, wire, answer=answer)
