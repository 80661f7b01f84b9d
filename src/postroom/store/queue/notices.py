"""The notice about the end of an entry, as a new message for the queue `system`.

Pure, except that `beginning` reads a stored body. Promises: none for a null sender (RFC 5321 6.1). Fails:
EnvironmentFailed if the beginning of a body cannot be read.
"""

from __future__ import annotations

from pathlib import Path

from postroom import facts
from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.ids import public_id
from postroom.model import Client, Origin, Outcome, Queue, Recipient, Route
from postroom.rules import bounce
from postroom.store.bodies import INLINE_BODY
from postroom.store.records import NewMessage


def notice(
    *, entry: int, env_from: str, recipient: str, subject: str, reply: str, outcome: Outcome, attempts: int,
    arrived: Millis, now: Millis, hostname: str, route: Route, beginning: bytes,
) -> NewMessage:  # fmt: skip
    """`route`: of the notice. `beginning`: enough of the original for its header; empty if it could not be read."""
    data = bounce.notice(
        original_from=env_from,
        recipient=recipient,
        subject=subject,
        reply=reply,
        outcome=outcome,
        attempts=attempts,
        arrived=arrived,
        now=now,
        hostname=hostname,
        ident=public_id(entry),
        headers=facts.header_block(beginning),
    )
    return NewMessage(
        client=Client(ip="127.0.0.1", helo=hostname),
        env_from="",
        recipients=(Recipient(env_from, route),),
        facts=facts.scan(data),
        size=len(data),
        received=now,
        body=data,
        body_object="",
        body_hash=b"",
        origin=Origin.NOTICE,
        queue=Queue.SYSTEM,
    )


def way_back(route: Route) -> Route:
    """The route of a notice about mail that took this route: to one of our senders, or to one outside."""
    return Route.INTERNAL if route in (Route.OUTBOUND, Route.INTERNAL) else Route.OUTBOUND


def beginning(content: bytes | Path) -> bytes:
    """The beginning of a message, long enough for its header."""
    if isinstance(content, bytes):
        return content
    try:
        with content.open("rb") as file:
            return file.read(2 * INLINE_BODY)
    except OSError as problem:
        raise EnvironmentFailed(f"cannot read {content}: {problem.strerror}") from problem
