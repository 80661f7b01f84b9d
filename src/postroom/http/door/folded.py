"""Bounds the log lines that strangers can cause: malformed HTTP, refused and slowed logins, calls while the store
fails.

Promises: the first line of each kind within a minute is written at once and in full; the others are counted, and one
line at the end of that minute gives their number. Only the log is bounded: no call is refused for it, and the audit log
counts on its own. Bugs are always logged, with their traceback. Fails: never.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable

from postroom.telemetry import Log

MINUTE = 60.0  # seconds
MAX_KINDS = 100  # in one minute; the words of a kind are ours or the server's, so that they are few


class _Kind:
    """Of this minute."""

    __slots__ = ("end", "fields", "more", "say")

    def __init__(self, say: Callable[..., None], end: asyncio.TimerHandle, fields: dict[str, object]) -> None:
        self.say = say
        self.end = end
        self.fields = fields  # what distinguishes this kind from others of the same event
        self.more = 0


class Folded:
    """On the event loop only."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def warning(self, event: str, kind: dict[str, str] | None = None, **fields: object) -> None:
        """`kind`: fields that make lines different kinds; `fields`: only in the first line."""
        self._say(self._log.warning, event, kind, fields)

    def error(self, event: str, kind: dict[str, str] | None = None, **fields: object) -> None:
        self._say(self._log.error, event, kind, fields)

    def _say(
        self, say: Callable[..., None], event: str, kind: dict[str, str] | None, fields: dict[str, object]
    ) -> None:
        told = kind or {}
        key = (event, repr(sorted(told.items())))
        if key not in self._kinds and len(self._kinds) >= MAX_KINDS:
            key, told = (event, ""), {}
        known = self._kinds.get(key)
        if known is not None:
            known.more += 1
            return
        end = asyncio.get_running_loop().call_later(MINUTE, self._end, key)
        self._kinds[key] = _Kind(say, end, dict(told))
        say(event, **told, **fields)

    def _end(self, key: tuple[str, str]) -> None:
        kind = self._kinds.pop(key)
        kind.end.cancel()
        if kind.more:
            kind.say(key[0], **kind.fields, more=kind.more, within=f"{MINUTE:g} seconds")

    def close(self) -> None:
        """Write the outstanding counts now. Idempotent."""
        for key in list(self._kinds):
            self._end(key)


class ToOurLog(logging.Handler):
    """Sends uvicorn's warnings and errors to our log."""

    def __init__(self, log: Log, folded: Folded) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._folded = folded

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            trace = "".join(traceback.format_exception(*record.exc_info))
            self._log.warning("http_server", problem=record.getMessage(), trace=trace)
        else:
            self._folded.warning("http_server", {"problem": record.getMessage()})
