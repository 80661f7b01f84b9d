"""Translates the processing queue to the vendor's terms, with the contradictions of contract section 6.

Pure. `read_query` accepts an item of `data` in every known spelling and returns a Query, or all faults of the item at
once; `messages` writes entries as the vendor does. Fails: BadItem with one fault per wrong field.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import DAY, Millis
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.envelope import Fault
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.gateway.wire.members import BadItem, an_object, filters, period, search, word
from postroom.model import Entry, Field, Filter, Order, Priority, Queue, Route

__all__ = ["BadItem", "Mailbox", "Query", "QueuedMessage", "messages", "read_query"]

WINDOW = 7 * DAY  # from start, when it is not given

ORDERS = {
    "ascending": Order.OLDEST, "descending": Order.NEWEST, "asc": Order.OLDEST, "desc": Order.NEWEST,
}  # fmt: skip
_QUEUES = {"processing": Queue.PROCESSING, "bulk_processing": Queue.BULK}
_SORTS = {"createtime": True}
_FIELDS = {
    "all": Field.ALL, "fromaddress": Field.FROM, "toaddress": Field.TO, "subject": Field.SUBJECT, "info": Field.INFO,
    "remoteip": Field.IP,
}  # fmt: skip


class Query(msgspec.Struct, frozen=True):
    """The query of one item, with an absolute time window."""

    filter: Filter
    order: Order


def read_query(item: Any, now: Millis) -> Query:
    """Unknown members are ignored, null and "" mean "not given"."""
    item = an_object(item)
    faults: list[Fault] = []
    order = word(item.get("sortOrder"), "sortOrder", ORDERS, "ascending,descending", faults) or Order.NEWEST
    word(item.get("sortBy"), "sortBy", _SORTS, "createTime", faults)
    queue = word(item.get("type"), "type", _QUEUES, "processing,bulk_processing", faults) or Queue.PROCESSING
    since, until = period(item, faults, now, lambda end: end - WINDOW)
    field, text = search(item.get("searchBy"), _FIELDS, "ALL,fromAddress,toAddress,subject,info,remoteIp", faults)
    wanted = filters(item.get("filterBy"), faults)
    if faults:
        raise BadItem(tuple(faults))
    return Query(
        Filter(
            queues=(queue,),
            routes=wanted.routes,
            attachment=wanted.attachment,
            since=since,
            until=until,
            text=text,
            field=field or Field.ALL,
        ),
        order,
    )


class Mailbox(msgspec.Struct, frozen=True, gc=False):
    """The page's table says `displayName`; its sample and every recorded answer say `displayableName`."""

    emailAddress: str  # noqa: N815 - the wire's name, as below
    displayableName: str | msgspec.UnsetType  # noqa: N815 - only where there is one


def mailbox(address: str, name: str = "") -> Mailbox:
    return Mailbox(address, name or msgspec.UNSET)


class QueuedMessage(msgspec.Struct, frozen=True, gc=False):
    """One entry, members in the recorded order."""

    id: str
    fromEnv: Mailbox  # noqa: N815
    fromHeader: Mailbox  # noqa: N815
    to: Mailbox
    subject: str
    attachment: bool
    routing: Route
    size: int
    remoteIp: str  # noqa: N815
    attempts: int
    nextAttempt: str  # noqa: N815
    created: str
    info: str
    lockedUntil: str | msgspec.UnsetType  # noqa: N815 - only while it is locked
    priority: Priority


def messages(entries: list[Entry], idents: EntryIds, now: Millis) -> list[QueuedMessage]:
    """A page of rows, optimised: a page of 100 has a budget of one millisecond."""
    unset = msgspec.UNSET
    return [
        QueuedMessage(
            text,
            Mailbox(entry.env_from, unset),
            Mailbox(entry.from_address, entry.from_name or unset),
            Mailbox(entry.recipient, entry.recipient_name or unset),
            entry.subject,
            entry.attachment,
            entry.route,
            entry.size,
            entry.remote_ip,
            entry.attempts,
            stamp(entry.next_attempt),
            stamp(entry.created),
            entry.info,
            stamp(entry.locked_until) if entry.locked_until is not None and entry.locked_until > now else unset,
            entry.priority,
        )
        for entry, text in zip(entries, idents.texts([entry.id for entry in entries]), strict=True)
    ]
