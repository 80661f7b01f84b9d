"""`GET /v1/ledger`: created by origin, ended by outcome, queued by queue, the difference, and the counts per process.

Promises: one snapshot, read in a reader thread. Fails: StoreUnavailable when the store cannot be read.
"""

from __future__ import annotations

from postroom.http.services import Services
from postroom.store import keep


async def ledger(services: Services) -> dict[str, object]:
    """The answer's JSON; numbers are entries, not messages."""
    return keep.ledger_as_json(await services.store.read(keep.read_ledger()))
