"""`POST /api/gateway/get-rejections`: mail refused over SMTP. `paging.logs` makes the pages.

Promises: starts at midnight (UTC) by default; temporary refusals are shown too, and marked as such. Fails: as
`paging.logs` does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import DAY, Millis
from postroom.http.gateway.paging.logs import LogListing
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.entries import ORDERS
from postroom.http.gateway.wire.envelope import Fault
from postroom.http.gateway.wire.members import BadItem, an_object, pairs, period, search, text, truth, word
from postroom.http.services import Services
from postroom.model import Order
from postroom.store.logs import lines as logs
from postroom.store.logs.rejections import KINDS, Rejection

PATH = "/api/gateway/get-rejections"

_FIELDS = {"all": "all", "from": "from", "to": "to", "type": "type", "info": "info", "remoteip": "remoteip"}
_KINDS = {kind: kind for kind in KINDS}


class Shown(msgspec.Struct, frozen=True, gc=False):
    """One refusal, or `count` similar ones of one peer within a minute."""

    fromAddress: str  # noqa: N815 - the wire's name, as below
    toAddress: str  # noqa: N815
    type: str
    info: str
    remoteIp: str  # noqa: N815
    remoteHost: str  # noqa: N815 - what it called itself
    rejected: str
    count: int


class Listed(msgspec.Struct, frozen=True):
    rejections: list[Shown]


def function(services: Services) -> LogListing[Rejection]:
    return LogListing(services, PATH, logs.REJECTIONS, read_query=read_query, shown=shown)


def read_query(item: Any, now: Millis) -> logs.LogQuery:
    """Unknown members are ignored. `admin` changes nothing: an application has no mailbox and sees everything."""
    item = an_object(item)
    faults: list[Fault] = []
    truth(item.get("admin"), "admin", faults)
    order = word(item.get("sortOrder"), "sortOrder", ORDERS, "ascending,descending", faults) or Order.NEWEST
    since, until = period(item, faults, now, lambda end: end - end % DAY)
    field, needle = search(item.get("searchBy"), _FIELDS, "all,from,to,type,info,remoteIp", faults, named=True)
    kinds: list[str] = []
    for _, wanted in pairs(item.get("filterBy"), {"type": "type"}, "type", faults):
        kind = word(wanted, "filterBy.type", _KINDS, ",".join(KINDS), faults)
        kinds += [kind] if kind else []
    mailbox = text(item.get("mailbox"), "mailbox", faults)
    if faults:
        raise BadItem(tuple(faults))
    return logs.LogQuery(
        since=since,
        until=until,
        order=order,
        field=field or "all",
        text=needle,
        kinds=tuple(kinds),
        recipient=mailbox,
    )


def shown(lines: list[Rejection]) -> Listed:
    return Listed(
        [
            Shown(line.env_from, line.recipient, line.kind, line.reply, line.ip, line.helo, stamp(line.at), line.number)
            for line in lines
        ]
    )
