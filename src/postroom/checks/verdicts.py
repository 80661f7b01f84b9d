"""The input and output types of checks: everything that a new check needs to import.

Promises: nothing but types. Fails: never.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import msgspec

from postroom.model import Message, Verdict, VerdictKind


class CheckedMessage(msgspec.Struct, frozen=True, gc=False):
    """The message and its bytes: in memory, or the path of a file for a large message."""

    message: Message
    content: bytes | Path


class Check(Protocol):
    """One check.

    `inspect` answers at once if it can; otherwise it returns an awaitable. It never blocks the event loop.
    `info` of a verdict is a short sentence from a small set (stored once, in a dictionary table): in a `retry` or
    `hold` no ids, sizes or times of one message. The info of a `reject` is the SMTP reply.
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
