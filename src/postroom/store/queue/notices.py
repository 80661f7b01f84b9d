"""The notice (DSN) to the sender of an ended entry, as a new message for the queue `system`.

`rules.lifecycle.has_notice` decides whether there is one, `rules.bounce` writes it. Reads the beginning of a stored
body, for the header that is sent back. Fails: never; when a body cannot be read, `unread` learns why, and the notice
goes without that header.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from postroom import facts
from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.ids import public_id
from postroom.model import Client, Origin, Queue, Recipient
from postroom.rules import bounce
from postroom.rules.lifecycle import Ends
from postroom.store.bodies import INLINE_BODY
from postroom.store.records import NewMessage


class Original(NamedTuple):
    """The entry that has ended, and its message."""

    entry: int
    env_from: str
    recipient: str
    subject: str
    attempts: int
    arrived: Millis
    ours: bool  # the sender is one of ours
    content: bytes | Path  # its bytes, or enough of them to hold the header; empty: they cannot be read


def notice(
    original: Original, end: Ends, *, now: Millis, hostname: str,
    unread: Callable[[EnvironmentFailed], None] = lambda problem: None,
) -> NewMessage:  # fmt: skip
    try:
        beginning = _beginning(original.content)
    except EnvironmentFailed as problem:
        unread(problem)
        beginning = b""
    data = bounce.notice(
        original_from=original.env_from,
        recipient=original.recipient,
        subject=original.subject,
        reply=end.reply,
        outcome=end.outcome,
        attempts=original.attempts,
        arrived=original.arrived,
        now=now,
        hostname=hostname,
        ident=public_id(original.entry),
        headers=facts.header_block(beginning),
    )
    return NewMessage(
        client=Client(ip="127.0.0.1", helo=hostname),
        env_from="",
        recipients=(Recipient(original.env_from, bounce.route_back(ours=original.ours)),),
        facts=facts.scan(data),
        size=len(data),
        received=now,
        body=data,
        body_object="",
        body_hash=b"",
        origin=Origin.NOTICE,
        queue=Queue.SYSTEM,
    )


def _beginning(content: bytes | Path) -> bytes:
    """Enough of a message to hold its header."""
    if isinstance(content, bytes):
        return content
    try:
        with content.open("rb") as file:
            return file.read(2 * INLINE_BODY)
    except OSError as problem:
        raise EnvironmentFailed(f"cannot read {content}: {problem.strerror}") from problem
