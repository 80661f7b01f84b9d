"""Translates held mail to the vendor's terms (contract section 7), as `entries` and `tracking` do for their functions.

Pure. The vendor has three members - reason, its id, its code - for our one text, `info`: the code is the head of the
text as words joined by underscores, the id the same in capitals, as in every recorded answer. Fails: BadItem.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from postroom.clock import Millis
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.entries import ORDERS, Query
from postroom.http.gateway.wire.envelope import Fault, malformed, not_allowed
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.gateway.wire.members import (
    BadItem,
    an_object,
    filters,
    given,
    missing,
    period,
    search,
    truth,
    word,
)
from postroom.model import Entry, Field, Filter, Order, Queue

MAX_RELEASED = 25  # items of one call (contract section 3)
MAX_REJECTED = 100  # ids of one call: as many as a page shows
MAX_MESSAGE = 400  # characters of what a person says
_FAR = 1 << 42  # a time that no entry has: "nothing" as a window

_FIELDS = {
    "all": Field.ALL, "subject": Field.SUBJECT, "sender": Field.FROM, "recipient": Field.TO, "reason_code": Field.INFO,
    "reasoncode": Field.INFO, "senderip": Field.IP,
}  # fmt: skip
_GROUPS = {"administrator": True, "all": True, "moderator": False, "user": False, "cluster": False}
_WORD = re.compile(r"[^a-z0-9]+")
_HEAD = re.compile(r"[:;(]")
REASONS = (
    "MESSAGE CONTAINS UNDESIRABLE CONTENT",
    "MESSAGE CONTAINS CONFIDENTIAL INFORMATION",
    "REVIEWER DISAPPROVES OF CONTENT",
    "INAPPROPRIATE COMMUNICATION",
    "MESSAGE GOES AGAINST EMAIL POLICIES",
)
_REASONS = {reason.lower(): reason.capitalize() for reason in REASONS} | {
    reason.lower().replace(" ", "_"): reason.capitalize() for reason in REASONS
}


def policy_of(info: str) -> str:
    """What holds it, without the details of the one message: `Held by a person: asked for by legal` -> `Held by a
    person`."""
    return _HEAD.split(info, maxsplit=1)[0].strip() or "Held"


def code_of(info: str) -> str:
    return _WORD.sub("_", policy_of(info).lower()).strip("_") or "held"


def read_held(item: Any, now: Millis) -> Query:
    """All held messages, unless a window is given. `admin` changes nothing: an application sees everything."""
    item = an_object(item)
    faults: list[Fault] = []
    truth(item.get("admin"), "admin", faults)
    order = word(item.get("sortOrder"), "sortOrder", ORDERS, "ascending,descending", faults) or Order.NEWEST
    since, until = period(item, faults, now, lambda _: 0)
    expected = "all,subject,sender,recipient,reason_code,reasonCode,senderIP"
    field, text = search(item.get("searchBy"), _FIELDS, expected, faults)
    if field is Field.INFO:
        text = text.replace("_", " ")
    wanted = filters(item.get("filterBy"), faults, {"heldgroup": "heldGroup"}, "route,attachments,heldGroup")
    groups = [
        word(value, "filterBy.heldGroup", _GROUPS, "administrator,moderator,user,cluster", faults)
        for _, value in wanted.others
    ]
    if faults:
        raise BadItem(tuple(faults))
    if groups and True not in groups:  # everything is held for administrators here
        since = _FAR
    return Query(
        Filter(
            queues=(Queue.HELD,),
            routes=wanted.routes,
            attachment=wanted.attachment,
            since=since,
            until=max(since, until),
            text=text,
            field=field or Field.ALL,
        ),
        order,
    )


class HeldMailbox(msgspec.Struct, frozen=True, gc=False):
    """Recorded: the name is always there in this list, empty when there is none."""

    emailAddress: str  # noqa: N815 - the wire's name, as below
    displayableName: str  # noqa: N815


class HeldMessage(msgspec.Struct, frozen=True, gc=False):
    """One held entry, members in the recorded order."""

    id: str
    reason: str
    reasonId: str  # noqa: N815
    reasonCode: str  # noqa: N815
    from_: HeldMailbox = msgspec.field(name="from")
    fromHeader: HeldMailbox  # noqa: N815
    to: HeldMailbox
    subject: str
    route: str
    hasAttachments: bool  # noqa: N815
    size: int
    dateReceived: str  # noqa: N815
    policyInfo: str  # noqa: N815


def held_messages(entries: list[Entry], idents: EntryIds) -> list[HeldMessage]:
    return [
        HeldMessage(
            ident,
            entry.info,
            code_of(entry.info).upper(),
            code_of(entry.info),
            HeldMailbox(entry.env_from, ""),
            HeldMailbox(entry.from_address, entry.from_name),
            HeldMailbox(entry.recipient, entry.recipient_name),
            entry.subject,
            entry.route.upper(),
            entry.attachment,
            entry.size,
            stamp(entry.created),
            policy_of(entry.info),
        )
        for entry, ident in zip(entries, idents.texts([entry.id for entry in entries]), strict=True)
    ]


# -- changing calls: whatever is not understood is refused, never passed over


_META = ("pagination", "accountCode")
_PAGINATION = ("pageSize", "page_size", "pageToken")
_NOTHING = "absent: of this call only the body is read"


def check_call(body: dict[str, Any], query: str, *, releasing: bool) -> Fault | None:
    """Checks what surrounds the items: only `data` and `meta`, no query, and in `meta` only members that we read.

    A caller who puts `action: reject` elsewhere means it, so we must not ignore it. `action: release` adds nothing to
    hold-release and may stay.
    """
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not (releasing and name == "action"):
            return malformed(f"query.{name[:100]}", _NOTHING)
        if not _releases(value):
            return not_allowed("query.action", "release")
    return _strange(body, ("data", "meta"), "", releasing) or _strange_meta(body, releasing)


def _releases(value: Any) -> bool:
    return not given(value) or (isinstance(value, str) and value.strip().lower() == "release")


def _strange(place: dict[str, Any], known: tuple[str, ...], where: str, releasing: bool) -> Fault | None:
    """The first unknown member."""
    for key, value in place.items():
        if releasing and key == "action":
            if not _releases(value):
                return not_allowed(f"{where}action", "release")
        elif key not in known and given(value):
            return not_allowed(f"{where}{str(key)[:100]}", ",".join(known))
    return None


def _strange_meta(place: dict[str, Any], releasing: bool) -> Fault | None:
    """Of a body or an item: `meta`, and `pagination` in it or beside it, wherever pages are asked for (contract section
    4)."""
    meta = place.get("meta")
    for found, known, where in (
        (meta, _META, "meta"),
        (meta.get("pagination") if isinstance(meta, dict) else None, _PAGINATION, "meta.pagination"),
        (place.get("pagination"), _PAGINATION, "pagination"),
    ):
        if not given(found):
            continue
        if not isinstance(found, dict):
            return malformed(where, "an object")
        fault = _strange(found, known, f"{where}.", releasing)
        if fault is not None:
            return fault
        for key, value in found.items():
            if isinstance(value, dict | list) and key != "pagination":
                return malformed(f"{where}.{key}", "a text or a number")
    return None


def read_release(item: Any) -> tuple[str, str]:
    """(id, reason). A client was seen that sends `action: reject` here and means it: that must never release."""
    item = an_object(item)
    known = ("id", "action", "reason", "meta", "pagination")
    strange = _strange(item, known, "", True) or _strange_meta(item, True)
    if strange is not None:
        raise BadItem((strange,))
    faults: list[Fault] = []
    ident = _ident(item.get("id"), "id", faults)
    reason = _said(item.get("reason"), "reason", faults)
    if faults:
        raise BadItem(tuple(faults))
    return ident, reason


class Rejecting(msgspec.Struct, frozen=True):
    """An item of hold-reject."""

    ids: tuple[str, ...]
    reason: str
    notify: bool


def read_reject(item: Any) -> Rejecting:
    item = an_object(item)
    known = ("ids", "id", "message", "notify", "reasonType", "meta", "pagination")
    strange = _strange(item, known, "", False) or _strange_meta(item, False)
    if strange is not None:
        raise BadItem((strange,))
    faults: list[Fault] = []
    ids = item.get("ids") if given(item.get("ids")) else item.get("id")
    listed = ids if isinstance(ids, list) else [ids] if given(ids) else []
    if not listed:
        faults.append(missing("ids", item.get("ids") if ids is None else ids))
    if len(listed) > MAX_REJECTED:
        faults.append(malformed("ids", f"an array of up to {MAX_REJECTED} ids"))
        listed = []
    texts = tuple(dict.fromkeys([_ident(one, "ids", faults) for one in listed]))
    kind = word(item.get("reasonType"), "reasonType", _REASONS, ",".join(REASONS), faults)
    message = _said(item.get("message"), "message", faults)
    notify = truth(item.get("notify"), "notify", faults)
    if faults:
        raise BadItem(tuple(faults))
    return Rejecting(texts, ": ".join([part for part in (kind, message) if part]), bool(notify))


def _ident(value: Any, field: str, faults: list[Fault]) -> str:
    if not given(value) or (isinstance(value, str) and not value.strip()):
        faults.append(missing(field, value))
        return ""
    if not isinstance(value, str):
        faults.append(malformed(field, "an id as text"))
        return ""
    return value.strip()


def _said(value: Any, field: str, faults: list[Fault]) -> str:
    """One line that is shown to people and sent to the sender."""
    if not given(value):
        return ""
    said = " ".join(value.split()) if isinstance(value, str) else None
    if said is None or len(said) > MAX_MESSAGE or not said.isprintable():
        faults.append(malformed(field, f"text of up to {MAX_MESSAGE} printable characters"))
        return ""
    return said
