"""What a check looks at and what it answers with; everything a new check needs to import.

Promises nothing but shapes. Fails: never.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import msgspec

from postroom.model import Message, Verdict, VerdictKind


class CheckedMessage(msgspec.Struct, frozen=True, gc=False):
    """The message and its bytes: in memory, or where they can be read from when it is large."""

    message: Message
    content: bytes | Path


class Check(Protocol):
    """One step that looks at a message.

    `inspect` answers at once when it can; what must wait returns an awaitable and never blocks the event loop.
    `info` of a verdict is a short sentence from a small set (it is kept in a dictionary table): no ids, sizes or
    times of this one message in a `retry` or `hold`. The info of a `reject` is the SMTP reply.
    """

    name: str

    def inspect(self, work: CheckedMessage) -> Verdict | Awaitable[Verdict]: ...


def passed(check: str) -> Verdict:
    return Verdict(VerdictKind.PASS, check)


def retry(check: str, info: str) -> Verdict:
    return Verdict(VerdictKind.RETRY, check, info)


def hold(check: str, info: str) -> Verdict:
    return Verdict(VerdictKind.HOLD, check, info)


def reject(check: str, reply: str) -> Verdict:
    return Verdict(VerdictKind.REJECT, check, reply)
