"""The vendor's words and ours, for the processing queue. This module alone knows the contradictions of contract section 6.

Pure. `read_query` takes an item of `data` in every spelling that clients send and gives a Query, or all that is wrong with the
item at once; `messages` writes entries as the vendor does. Fails: BadItem with one fault per wrong field.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from postroom.clock import DAY, Millis
from postroom.errors import PeerError
from postroom.http.gateway.dates import Moment, parse_date, stamp
from postroom.http.gateway.envelope import Fault, malformed, not_allowed
from postroom.http.gateway.idents import EntryIds
from postroom.model import Entry, Field, Filter, Order, Priority, Queue, Route
from postroom.store.search import MAX_TEXT

WINDOW = 7 * DAY  # start, when it is not given
MAX_FILTERS = 50  # objects in filterBy

T = TypeVar("T")

_ORDERS = {
    "ascending": Order.OLDEST, "descending": Order.NEWEST, "asc": Order.OLDEST, "desc": Order.NEWEST,
}  # fmt: skip
_QUEUES = {"processing": Queue.PROCESSING, "bulk_processing": Queue.BULK}
_SORTS = {"createtime": True}
_FIELDS = {
    "all": Field.ALL, "fromaddress": Field.FROM, "toaddress": Field.TO, "subject": Field.SUBJECT, "info": Field.INFO,
    "remoteip": Field.IP,
}  # fmt: skip
_ROUTES: dict[str, Route | None] = {
    "all": None, "internal": Route.INTERNAL, "outbound": Route.OUTBOUND, "inbound": Route.INBOUND,
    "external": Route.EXTERNAL,
}  # fmt: skip
_BOOLEANS = {"true": True, "false": False}

_DATE_FORM = "a date such as 2015-11-16T14:49:18+0000"


class Query(msgspec.Struct, frozen=True):
    """What one item asks for, resolved: its window no longer depends on when it is read."""

    filter: Filter
    order: Order


class BadItem(PeerError):
    """An item that cannot be answered, with everything that is wrong with it."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join([f"{fault.field}: {fault.message}" for fault in faults]))
        self.faults = faults


def read_query(item: Any, now: Millis) -> Query:
    """Unknown members are ignored, null and "" mean "not given"."""
    if not isinstance(item, dict):
        raise BadItem((malformed("data", "an object"),))
    faults: list[Fault] = []
    order = _word(item.get("sortOrder"), "sortOrder", _ORDERS, "ascending,descending", faults) or Order.NEWEST
    _word(item.get("sortBy"), "sortBy", _SORTS, "createTime", faults)
    queue = _word(item.get("type"), "type", _QUEUES, "processing,bulk_processing", faults) or Queue.PROCESSING
    start = _date(item.get("start"), "start", faults)
    end = _date(item.get("end"), "end", faults)
    if start is not None and end is not None and start.at > end.last:
        faults.append(malformed("start", "a date not after end"))
    text, field = _search(item.get("searchBy"), faults)
    routes, attachment = _filters(item.get("filterBy"), faults)
    if faults:
        raise BadItem(tuple(faults))
    return Query(
        Filter(
            queues=(queue,),
            routes=routes,
            attachment=attachment,
            since=now - WINDOW if start is None else start.at,
            until=now if end is None else end.last,
            text=text,
            field=field,
        ),
        order,
    )


def _word(value: Any, field: str, words: dict[str, T], expected: str, faults: list[Fault]) -> T | None:
    """One of a closed list, any case; None when not given or (with a fault) when it is not one."""
    if value is None or value == "":
        return None
    key = value.strip().lower() if isinstance(value, str) else None
    if key not in words:
        faults.append(not_allowed(field, expected))
        return None
    return words[key]


def _date(value: Any, field: str, faults: list[Fault]) -> Moment | None:
    if value is None or value == "":
        return None
    moment = parse_date(value) if isinstance(value, str) else None
    if moment is None:
        faults.append(malformed(field, _DATE_FORM))
    return moment


def _objects(value: Any, field: str, most: int, faults: list[Fault]) -> list[dict[str, Any]]:
    """An object or a list of them: clients send both where the page says either."""
    if value is None or value == "":
        return []
    found = value if isinstance(value, list) else [value]
    found = [one for one in found if one is not None]
    if len(found) > most or not all(isinstance(one, dict) for one in found):
        faults.append(malformed(field, "an object" if most == 1 else f"an array of up to {most} objects"))
        return []
    return found


def _search(value: Any, faults: list[Fault]) -> tuple[str, Field]:
    for search in _objects(value, "searchBy", 1, faults):
        field = _word(
            search.get("fieldName"),
            "searchBy.fieldName",
            _FIELDS,
            "ALL,fromAddress,toAddress,subject,info,remoteIp",
            faults,
        )
        text = search.get("value")
        if isinstance(text, int | float) and not isinstance(text, bool):
            text = str(text)
        if text is None or text == "":
            continue
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            faults.append(malformed("searchBy.value", f"text of up to {MAX_TEXT} characters"))
            continue
        return _bare(text), field or Field.ALL
    return "", Field.ALL


def _bare(text: str) -> str:
    """`<alice@corp.example>` is how some write an address; no field of ours keeps the brackets."""
    inner = text.strip()
    return inner[1:-1] if inner[:1] == "<" and inner[-1:] == ">" and "@" in inner else text


def _filters(value: Any, faults: list[Fault]) -> tuple[tuple[Route, ...], bool | None]:
    """Both shapes, mixed: `{route, attachments}` of the page's table, `{fieldName, value}` of its sample.

    Several values of one kind widen each other; "all", or both truth values, means no filter.
    """
    routes: list[Route | None] = []
    attachments: list[bool] = []
    for given in _objects(value, "filterBy", MAX_FILTERS, faults):
        pairs = [("route", given.get("route")), ("attachments", given.get("attachments"))]
        if given.get("fieldName") is not None and given["fieldName"] != "":
            name = _word(
                given["fieldName"],
                "filterBy.fieldName",
                {"route": "route", "attachments": "attachments", "attachment": "attachments"},
                "route,attachments",
                faults,
            )
            pairs.append((name or "", given.get("value")))
        for name, wanted in pairs:
            if wanted is None or wanted == "":
                continue
            if name == "route":
                before = len(faults)
                route = _word(wanted, "filterBy.route", _ROUTES, "all,internal,outbound,inbound,external", faults)
                if len(faults) == before:
                    routes.append(route)
            elif name == "attachments":
                truth = wanted if isinstance(wanted, bool) else _word(
                    wanted, "filterBy.attachments", _BOOLEANS, "true,false", faults
                )  # fmt: skip
                attachments += [] if truth is None else [truth]
    chosen = () if None in routes else tuple(sorted({route for route in routes if route is not None}))
    return chosen, attachments[0] if len(set(attachments)) == 1 else None


class Mailbox(msgspec.Struct, frozen=True, gc=False):
    """The page's table says `displayName`; its sample and every recorded answer say `displayableName`."""

    emailAddress: str  # noqa: N815 - the wire's name, as below
    displayableName: str | msgspec.UnsetType  # noqa: N815 - only where there is one


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
    """A page of rows, as cheap as it gets: a page of 100 has a millisecond for everything."""
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
