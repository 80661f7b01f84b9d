"""`postroom verify`: proves that entries, messages, bodies, events, history, reasons, logs, ledger, counters and index
agree, and repairs what does not.

Promises: it runs beside a serving gateway without blocking the writer. Rows are read in slices, each in one short read
transaction. The queue moves meanwhile, so what looks wrong is read again in a fresh transaction before it counts, and
once more inside the small writing transaction of its repair. Nothing that could be mail is deleted: what cannot be put
right without guessing is held, marked and shown. Memory stays bounded, however many rows there are.
Fails: database errors of a damaged file become findings; StoreUnavailable when a repair cannot be committed.

To prove more (another index, another table): write a check (see `Check` in rows.py), add it to `checks`, and add its
kinds to KINDS.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import msgspec

from postroom.clock import Clock, Millis
from postroom.store.engine import DAMAGE, Tx
from postroom.store.logs import audit
from postroom.store.queue.apply import Infos
from postroom.store.sqlite.proving import proving
from postroom.store.store import Store
from postroom.store.verify.entries import Entries
from postroom.store.verify.files import RESTORE, BodyFiles, Database
from postroom.store.verify.find import Counters, Indexed, IndexedReasons, Waiting
from postroom.store.verify.logs import Rejections, Releases, Samples
from postroom.store.verify.messages import BodyRows, Messages
from postroom.store.verify.plans import Leaving, Plans
from postroom.store.verify.records import Events, History, Ledger, Pauses, Reasons
from postroom.store.verify.rows import Check, Finding, Ground, Left, Mending

SHOWN = 10_000  # findings that a report names one by one; all are counted
MEND_AT_ONCE = 20  # rows of one writing transaction of a repair
ROUNDS = 4  # looks at one row: mending one thing can show another
COUNTING = frozenset({"message-alone", "body-alone"})  # their repair counts all entries: one at a time
BEYOND = frozenset({"database"})  # with these the file itself cannot be trusted: nothing is written to it

# kind -> what is wrong, as a report says it of several
KINDS = {
    "database": "places where SQLite finds its file damaged",
    "index": "indexes that do not agree with their table",
    "reference": "rows that refer to rows that are not there",
    "rule": "rows that break a rule of their table",
    "reason": "reasons in the dictionary that cannot be read or found",
    "body-alone": "bodies without a message",
    "message-alone": "messages without an entry",
    "message-text": "messages whose envelope cannot be read",
    "message-facts": "messages whose columns are not what their bytes say",
    "message-verdicts": "messages whose verdicts cannot be read",
    "body-missing": "messages whose body is gone",
    "body-unread": "messages whose body cannot be read just now",
    "body-size": "messages whose body is longer or shorter than accepted",
    "body-changed": "messages whose body is not what was accepted",
    "body-twice": "messages with a row of bytes beside their file",
    "entry-state": "entries whose state is not possible",
    "entry-text": "entries whose recipient cannot be read",
    "entry-info": "entries whose reason is not in the dictionary",
    "entry-ended": "entries that are in the history, too",
    "entry-message": "entries without a message",
    "entry-foreign": "entries that name another message than their own",
    "entry-copies": "entries whose copied fields are not those of their message",
    "entry-search": "entries whose search text is not that of their fields",
    "plan": "plans that cannot be read",
    "entry-leaving": "entries that wait to end, though no plan awaits it",
    "event-alone": "events without an entry",
    "event-state": "events that cannot be read",
    "event-info": "events whose reason is not in the dictionary",
    "history-state": "ended entries that cannot be read",
    "release-line": "lines of the release log that cannot be read",
    "rejection-line": "refusals that cannot be read",
    "sample": "samples of the queues' length that cannot be read",
    "pause": "pauses of an unknown stage",
    "file-alone": "body files that no message names",
    "file-young": "body files that may be about to get their message, or that the gateway itself deletes",
    "file-kept": "body files kept because an entry has lost its message",
    "file-foreign": "files among the bodies that are not ours",
    "ledger-account": "ledger lines under an unknown account",
    "ledger-difference": "ledger that does not add up",
    "counters": "counters by hour that do not agree with the entries",
    "reason-entry": "entries that their reason does not lead to",
    "index-entry": "entries that the search index should have and has not",
}


class Result(msgspec.Struct, frozen=True, gc=False):
    """A finding and what was done about it: "found", "repaired", "left" (with the reason), or "noted"."""

    finding: Finding
    state: str
    done: str = ""


class Report(msgspec.Struct):
    """What a run found. `counts`: kind -> state -> how many; `results` has the first SHOWN of them."""

    repair: bool
    deep: bool
    serving: bool
    rows: int = 0
    seconds: float = 0.0
    counts: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    results: list[Result] = msgspec.field(default_factory=list)

    @property
    def wrong(self) -> int:
        """What is not as it must be, and stays so."""
        return sum(states.get("found", 0) + states.get("left", 0) for states in self.counts.values())

    @property
    def repaired(self) -> int:
        return sum(states.get("repaired", 0) for states in self.counts.values())

    def add(self, finding: Finding, state: str, done: str = "") -> None:
        states = self.counts.setdefault(finding.kind, {})
        states[state] = states.get(state, 0) + 1
        if len(self.results) < SHOWN:
            self.results.append(Result(finding, state, done))


class Progress(msgspec.Struct):
    """Called with what is being checked, the number of rows in all, and how many are done."""

    tell: Callable[[str, int, int], None] = lambda name, total, done: None


def checks(*, deep: bool) -> list[Check]:
    """In the order in which repairs build on each other: reasons before the rows that name them, messages before
    entries, the ledger after everything that can bring an entry back."""
    return [
        Database(deep=deep), Reasons(), Pauses(), BodyRows(), Messages(), Entries(), Plans(), Leaving(), Events(),
        History(), Releases(), Rejections(), Samples(), BodyFiles(), Ledger(), Counters(), Waiting(), Indexed(),
        IndexedReasons(),
    ]  # fmt: skip


def is_serving(store: Store) -> bool:
    """Whether a gateway holds the data directory now."""
    try:
        descriptor = os.open(Path(store.path.parent, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def verify(
    store: Store, *, clock: Clock, repair: bool = False, deep: bool = False, progress: Progress | None = None,
    wanted: Sequence[Check] | None = None,
) -> Report:  # fmt: skip
    """Check everything, once."""
    return _Run(store, clock, repair, deep, progress or Progress(), wanted or checks(deep=deep)).all()


def add_to_audit(tx: Tx, report: Report, *, at: Millis, actor: str) -> None:
    """The line in the audit log of a run that has repaired something."""
    number = report.repaired
    detail = f"{number:,} {'finding' if number == 1 else 'findings'} repaired, {report.wrong} left"
    audit.add(tx, at=at, actor=actor, kind="store.repair", detail=detail)


class _Run:
    def __init__(
        self, store: Store, clock: Clock, repair: bool, deep: bool, progress: Progress, wanted: Sequence[Check]
    ) -> None:
        self._store = store
        self._clock = clock
        self._checks = wanted
        self._progress = progress
        self._total = self._done = self._end = 0  # rows: all, looked at, until the end of this check
        self._report = Report(repair, deep, is_serving(store))
        self._tx = proving(store.path)

    def all(self) -> Report:
        began = perf_counter()
        try:
            sizes = [self._size(check) for check in self._checks]
            self._total = sum(sizes)
            for check, size in zip(self._checks, sizes, strict=True):
                self._end = self._done + size
                self._check(check)
                self._advance(check, size)
        finally:
            self._tx.close()
        self._report.rows, self._report.seconds = self._done, perf_counter() - began
        return self._report

    def _size(self, check: Check) -> int:
        try:
            return check.size(self._tx, self._ground())
        except DAMAGE:
            return 1  # the check itself will say so

    def _ground(self) -> Ground:
        return Ground(self._store.bodies, self._clock.now(), is_serving(self._store))  # one may start meanwhile

    def _check(self, check: Check) -> None:
        after = 0
        try:
            while (upper := check.upper(self._tx, after)) is not None:
                suspects = self._look(check, after + 1, upper)
                after = upper
                findings = [finding for suspect in suspects for finding in self._again(check, suspect)]
                self._settle(check, findings)
                self._advance(check, check.slice)
        except DAMAGE as problem:
            self._damaged(check, problem)

    def _advance(self, check: Check, rows: int) -> None:
        self._done = min(self._done + rows, self._end)
        self._progress.tell(check.name, self._total, self._done)

    def _look(self, check: Check, first: int, last: int) -> list[Finding]:
        """In one read transaction: everything that is compared was true at the same instant."""
        with self._tx.snapshot():
            return check.look(self._tx, self._ground(), first, last)

    def _again(self, check: Check, suspect: Finding) -> list[Finding]:
        """What still looks wrong in a fresh snapshot."""
        key = (suspect.kind, suspect.name)
        return [finding for finding in self._look(check, suspect.id, suspect.id) if (finding.kind, finding.name) == key]

    def _damaged(self, check: Check, problem: Exception) -> None:
        finding = Finding("database", 0, f"{check.name} cannot be read any further: {problem}", check.name)
        self._report.add(finding, "left" if self._report.repair else "found", RESTORE if self._report.repair else "")

    # -- what is done about it

    def _settle(self, check: Check, findings: list[Finding]) -> None:
        report = self._report
        for finding in findings:
            if finding.noted:
                report.add(finding, "noted")
        wrong = [finding for finding in findings if not finding.noted]
        if not report.repair:
            for finding in wrong:
                report.add(finding, "found")
            return
        if BEYOND & report.counts.keys():
            for finding in wrong:
                report.add(finding, "left", "not touched: the file itself is damaged")
            return
        rows = list(dict.fromkeys([finding.id for finding in wrong]))
        step = 1 if {finding.kind for finding in wrong} & COUNTING else MEND_AT_ONCE
        for at in range(0, len(rows), step):
            part = rows[at : at + step]
            results, objects = self._store.write_now(partial(self._mend, check, part))
            for result in results:
                report.add(result.finding, result.state, result.done)
            for name in objects:
                self._store.bodies.delete(name)

    def _mend(self, check: Check, ids: Sequence[int], tx: Tx) -> tuple[list[Result], list[str]]:
        """In the writer's transaction. What fails on one row undoes what was done to that row alone."""
        results: list[Result] = []
        objects: list[str] = []
        for ident in ids:
            mending = Mending(tx, self._ground(), Infos(), self._store.life)
            results += _mend_row(check, mending, ident)
            objects += mending.objects
        return results, objects


def _mend_row(check: Check, mending: Mending, ident: int) -> list[Result]:
    """Look and mend until there is nothing more to mend in this row."""
    tx, results = mending.tx, dict[tuple[str, str], Result]()
    for _ in range(ROUNDS):
        found = [finding for finding in check.look(tx, mending.ground, ident, ident) if not finding.noted]
        todo = [finding for finding in found if results.get((finding.kind, finding.name), None) is None]
        if not todo:
            break
        for finding in todo:
            results[finding.kind, finding.name] = _mend_one(check, mending, finding)
    for finding in check.look(tx, mending.ground, ident, ident):
        before = results.get((finding.kind, finding.name))
        if before is not None and before.state == "repaired" and not finding.noted:
            results[finding.kind, finding.name] = Result(finding, "left", f"tried ({before.done}), and still wrong")
    return list(results.values())


def _mend_one(check: Check, mending: Mending, finding: Finding) -> Result:
    try:
        with mending.tx.snapshot():
            done = check.mend(mending, finding)
    except Left as why:
        mending.infos.forget()
        return Result(finding, "left", str(why))
    return Result(finding, "repaired", done)
