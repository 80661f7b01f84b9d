"""Records what sessions refuse, for message tracking: collected, folded, written once a second.

Promises: no session waits for it; at most PER_PLACE rows a minute for one peer and PER_MINUTE for all, with one more
row each that counts the rest; syntax errors and the like are not recorded. Fails: never raises; rows that the store
refuses are dropped, with a line in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from postroom.clock import MINUTE, Clock, Millis
from postroom.errors import EnvironmentFailed
from postroom.smtp_in.shared import MESSAGE, TurnedAway
from postroom.store import logs
from postroom.telemetry import Log

FLUSH = 1.0  # seconds
PER_PLACE = 20  # rows a minute of one address (IPv6: of one /64)
PER_MINUTE = 1_000  # rows of everybody
PLACES = 1_000  # that are counted apart when they go beyond

_NOISE = (b"500", b"502", b"503", b"421")  # no such command, wrong order, end of a session
_KINDS = {
    b"5.7.1": "relaying", b"5.3.4": "size", b"5.6.0": "content", b"4.7.0": "limit", b"4.5.3": "limit",
}  # fmt: skip

Write = Callable[[list[logs.NewRejection]], Awaitable[None]]
_Key = tuple[str, str, str, str, str, str]  # as the row: ip, helo, sender, recipient, kind, reply


def kind_of(reply: bytes) -> str:
    """One of `logs.REJECTION_KINDS`, by the enhanced status code (RFC 3463)."""
    found = _KINDS.get(reply[4:9])
    if found is not None:
        return found
    return "unavailable" if reply[:1] == b"4" else "address"


class Rejections:
    """Used on the event loop only. Without `write` nothing is recorded."""

    def __init__(self, write: Write | None, *, clock: Clock, log: Log) -> None:
        self._write = write
        self._clock = clock
        self._log = log
        self._minute: Millis = 0
        self._rows = 0  # started in this minute
        self._of_place: dict[str, int] = {}
        self._waiting: dict[_Key, tuple[Millis, int]] = {}
        self._folded: dict[str, tuple[Millis, int, _Key]] = {}  # written when their minute is over
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def note(self, ip: str, place: str, turned_away: Sequence[TurnedAway]) -> None:
        """Record what a session has refused since the last call."""
        if self._write is None:
            return
        for reply, line, helo, sender, recipients in turned_away:
            if line is MESSAGE:
                for recipient in recipients or ("",):
                    self._note(ip, place, helo, sender, recipient, reply)
            elif reply[:3] in _NOISE:
                continue
            elif line[:4].upper() == b"RCPT":
                self._note(ip, place, helo, sender, _address(line), reply)
            elif line[:4].upper() == b"MAIL":
                self._note(ip, place, helo, _address(line), "", reply)

    def note_connection(self, ip: str, place: str, reply: bytes) -> None:
        """Record a peer that was refused before its first command."""
        if self._write is not None:
            self._note(ip, place, "", "", "", reply)

    def _note(self, ip: str, place: str, helo: str, sender: str, recipient: str, reply: bytes) -> None:
        now = self._clock.now()
        self._turn(now)
        text = reply.decode("ascii", "replace").strip()
        key = (ip, helo, sender, recipient, kind_of(reply), text)
        known = self._waiting.get(key)
        if known is not None:
            self._waiting[key] = (known[0], known[1] + 1)
        elif self._of_place.get(place, 0) < PER_PLACE and self._rows < PER_MINUTE:
            self._of_place[place] = self._of_place.get(place, 0) + 1
            self._rows += 1
            self._waiting[key] = (now, 1)
        else:
            if place not in self._folded and len(self._folded) >= PLACES:
                place = ""
            first, number, _ = self._folded.get(place, (now, 0, key))
            self._folded[place] = (first, number + 1, key)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._on_timer)

    def _turn(self, now: Millis) -> None:
        """A new minute: the refusals beyond the limits of the last one become one row for each peer."""
        if now // MINUTE == self._minute:
            return
        self._minute = now // MINUTE
        self._rows = 0
        self._of_place = {}
        folded, self._folded = self._folded, {}
        for place, (first, number, (ip, _, _, _, kind, reply)) in folded.items():
            whose = "of this address" if place else "of many addresses"
            text = f"{number} more {whose} within a minute, the last: {reply}"
            self._waiting[(ip if place else "", "", "", "", kind, text)] = (first, number)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn(self._clock.now())
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_waiting())
            self._task.add_done_callback(self._written)
        if self._waiting or self._folded:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._on_timer)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._task = None

    async def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        assert self._write is not None
        rows = [logs.NewRejection(at, *key, number) for key, (at, number) in waiting.items()]
        try:
            await self._write(rows)
            self._failing = False
        except EnvironmentFailed as problem:
            if not self._failing:
                self._log.warning("rejections_not_recorded", rows=len(rows), problem=str(problem))
            self._failing = True

    async def close(self) -> None:
        """Write the collected rows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await self._task
        self._turn(self._clock.now() + MINUTE)
        if self._waiting:
            await self._write_waiting()


def _address(line: bytes) -> str:
    """The text in the brackets of MAIL or RCPT, as sent."""
    path = line.partition(b":")[2]
    start, end = path.find(b"<"), path.rfind(b">")
    inner = path[start + 1 : end] if 0 <= start < end else path
    return inner.strip().decode("ascii", "backslashreplace")
