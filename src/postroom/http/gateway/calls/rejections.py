"""`POST /api/gateway/get-rejections`: what was refused at SMTP time. `paging/logs.py` reads the pages.

Promises: from the start of the day (UTC) unless asked otherwise. Temporary refusals are shown as well, marked by their
type. Fails: as `paging/logs.py` does.
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
from postroom.store import logs

PATH = "/api/gateway/get-rejections"

_FIELDS = {"all": "all", "from": "from", "to": "to", "type": "type", "info": "info", "remoteip": "remoteip"}
_KINDS = {kind: kind for kind in logs.REJECTION_KINDS}


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


def function(services: Services) -> LogListing[logs.Rejection]:
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
        kind = word(wanted, "filterBy.type", _KINDS, ",".join(logs.REJECTION_KINDS), faults)
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


def shown(lines: list[logs.Rejection]) -> Listed:
    return Listed(
        [
            Shown(line.env_from, line.recipient, line.kind, line.reply, line.ip, line.helo, stamp(line.at), line.number)
            for line in lines
        ]
    )
