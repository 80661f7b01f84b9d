"""`postroom verify` on the logs beside the queue: releases, rejections, queue samples.

Promises: a line about what a person did, or whom we refused, is kept, and says what was lost of it; a damaged sample
cannot be restored, and is deleted. Fails: database errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from postroom.model import Action
from postroom.store import codes
from postroom.store.engine import Tx, named
from postroom.store.logs.rejections import KINDS as REFUSALS
from postroom.store.verify.rows import Column, Finding, Ground, Mending, TableCheck, assignments, plain, read_rows

LOST = "The stored line was damaged"

_MOST = 1 << 62
_RELEASES = (codes.ACTION[Action.RELEASE], codes.ACTION[Action.REJECT])
_UNSURE = "unavailable"  # the peer may try again: such a message may have come in since


class _Lines(TableCheck):
    """Rows that are put right column by column."""

    slice = 2000
    kind = ""
    columns: tuple[Column, ...] = ()

    def wrong(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What is wrong in a row whose columns have the right types, as the values that are right."""
        raise AssertionError("each table has rules of its own")

    def _fixes(self, tx: Tx, first: int, last: int) -> list[tuple[int, dict[str, Any]]]:
        names = [column.expression for column in self.columns]
        tail = f"FROM {self.table} WHERE id BETWEEN :first AND :last ORDER BY id"
        found = []
        for row in read_rows(tx, self.columns, tail, {"first": first, "last": last}):
            values = dict(zip(names, row.values, strict=True))
            fixes = {names[number]: row.values[number] for number in row.broken} | self.wrong(values)
            if fixes:
                found.append((row.values[0], fixes))
        return found

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        return [
            Finding(self.kind, ident, f"not possible or not readable: {', '.join(sorted(fixes))}")
            for ident, fixes in self._fixes(tx, first, last)
        ]

    def mend(self, mending: Mending, finding: Finding) -> str:
        ((_, fixes),) = self._fixes(mending.tx, finding.id, finding.id)
        mending.tx.run(f"UPDATE {self.table} SET {assignments(fixes)} WHERE id = :id", {**fixes, "id": finding.id})
        return f"now {plain(fixes)}"


def _texts(*names: str) -> tuple[Column, ...]:
    return tuple([Column(name, str) for name in names])


class Releases(_Lines):
    """What people did with held mail."""

    name = "releases"
    table = "release_log"
    kind = "release-line"
    columns = (
        Column("id"), Column("entry_id"), Column("action"), Column("route"), Column("size"), Column("attachment"),
        *_texts(
            "actor", "reason", "held_for", "env_from", "from_address", "from_name", "recipient", "recipient_name",
            "subject",
        ),
    )  # fmt: skip

    def wrong(self, values: Mapping[str, Any]) -> dict[str, Any]:
        fixes: dict[str, Any] = {}
        if values["action"] not in _RELEASES:
            fixes.update(action=_RELEASES[0], reason=f"{LOST}: whether it was released or rejected. {values['reason']}")
        if not 0 <= values["route"] < len(codes.ROUTES):
            fixes["route"] = len(codes.ROUTES) - 1
        if not 0 <= values["size"] < _MOST:
            fixes["size"] = 0
        if values["attachment"] not in (0, 1):
            fixes["attachment"] = 1
        if values["entry_id"] < 0:
            fixes["entry_id"] = 0
        return fixes


class Rejections(_Lines):
    """Whom we refused at SMTP time."""

    name = "rejections"
    table = "rejection"
    kind = "rejection-line"
    columns = (Column("id"), Column("number"), *_texts("kind", "reply", "ip", "helo", "env_from", "recipient"))

    def wrong(self, values: Mapping[str, Any]) -> dict[str, Any]:
        fixes: dict[str, Any] = {}
        if values["kind"] not in REFUSALS:
            fixes.update(kind=_UNSURE, reply=f"{LOST}: why it was refused. {values['reply']}")
        if not 0 < values["number"] < _MOST:
            fixes["number"] = 1
        return fixes


class Samples(TableCheck):
    """How long the queues were."""

    name = "samples"
    table = "queue_sample"
    slice = 5000
    _id = "at"
    _rules: tuple[tuple[str, Callable[[Any], bool]], ...] = (
        ("queue", lambda value: type(value) is int and 0 <= value < len(codes.QUEUES)),
        ("route", lambda value: type(value) is int and 0 <= value < len(codes.ROUTES)),
        ("number", lambda value: type(value) is int and 0 <= value < _MOST),
    )

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found: dict[int, Finding] = {}
        for at, *values in self._rows(tx, first, last):
            if wrong := self._wrong(values):
                found.setdefault(at, Finding("sample", at, f"of this time: {wrong} is none that there is"))
        return list(found.values())

    def mend(self, mending: Mending, finding: Finding) -> str:
        deleted = 0
        for at, *values in self._rows(mending.tx, finding.id, finding.id):
            if self._wrong(values):
                deleted += mending.tx.run(_DELETE, {"at": at, "queue": values[0], "route": values[1]})
        return f"deleted: {deleted}"

    @staticmethod
    def _rows(tx: Tx, first: int, last: int) -> list[Any]:
        return list(tx.each(_SAMPLES, {"first": first, "last": last}))

    def _wrong(self, values: list[Any]) -> str:
        return next((name for (name, rule), value in zip(self._rules, values, strict=True) if not rule(value)), "")


def _as_stored(name: str) -> str:
    """A text, which may not be readable, as its bytes."""
    return f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"


_SAMPLES = named(
    "verify.samples",
    f"SELECT at, {_as_stored('queue')}, {_as_stored('route')}, {_as_stored('number')} FROM queue_sample "
    "WHERE at BETWEEN :first AND :last ORDER BY at",
)
_DELETE = named(
    "verify.drop_sample",
    f"DELETE FROM queue_sample WHERE at = :at AND :queue = {_as_stored('queue')} AND :route = {_as_stored('route')}",
)
