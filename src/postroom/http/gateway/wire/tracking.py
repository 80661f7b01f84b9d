"""Translates message tracking to the vendor's terms (contract section 7).

Pure. Fails: BadItem with one fault per wrong member; a window that starts before our retention has the vendor's own
code.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import DAY, Millis
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.entries import Mailbox, mailbox
from postroom.http.gateway.wire.envelope import Fault, malformed
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.gateway.wire.members import (
    ROUTE_WORDS,
    ROUTES,
    BadItem,
    an_object,
    given,
    objects,
    period,
    text,
    truth,
    word,
)
from postroom.model import Route
from postroom.store import find

SLACK = DAY  # a client that computes "30 days ago" is a moment too late
STATUSES = {status: status for status in find.STATUSES}
_OPTIONS = "advancedTrackAndTraceOptions"


def read_search(item: Any, now: Millis, kept: Millis) -> find.Wanted:
    """`kept`: how long an ended message is known."""
    item = an_object(item)
    faults: list[Fault] = []
    found = objects(item.get(_OPTIONS), _OPTIONS, 1, faults)
    options = found[0] if found else {}
    dates = {name: item.get(name) if given(item.get(name)) else options.get(name) for name in ("start", "end")}
    since, until = period(dates, faults, now, lambda end: end - kept)
    if since < now - kept - SLACK:
        faults.append(
            Fault(
                "start", "err_track_and_trace_invalid_start_date",
                f"Start date is too old: messages are kept for {kept // DAY} days, "
                f"expected {stamp(now - kept)} or later",
                False,
            )
        )  # fmt: skip
    if given(options.get("url")):
        faults.append(malformed(f"{_OPTIONS}.url", "absent: links inside messages are not indexed"))
    named = f"{_OPTIONS}."
    wanted = find.Wanted(
        since=since,
        until=until,
        sender=text(options.get("from"), named + "from", faults),
        recipient=text(options.get("to"), named + "to", faults),
        subject=text(options.get("subject"), named + "subject", faults),
        ip=text(options.get("senderIP", options.get("senderIp")), named + "senderIP", faults).strip(),
        header_id=text(item.get("messageId"), "messageId", faults).strip().removeprefix("<").removesuffix(">"),
        routes=_routes(options.get("route"), faults),
        attachment=truth(options.get("attachments"), named + "attachments", faults),
        statuses=_statuses(options.get("status"), faults),
    )
    if faults:
        raise BadItem(tuple(faults))
    return wanted


def _routes(value: Any, faults: list[Fault]) -> tuple[Route, ...]:
    """One value or several; "all" means no filter."""
    before = len(faults)
    named = [one for one in (value if isinstance(value, list) else [value]) if given(one)][: len(ROUTES)]
    found = [word(one, f"{_OPTIONS}.route", ROUTES, ROUTE_WORDS, faults) for one in named]
    if len(faults) > before or None in found:
        return ()
    return tuple(sorted({route for route in found if route is not None}))


def _statuses(value: Any, faults: list[Fault]) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) > 100:
        faults.append(malformed(f"{_OPTIONS}.status", "an array of up to 100 words"))
        return ()
    found = [word(one, f"{_OPTIONS}.status", STATUSES, ",".join(STATUSES), faults) for one in listed]
    return tuple(dict.fromkeys([status for status in found if status is not None]))


class TrackedEmail(msgspec.Struct, frozen=True, gc=False):
    """One message for one recipient, members in the recorded order."""

    info: str
    id: str
    status: str
    fromEnv: Mailbox  # noqa: N815 - the wire's name, as below
    fromHdr: Mailbox  # noqa: N815
    to: list[Mailbox]
    received: str
    subject: str
    senderIP: str  # noqa: N815
    attachments: bool
    route: Route | msgspec.UnsetType
    sent: str | msgspec.UnsetType  # when it ended; a message that waits has not been sent
    spamScore: int  # noqa: N815 - no check of ours scores
    detectionLevel: str  # noqa: N815


def tracked_emails(rows: list[find.Tracked], idents: EntryIds) -> list[TrackedEmail]:
    unset = msgspec.UNSET
    return [
        TrackedEmail(
            row.info,
            ident,
            row.status,
            mailbox(row.env_from),
            mailbox(row.from_address, row.from_name),
            [mailbox(row.recipient, row.recipient_name)],
            stamp(row.received),
            row.subject,
            row.ip,
            row.attachment,
            unset if row.route is None else row.route,
            unset if row.ended is None else stamp(row.ended),
            0,
            "",
        )
        for row, ident in zip(rows, idents.texts([row.id for row in rows]), strict=True)
    ]
