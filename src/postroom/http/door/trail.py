"""The way of logins, tokens and refusals into the audit log and the log.

Promises: nobody waits for it. When the same happens again within an hour, a number in its line grows. A stranger gets a
bounded number of lines, and so do all strangers together; the rest of an hour is folded into lines without a name, so
that nobody can fill the disk. Known callers get a bounded number of lines, too, then shorter ones; their name goes
last. The log gets one line for each line of the audit log. No secret that was sent comes here. Fails: what the store
does not take is kept and tried again, in bounded memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter

from postroom.clock import HOUR, Clock, Millis
from postroom.http.door.limiter import network
from postroom.store import Store, logs
from postroom.telemetry import Log

FOLDED: Millis = HOUR
MAX_OF_ADDRESS = 50  # lines in an hour about strangers of one network who were refused
MAX_LINES = 1000  # about all strangers, of each outcome
MAX_OF_ACTOR = 100  # about one who is known, of each outcome: in all words, then in fewer, then in fewer still
MAX_KNOWN = 10 * MAX_LINES  # about all who are known: beyond it one line for each of them and each kind
MAX_WAITING = 4 * MAX_LINES  # not yet written, because the store does not take them
FLUSH_EVERY = 1.0  # seconds between two writes: however many come, the writer is asked once

_Key = tuple[str, str, str, str, str, str]  # actor, kind, what, address, outcome, detail: as in AuditNote

_OTHERS = "others, not listed one by one"
MAX_TOLD = 100  # characters of a typed address that the logs show
_ADDRESS = re.compile(r"[\w.+'=/&-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}")


def told(typed: str) -> str:
    """The name of a login as the logs may show it: people type passwords into the wrong field."""
    return typed if len(typed) <= MAX_TOLD and _ADDRESS.fullmatch(typed) else "not an address"


class _Open:
    """A line of this hour; `row` once it is written."""

    __slots__ = ("first", "key", "last", "row", "times")

    def __init__(self, key: _Key, at: Millis) -> None:
        self.key = key
        self.row: int | None = None
        self.first = self.last = at
        self.times = 0  # not yet written

    def noted(self) -> logs.AuditNote:
        """What is not yet written of it."""
        return logs.AuditNote(self.row, self.first, self.last, self.times, *self.key)


class Trail:
    def __init__(self, store: Store, clock: Clock, log: Log) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._hour = 0
        self._lines: dict[_Key, _Open] = {}
        self._of_address: Counter[str] = Counter()
        self._of_sort: Counter[str] = Counter()
        self._of_actor: Counter[tuple[str, str, int]] = Counter()
        self._of_known = 0
        self._changed: dict[_Open, None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._failing = False

    def note(
        self, kind: str, *, outcome: str, actor: str = "", what: str = "", address: str = "", detail: str = "",
        logged: bool = False,
    ) -> None:  # fmt: skip
        """On the event loop. `actor`: only of a caller who has proved who they are; `logged`: the log has it
        already."""
        now = self._clock.now()
        if now // FOLDED != self._hour:
            self._hour = now // FOLDED
            self._lines = {}
            self._of_address.clear()
            self._of_sort.clear()
            self._of_actor.clear()
            self._of_known = 0
        key = (actor, kind, what, address, outcome, detail)
        if key not in self._lines:
            key = self._of_known_one(key) if actor else self._of_stranger(key)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Open(key, now)
            if not logged:
                self._tell(*key)
        line.last = now
        line.times += 1
        self._changed[line] = None
        if self._writing is None and not self._closing.is_set():
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="audit-trail")

    def _of_stranger(self, key: _Key) -> _Key:
        """The key of the line to count in: its own, or the one without names."""
        _, kind, _, address, outcome, _ = key
        place = network(address)
        if self._of_sort[outcome] >= MAX_LINES or len(self._changed) >= MAX_WAITING:
            return ("", kind, "", "", outcome, _OTHERS)
        if outcome != logs.DONE and self._of_address[place] >= MAX_OF_ADDRESS:
            return ("", kind, "", place, outcome, "others from there, not listed one by one")
        self._of_sort[outcome] += 1
        self._of_address[place] += 1
        return key

    def _of_known_one(self, key: _Key) -> _Key:
        """The key of the first line that is still allowed: with the address, its network, neither, or the name
        alone."""
        actor, kind, what, address, outcome, detail = key
        if self._of_known < MAX_KNOWN and len(self._changed) < MAX_WAITING:
            for step, place in enumerate((address, network(address), "")):
                key = (actor, kind, what, place, outcome, detail)
                if key in self._lines:
                    return key
                if self._of_actor[actor, outcome, step] < MAX_OF_ACTOR:
                    self._of_actor[actor, outcome, step] += 1
                    self._of_known += 1
                    return key
        key = (actor, kind, "", "", outcome, _OTHERS)
        if key in self._lines:
            return key
        if self._of_known < 2 * MAX_KNOWN and len(self._changed) < 2 * MAX_WAITING:
            self._of_known += 1
            return key
        return ("", kind, "", "", outcome, _OTHERS)

    def _tell(self, actor: str, kind: str, what: str, address: str, outcome: str, detail: str) -> None:
        say = self._log.info if outcome == logs.DONE else self._log.warning
        say(f"{kind}_{outcome}".replace(".", "_"), actor=actor, what=what, ip=address, why=detail)

    async def flush(self) -> None:
        """Write what is not yet written. StoreUnavailable: it is kept for the next time."""
        async with self._flushing:
            changed, self._changed = self._changed, {}
            if not changed:
                return
            told = [(line, line.noted()) for line in changed]
            try:
                rows = await self._store.write(logs.add_audit_notes([noted for _, noted in told]))
            except BaseException:
                self._changed = {**changed, **self._changed}
                raise
            for (line, noted), row in zip(told, rows, strict=True):
                line.row = row
                line.times -= noted.times
            self._failing = False

    async def _write(self) -> None:
        while True:
            await self._try()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_EVERY)
            if not self._changed or self._closing.is_set():
                self._writing = None
                return

    async def _try(self) -> None:
        try:
            await self.flush()
        except Exception as problem:  # noqa: BLE001 - any failure: the lines are kept, logged once, and tried again
            if not self._failing:
                self._log.error("audit_not_written", problem=f"{type(problem).__name__}: {problem}")
            self._failing = True

    async def close(self) -> None:
        """Write the remaining lines. Idempotent."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        await self._try()
