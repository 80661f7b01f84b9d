"""`GET /v1/audit`: logins, refusals, changes; the same lines and keys as `postroom audit list --json`.

Promises: read in a reader thread, in a bounded time, one such read at a time; the audit log holds no secrets. Fails:
StoreUnavailable when the store cannot be read.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from postroom.clock import Millis
from postroom.http.admin.shapes import Time
from postroom.http.services import Services
from postroom.store import logs
from postroom.telemetry import stamp

OUTCOMES = (logs.DONE, logs.REFUSED, logs.FAILED)
GROUPS = tuple(sorted({kind.partition(".")[0] for kind in logs.AUDIT_KINDS if "." in kind}))
WORDS = (*GROUPS, *logs.AUDIT_KINDS)

AuditOutcome = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(OUTCOMES)})]
Kind = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(logs.AUDIT_KINDS)})]


class AuditLine(msgspec.Struct, frozen=True):
    """`times`: how often the same event happened between `at` and `last`; `actor` is empty without authentication."""

    id: int
    at: Time
    last: Time
    times: int
    actor: str
    kind: Kind
    what: str
    address: str
    outcome: AuditOutcome
    detail: str


class AuditLines(msgspec.Struct, frozen=True):
    """Newest first. `next`: pass it as `before` for more lines; it may be there although the page is not full."""

    lines: list[AuditLine]
    next: int | None


async def audit_lines(
    services: Services, *, since: Millis | None, until: Millis | None, actor: str, kind: str, outcome: str,
    before: int | None, limit: int,
) -> AuditLines:  # fmt: skip
    async with services.scans.turn():
        found = await services.store.read(
            logs.read_audit_page(
                since=since, until=until, actor=actor, kind=kind, outcome=outcome, before=before, limit=limit
            )
        )  # fmt: skip
    shown = [
        AuditLine(
            line.id, stamp(line.at), stamp(line.last), line.times, line.actor, line.kind, line.what, line.address,
            line.outcome, line.detail,
        )
        for line in found.lines
    ]  # fmt: skip
    return AuditLines(shown, found.next)
