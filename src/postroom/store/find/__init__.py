"""Finding entries: the reader, searches, counters, tracking."""

from postroom.store.find import tracking
from postroom.store.find.counters import is_plain
from postroom.store.find.tracking import (
    BUDGET,
    REFUSED,
    STATUSES,
    Found,
    Known,
    Tracked,
    Wanted,
    ended_status,
    entry_status,
)
from postroom.store.logs.rejections import Rejection
from postroom.store.verbs import looks

track = looks(tracking.search)
look_up = looks(tracking.look_up)

__all__ = [
    "BUDGET",
    "REFUSED",
    "STATUSES",
    "Found",
    "Known",
    "Rejection",
    "Tracked",
    "Wanted",
    "ended_status",
    "entry_status",
    "is_plain",
    "look_up",
    "track",
]
