"""Every permission, and which one an action takes. Named as the vendor does: "Menu | Item | Read" or "... | Edit".

Promises: what a call asks for and what a role may hold are both in this list; a test compares it with the calls. Fails: PeerError
for a permission that is not here, with the one that was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from postroom.errors import PeerError

ALL = "*"  # also those of later releases

PROCESSING_READ = "Monitoring | Processing | Read"
PROCESSING_EDIT = "Monitoring | Processing | Edit"
DASHBOARD_READ = "Account | Dashboard | Read"
HELD_SUMMARY_READ = "Account | Monitoring | Held Summary | Read"
HELD_EDIT = "Account | Monitoring | Held | Edit"
HELD_READ = "Monitoring | Held | Read"
REJECTIONS_READ = "Monitoring | Rejections | Read"
TRACKING_READ = "Gateway | Tracking | Read"
AUDIT_READ = "Account | Audit Log | Read"
API_LOGIN = "Services | API Login | Edit"

PERMISSIONS: dict[str, str] = {
    PROCESSING_READ: "Look at everything that is queued: list, search, count, explain.",
    PROCESSING_EDIT: "Act on what is queued, but for held messages: retry, hold, reject, plans.",
    DASHBOARD_READ: "See held messages, the course of the queues, the account.",
    HELD_SUMMARY_READ: "Count held messages by the policy that holds them.",
    HELD_READ: "See held messages in the console and in /v1, and who released or rejected them.",
    HELD_EDIT: "Act on held messages: release, reject, and whatever a plan does to them.",
    REJECTIONS_READ: "See what was refused when it arrived.",
    TRACKING_READ: "Track messages, also those that have left.",
    AUDIT_READ: "Read the audit log.",
    API_LOGIN: "Log in over the API with a password, for keys of one's own.",
}


def check(wanted: Iterable[str]) -> tuple[str, ...]:
    """Those wanted, each once, in the list's spelling. Blanks and case do not matter."""
    spelt = {_folded(known): known for known in (*PERMISSIONS, ALL)}
    found: dict[str, None] = {}
    for text in wanted:
        known = spelt.get(_folded(text))
        if known is None:
            near = difflib.get_close_matches(_folded(text), spelt, n=1, cutoff=0.5)
            meant = f'; did you mean "{spelt[near[0]]}"?' if near else ""
            raise PeerError(f'permission {text[:80]!r}: expected one of the list of permissions, or "*" for all{meant}')
        found[known] = None
    return tuple(found)


def _folded(text: str) -> str:
    return " | ".join(" ".join(part.split()) for part in text.casefold().split("|"))
