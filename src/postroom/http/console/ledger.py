"""The ledger page: entries created, ended and queued, and the difference.

Promises: one consistent read for each request. Fails: 403 without the permission to see queues.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from postroom.http.console import answers, wording
from postroom.http.console.desk import Desk
from postroom.http.console.listing import PREFIX
from postroom.http.console.pages import to_login
from postroom.http.console.visits import Visit, frame, problem
from postroom.ids import public_id
from postroom.model import Outcome
from postroom.store import keep, permissions

SHOWN_LIVES = 20


class Side(msgspec.Struct, frozen=True):
    """One of the three columns."""

    title: str
    meaning: str
    total: int
    accounts: list[tuple[str, int]]


async def ledger_page(desk: Desk, request: Request, seen: Visit) -> Response:
    if seen.session is None:
        return to_login(request)
    if not seen.allows(permissions.PROCESSING_READ):
        needed = permissions.PROCESSING_READ
        text = f"The role {seen.session.role.name} cannot see the ledger: it needs the permission “{needed}”."
        return problem(seen, desk, 403, "Not allowed", text)
    found = await desk.read(keep.read_ledger())
    now = desk.services.clock.now()
    values = {
        **frame(seen, desk),
        "place": "ledger",
        "here": f"{PREFIX}/ledger",
        "difference": found.difference,
        "unaccounted": wording.unaccounted(found.difference),
        "at": wording.moment(now),
        "sides": _sides(found),
        "lives": [
            (
                public_id(life.id),
                wording.moment(life.began),
                wording.span_text(now - life.began),
                "Command" if life.beside else "Gateway",
                life.created,
                life.ended,
            )
            for life in found.lives[:SHOWN_LIVES]
        ],
        "earlier": len(found.lives[SHOWN_LIVES:]) + found.earlier,
    }
    return answers.page("ledger.html", values)


def _sides(found: keep.Ledger) -> list[Side]:
    created = [(wording.ORIGIN_NAMES.get(kind, kind), number) for kind, number in found.created.items()]
    ended = [(wording.OUTCOME_NAMES[Outcome(kind)], number) for kind, number in found.ended.items()]
    queued = [(wording.QUEUE_NAMES[queue], number) for queue, number in found.queued.items()]
    if found.leaving:
        queued.append(("Ending, can be undone", found.leaving))
    return [
        Side("Created", "all that ever came in, one entry for each recipient", _sum(created), created),
        Side("Ended", "by result", _sum(ended), ended),
        Side("Queued", "waiting now", _sum(queued), queued),
    ]


def _sum(accounts: list[tuple[str, int]]) -> int:
    return sum(number for _, number in accounts)
