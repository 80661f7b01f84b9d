"""Messages for the tests of checks."""

from __future__ import annotations

import io
from pathlib import Path

from postroom.checks import CheckedMessage
from postroom.facts import scan
from postroom.model import Client, Facts, Message
from postroom.telemetry import Log


def message(
    content: bytes = b"From: a@b.example\r\n\r\nhello\r\n", *, size: int | None = None, facts: Facts | None = None
) -> Message:
    return Message(
        id=1,
        client=Client("192.0.2.1"),
        env_from="a@b.example",
        facts=facts or scan(content),
        size=len(content) if size is None else size,
        received=0,
        body=content,
        body_object="",
        body_hash=b"",
    )


def work(content: bytes | Path = b"From: a@b.example\r\n\r\nhello\r\n") -> CheckedMessage:
    return CheckedMessage(message(content if isinstance(content, bytes) else b""), content)


def log_and_text() -> tuple[Log, io.StringIO]:
    out = io.StringIO()
    return Log(out), out
