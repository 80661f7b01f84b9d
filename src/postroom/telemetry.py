"""All log fields and metric names, in one place.

Promises: a log line never holds a secret, a body or a header beyond address, subject and ids; values are escaped so that
one event is one line. Fails: never raises into the caller; a log that cannot be written is dropped and counted.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO

import msgspec

from postroom.clock import Clock, SystemClock

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Counts:
    """Plain integers that the event loop counts and `/metrics` reads; an attribute = one metric (see METRICS)."""

    __slots__ = (
        "ack_seconds",
        "ack_seconds_sum",
        "active_bytes",
        "active_entries",
        "claimed",
        "commits",
        "deferred",
        "ended",
        "leases_lost",
        "log_dropped",
        "maybe_delivered",
        "smtp_accepted",
        "smtp_refused",
        "smtp_rejected_messages",
        "smtp_sessions",
        "smtp_sessions_total",
        "taken_over",
        "unreadable",
    )  # fmt: skip

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)
        self.ended: dict[str, int] = {}
        self.smtp_refused: dict[int, int] = {}
        self.ack_seconds_sum = 0.0
        self.ack_seconds: list[int] = [0] * (len(ACK_BUCKETS) + 1)

    active_bytes: int
    active_entries: int
    claimed: int
    commits: int
    deferred: int
    leases_lost: int
    log_dropped: int
    maybe_delivered: int
    smtp_accepted: int
    smtp_rejected_messages: int
    smtp_sessions: int
    smtp_sessions_total: int
    taken_over: int
    unreadable: int


ACK_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


def _text(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    if text and text.isprintable() and " " not in text and '"' not in text and "=" not in text:
        return text
    return msgspec.json.encode(text).decode()


class Log:
    """One line per event: `2026-11-22T10:00:00.123Z info delivered id=... to=...`.

    Lines are gathered and written together: `flush` is called by the event loop a few times a second and at the end.
    """

    __slots__ = ("_clock", "_flushing", "_json", "_level", "_lines", "_out", "counts")

    def __init__(
        self,
        out: TextIO | None = None,
        *,
        level: str = "info",
        format: str = "text",
        clock: Clock | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._out = out if out is not None else sys.stderr
        self._level = LEVELS[level]
        self._flushing = threading.Lock()  # the writer's and the checkpointer's threads warn, too
        self._json = format == "json"
        self._clock: Clock = clock or SystemClock()
        self._lines: deque[tuple[int, str, str, dict[str, object]]] = deque()
        self.counts = counts or Counts()

    def apply(self, level: str, format: str) -> None:
        """From the next line on."""
        self._level = LEVELS[level]
        self._json = format == "json"

    def info(self, event: str, **fields: object) -> None:
        if self._level <= 20:
            self._lines.append((self._clock.now(), "info", event, fields))

    def debug(self, event: str, **fields: object) -> None:
        if self._level <= 10:
            self._lines.append((self._clock.now(), "debug", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self._lines.append((self._clock.now(), "warning", event, fields))
        self.flush()

    def error(self, event: str, **fields: object) -> None:
        self._lines.append((self._clock.now(), "error", event, fields))
        self.flush()

    def flush(self) -> None:
        """Called by any thread: what another one adds meanwhile goes out now or with the next call, never lost."""
        with self._flushing:
            self._write()

    def _write(self) -> None:
        render: Callable[[int, str, str, dict[str, object]], str] = _json_line if self._json else _text_line
        lines, rendered = self._lines, []
        while lines:
            line = lines.popleft()
            try:
                rendered.append(render(*line))
            except (ValueError, TypeError) as problem:  # a value that cannot be written costs its own line only
                rendered.append(render(line[0], line[1], line[2], {"unwritable": type(problem).__name__}))
        if not rendered:
            return
        try:
            self._out.write("".join(rendered))
            self._out.flush()
        except (OSError, ValueError):  # a closed or full log must not stop mail
            self.counts.log_dropped += len(rendered)


@lru_cache(maxsize=8)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(at: int) -> str:
    """Milliseconds -> `2026-11-22T10:00:00.123Z`."""
    return f"{_second(at // 1000)}.{at % 1000:03d}Z"


def _text_line(at: int, level: str, event: str, fields: dict[str, object]) -> str:
    rest = "".join([f" {key}={_text(value)}" for key, value in fields.items() if value not in ("", None)])
    return f"{stamp(at)} {level} {event}{rest}\n"


def _json_line(at: int, level: str, event: str, fields: dict[str, object]) -> str:
    return (
        msgspec.json.encode({"at": stamp(at), "level": level, "event": event, **fields}, enc_hook=str).decode() + "\n"
    )
