"""`POST /api/gateway/hold-release` and `hold-reject`: a person's decision about held mail.

Promises: an item is executed only when every member of it is understood; no entry is released that a refused item of
the same call may also name; the answer gives the result for each id, and `fail` the reason where nothing was done; the
timeline and the release log record who did it. Fails: `fail` lists what is wrong with an item, with HTTP 200; the other
items are executed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.http.gateway.call import Call
from postroom.http.gateway.wire.envelope import Fault, ItemFailure, answer, invalid_token, malformed
from postroom.http.gateway.wire.held import MAX_RELEASED, check_call, read_reject, read_release
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.gateway.wire.members import BadItem, missing
from postroom.http.services import Services
from postroom.model import Action, ActionReport

RELEASE = "/api/gateway/hold-release"
REJECT = "/api/gateway/hold-reject"


class Released(msgspec.Struct, frozen=True):
    id: str
    release: bool


class Rejected(msgspec.Struct, frozen=True):
    id: str
    reject: bool


class HoldRelease:
    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._idents = EntryIds(services.sealer)

    async def __call__(self, call: Call) -> bytes:
        refused = _refused(call, "id", releasing=True)
        if refused is not None:
            return refused
        read = [(item, *_read(item)) for item in call.items]
        if any(faults and not _is_flat(item) for item, _, faults in read):  # it is unknown which ids it means
            return answer([], [ItemFailure(item, faults or (_unclear(),)) for item, _, faults in read], None)
        failed: list[ItemFailure] = []
        data: list[Any] = []
        asked: dict[str, list[tuple[int, str, Any]]] = {}  # by reason: entry, its id as sent, the item
        said = "\n".join([_said(item) for item, _, faults in read if faults])  # by items that ask for something else
        for item, (text, reason), faults in read:
            entry = self._idents.ident(text)
            if faults:
                failed.append(ItemFailure(item, faults))
            elif entry is None:
                failed.append(ItemFailure(item, (invalid_token(),)))
            elif text.lower() in said:
                failed.append(ItemFailure(item, (_doubted(),)))
            else:
                asked.setdefault(reason, []).append((entry, text, item))
        for reason, wanted in asked.items():
            report = await self._store.act(
                Action.RELEASE, [entry for entry, _, _ in wanted], actor=call.actor, reason=reason
            )
            why = _why(report)
            for entry, text, item in wanted:
                data.append(Released(text, entry not in why))
                if entry in why:
                    failed.append(ItemFailure(item, (_not_held(why[entry]),)))
        return answer(data, failed, None)


class HoldReject:
    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._idents = EntryIds(services.sealer)

    async def __call__(self, call: Call) -> bytes:
        refused = _refused(call, "ids", releasing=False)
        if refused is not None:
            return refused
        failed: list[ItemFailure] = []
        data: list[Any] = []
        for item in call.items:
            try:
                wanted = read_reject(item)
            except BadItem as problem:
                failed.append(ItemFailure(item, problem.faults))
                continue
            known = {text: self._idents.ident(text) for text in wanted.ids}
            entries = [entry for entry in known.values() if entry is not None]
            report = await self._store.act(
                Action.REJECT,
                entries,
                actor=call.actor,
                reason=wanted.reason,
                notify=wanted.notify,
                held=True,  # what is elsewhere by now is not touched
            )
            why = _why(report)
            for text, entry in known.items():
                if entry is None:
                    failed.append(ItemFailure({"id": text}, (invalid_token(),)))
                    continue
                data.append(Rejected(text, entry not in why))
                if entry in why:
                    failed.append(ItemFailure({"id": text}, (_not_held(why[entry]),)))
        return answer(data, failed, None)


def _refused(call: Call, field: str, *, releasing: bool) -> bytes | None:
    """The fault that makes the whole call wrong."""
    fault = check_call(call.body, call.query, releasing=releasing)
    if fault is None and not call.items:
        fault = missing(field)
    if fault is None and len(call.items) > MAX_RELEASED:
        fault = malformed("data", f"an array of 1 to {MAX_RELEASED} objects")
    return None if fault is None else answer([], [ItemFailure(None, (fault,))], None)


def _read(item: Any) -> tuple[tuple[str, str], tuple[Fault, ...]]:
    """((id, reason), what is wrong with it)."""
    try:
        return read_release(item), ()
    except BadItem as problem:
        return ("", ""), problem.faults


def _is_flat(item: Any) -> bool:
    """Whether this is an object of texts, numbers and booleans, or nothing."""
    if isinstance(item, dict):
        return not any(isinstance(value, dict | list) for value in item.values())
    return item is None


def _said(item: Any) -> str:
    """All texts in a flat item."""
    return "\n".join([str(text) for pair in (item or {}).items() for text in pair]).lower()


def _why(report: ActionReport) -> dict[int, str]:
    return dict(report.refused)


def _unclear() -> Fault:
    return malformed("data", "an array of flat objects: another item of this call is none, and could mean this one")


def _doubted() -> Fault:
    return malformed("id", "of one item only: another item of this call, which was refused, names it too")


def _not_held(why: str) -> Fault:
    return Fault("id", "err_hold_not_held", f"Message is {why}", False)
