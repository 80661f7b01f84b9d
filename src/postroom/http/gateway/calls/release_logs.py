"""`POST /api/gateway/get-held-release-logs`: who released or rejected held mail. `paging.logs` makes the pages.

Promises: the last month by default; only decisions of people, not of checks. Fails: as `paging.logs` does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import DAY, Millis
from postroom.http.gateway.paging.logs import LogListing
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.entries import ORDERS, Mailbox, mailbox
from postroom.http.gateway.wire.envelope import Fault
from postroom.http.gateway.wire.held import policy_of
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.gateway.wire.members import BadItem, an_object, filters, period, search, truth, word
from postroom.http.services import Services
from postroom.model import Action, Order, Route
from postroom.store.logs import lines as logs
from postroom.store.logs.released import FIELDS, Released

PATH = "/api/gateway/get-held-release-logs"
WINDOW = 30 * DAY  # from start, when it is not given

_FIELDS = {field: field for field in FIELDS}
_STATUSES = {"released": Action.RELEASE, "rejected": Action.REJECT}


class Shown(msgspec.Struct, frozen=True, gc=False):
    """One line, members named as recorded ones are."""

    id: str
    status: str
    released: str  # when, of rejections, too
    operator: Mailbox
    fromEnv: Mailbox  # noqa: N815 - the wire's name, as below
    fromHdr: Mailbox  # noqa: N815
    to: list[Mailbox]
    subject: str
    route: Route
    size: int
    attachments: bool
    heldReason: str  # noqa: N815
    policy: str
    messageInfo: str | msgspec.UnsetType  # noqa: N815 - of releases: what the person said
    rejectReason: str | msgspec.UnsetType  # noqa: N815 - of rejections


class Listed(msgspec.Struct, frozen=True):
    heldReleaseLogs: list[Shown]  # noqa: N815


def function(services: Services) -> LogListing[Released]:
    idents = EntryIds(services.sealer)
    return LogListing(services, PATH, logs.RELEASES, read_query=read_query, shown=lambda lines: shown(lines, idents))


def read_query(item: Any, now: Millis) -> logs.LogQuery:
    """Unknown members are ignored. `searchBy` as an object of one member, `{operator: text}`, is read as well."""
    item = an_object(item)
    faults: list[Fault] = []
    truth(item.get("admin"), "admin", faults)
    order = word(item.get("sortOrder"), "sortOrder", ORDERS, "ascending,descending", faults) or Order.NEWEST
    since, until = period(item, faults, now, lambda end: end - WINDOW)
    field, needle = search(
        item.get("searchBy"), _FIELDS, "all,operator,from,to,subject,info,heldReason", faults, named=True
    )
    wanted = filters(item.get("filterBy"), faults, {"status": "status"}, "route,attachments,status")
    actions = [word(value, "filterBy.status", _STATUSES, "released,rejected", faults) for _, value in wanted.others]
    if faults:
        raise BadItem(tuple(faults))
    return logs.LogQuery(
        since=since,
        until=until,
        order=order,
        field=field or "all",
        text=needle,
        actions=tuple([action for action in actions if action is not None]),
        routes=wanted.routes,
        attachment=wanted.attachment,
    )


def shown(lines: list[Released], idents: EntryIds) -> Listed:
    unset = msgspec.UNSET
    return Listed(
        [
            Shown(
                ident,
                "released" if line.action is Action.RELEASE else "rejected",
                stamp(line.at),
                mailbox(line.actor.partition(":")[2] or line.actor),
                mailbox(line.env_from),
                mailbox(line.from_address, line.from_name),
                [mailbox(line.recipient, line.recipient_name)],
                line.subject,
                line.route,
                line.size,
                line.attachment,
                line.held_for,
                policy_of(line.held_for),
                (line.reason or unset) if line.action is Action.RELEASE else unset,
                (line.reason or unset) if line.action is Action.REJECT else unset,
            )
            for line, ident in zip(lines, idents.texts([line.entry for line in lines]), strict=True)
        ]
    )
