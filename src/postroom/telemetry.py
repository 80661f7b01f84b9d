"""All log fields and metric names, in one place.

Promises: a log line never holds a secret, a body, or a header beyond address, subject and ids. Values are escaped: one
event is one line. While the gateway serves (`detach`), a blocked log delays no caller. Fails: never raises into the
caller; lines that cannot be written or find no room are dropped and counted, and the log says how many are missing at
the place where they are missing.
"""

from __future__ import annotations

import contextlib
import os
import select
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
LOG_ROOM = 4 << 20  # characters that wait while the log is blocked: some 25,000 lines
PROMPT = 0.1  # seconds a warning waits to be written, to be there before its consequences; not while the log is behind


class Counts:
    """Plain integers that the event loop counts and `/metrics` reads; each attribute is one metric."""

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

    Lines are gathered and written together: the event loop calls `flush` a few times a second and at the end.
    """

    __slots__ = ("_clock", "_flushing", "_json", "_level", "_lines", "_out", "_outlet", "counts")

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
        self._outlet: Outlet | None = None
        self._level = LEVELS[level]
        self._flushing = threading.Lock()  # the writer's and the checkpointer's threads log warnings, too
        self._json = format == "json"
        self._clock: Clock = clock or SystemClock()
        self._lines: deque[tuple[int, str, str, dict[str, object]]] = deque()
        self.counts = counts or Counts()

    def apply(self, level: str, format: str) -> None:
        """Takes effect from the next line on."""
        self._level = LEVELS[level]
        self._json = format == "json"

    def detach(self, room: int = LOG_ROOM) -> None:
        """From now on a thread writes: a full pipe or a hanging disk costs lines, not the callers' time."""
        self.flush()
        try:
            descriptor = self._out.fileno()
        except (OSError, ValueError, AttributeError):  # it cannot block; None: closed before the start
            return
        outlet = Outlet(descriptor, room, self.counts, self._missing_line)
        outlet.start()  # when this fails, nothing has changed
        self._outlet = outlet

    def attach(self, patience: float) -> bool:
        """Ends `detach`: waits at most `patience` seconds for the last lines, and says whether all are written."""
        self.flush()
        if self._outlet is None:
            return True
        done = self._outlet.end(patience)
        if done:
            self._outlet = None
        return done

    def info(self, event: str, **fields: object) -> None:
        if self._level <= 20:
            self._lines.append((self._clock.now(), "info", event, fields))

    def debug(self, event: str, **fields: object) -> None:
        if self._level <= 10:
            self._lines.append((self._clock.now(), "debug", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self._lines.append((self._clock.now(), "warning", event, fields))
        self.flush(PROMPT)

    def error(self, event: str, **fields: object) -> None:
        self._lines.append((self._clock.now(), "error", event, fields))
        self.flush(PROMPT)

    def flush(self, patience: float = 0.0) -> None:
        """Any thread may call this: lines that another adds meanwhile go out now or with the next call."""
        with self._flushing:
            waiting = len(self._lines)
            try:
                self._write(patience)
            except MemoryError:
                self.counts.log_dropped += max(0, waiting - len(self._lines))

    def _write(self, patience: float) -> None:
        render: Callable[[int, str, str, dict[str, object]], str] = _json_line if self._json else _text_line
        lines, rendered = self._lines, []
        while lines:
            line = lines.popleft()
            try:
                rendered.append(render(*line))
            except (ValueError, TypeError) as problem:  # a value that cannot be written spoils only its own line
                rendered.append(render(line[0], line[1], line[2], {"unwritable": type(problem).__name__}))
        if not rendered:
            return
        if self._outlet is not None:
            self._outlet.put(rendered, patience)
            return
        try:
            self._out.write("".join(rendered))
            self._out.flush()
        except (OSError, ValueError, AttributeError):  # a closed or full log must not stop mail
            self.counts.log_dropped += len(rendered)

    def _missing_line(self, lines: int) -> str:
        render = _json_line if self._json else _text_line
        return render(self._clock.now(), "warning", "log_lines_dropped", {"lines": lines})


class Outlet(threading.Thread):
    """Writes lines to a descriptor, in order.

    It bypasses the interpreter's buffers: at exit Python waits for their locks, which a blocked thread would never
    release.
    """

    def __init__(self, descriptor: int, room: int, counts: Counts, missing_line: Callable[[int], str]) -> None:
        """`missing_line`: the line to write in place of so many missing ones."""
        super().__init__(name="postroom-log", daemon=True)
        self._descriptor, self._room, self._counts = descriptor, room, counts
        self._missing_line = missing_line
        self._changed = threading.Condition(threading.Lock())
        self._waiting: list[str] = []
        self._size = 0  # characters that wait
        self._missing = 0  # lines after those
        self._writing = self._ending = False
        self._behind = False  # a caller waited in vain: none waits again until we have caught up
        self._lost = 0  # lines before the next ones that could not be written
        self._cut = False  # the last write ended inside a line

    def put(self, lines: list[str], patience: float) -> None:
        """Drops lines beyond the room, and all that follow until there is room again."""
        text = "".join(lines)
        with self._changed:
            if self._missing or self._size + len(text) > self._room:
                self._missing += len(lines)
                self._counts.log_dropped += len(lines)
            else:
                self._waiting.append(text)
                self._size += len(text)
            self._changed.notify_all()
            if patience and not self._behind:
                self._behind = not self._changed.wait_for(self._caught_up, patience)

    def _caught_up(self) -> bool:
        return not self._waiting and not self._missing and not self._writing

    def end(self, patience: float) -> bool:
        """Whether everything was written within `patience` seconds."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self.join(patience)
        return not self.is_alive()

    def run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                if self._caught_up():
                    self._behind = False
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._ending or not self._caught_up())
                if self._caught_up():
                    return
                waiting, missing = self._waiting, self._missing
                self._waiting, self._size, self._missing = [], 0, 0
                self._writing = True
            try:
                self._write("".join(waiting) + (self._missing_line(missing) if missing else ""))
            except MemoryError:  # loses these lines, but none that come later
                lost = sum([text.count("\n") for text in waiting])
                self._lost += lost + missing
                with self._changed:
                    self._counts.log_dropped += lost

    def _write(self, text: str) -> None:
        if self._lost:
            note = (("\n" if self._cut else "") + self._missing_line(self._lost)).encode()
            if self._out(note) == len(note):
                self._lost = 0
        data = text.encode(errors="replace")
        done = 0 if self._lost else self._out(data)
        if lost := data.count(b"\n", done):
            self._lost += lost
            with self._changed:
                self._counts.log_dropped += lost

    def _out(self, data: bytes) -> int:
        """How many bytes were written: fewer when the descriptor is closed or its disk is full."""
        done, rest = 0, memoryview(data)
        with contextlib.suppress(OSError):
            while done < len(data):
                try:
                    done += os.write(self._descriptor, rest[done:])
                except BlockingIOError:  # another process that shares the descriptor made it non-blocking
                    select.select([], [self._descriptor], [], 1.0)
        if done:
            self._cut = data[done - 1] != ord("\n")
        return done


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
