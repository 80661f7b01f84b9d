"""Names, numbers and times as the console shows them. Pure.

Promises: `visible` leaves no character that could end a line, or reorder or hide the text around it, so that text from
a message cannot disguise the page. Returns text for every input; never fails.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from postroom.clock import DAY, HOUR, MINUTE, SECOND, Millis
from postroom.model import Outcome, Queue, Route, Scope

_KIB = 1024
_MIB = 1024 * _KIB

QUEUE_NAMES = {
    Queue.PROCESSING: "Processing",
    Queue.BULK: "Bulk",
    Queue.DELIVERY: "Delivery",
    Queue.HELD: "Held",
    Queue.SYSTEM: "System",
}
QUEUE_TITLES = {
    Queue.PROCESSING: "Processing Queue",
    Queue.BULK: "Bulk Processing Queue",
    Queue.DELIVERY: "Delivery Queue",
    Queue.HELD: "Held Queue",
    Queue.SYSTEM: "System Queue",
}
QUEUE_PURPOSES = {
    Queue.PROCESSING: "Mail waits here while checks and policies run, then moves to Delivery.",
    Queue.BULK: "Mailshots: the same mail to many, processed with lower priority.",
    Queue.DELIVERY: "Checked mail that waits to be sent to the next server.",
    Queue.HELD: "Mail that waits for a person to decide.",
    Queue.SYSTEM: "Notices that the gateway itself sends, such as bounces.",
}
QUEUE_EMPTY = {
    Queue.PROCESSING: "Nothing is waiting. Mail normally stays here for seconds.",
    Queue.BULK: "No mailshot is waiting. Mail comes here when one sender sends the same body many times.",
    Queue.DELIVERY: "Nothing is waiting. Mail stays here only while its destination cannot take it.",
    Queue.HELD: "Nothing is held. Mail comes here when a check or a person holds it.",
    Queue.SYSTEM: "No notice is waiting. Bounces pass through here on their way to the sender.",
}
ROUTE_NAMES = {
    Route.INBOUND: "Inbound",
    Route.OUTBOUND: "Outbound",
    Route.INTERNAL: "Internal",
    Route.EXTERNAL: "External",
}
ROUTE_MEANINGS = {
    Route.INBOUND: "from outside to an internal domain",
    Route.OUTBOUND: "from an internal domain to outside",
    Route.INTERNAL: "between internal domains",
    Route.EXTERNAL: "neither side is internal",
}
OUTCOME_NAMES = {
    Outcome.DELIVERED: "Delivered",
    Outcome.BOUNCED: "Bounced",
    Outcome.REJECTED: "Rejected",
    Outcome.DROPPED: "Dropped",
    Outcome.DELETED: "Deleted",
    Outcome.EXPIRED: "Expired",
    Outcome.EXPORTED: "Exported",
}
EVENT_NAMES = {
    "accepted": "Accepted",
    "claimed": "Claimed by a worker",
    "checked": "Checked",
    "bulked": "Moved to Bulk as part of a mailshot",
    "unbulked": "Moved back from Bulk",
    "moved": "Moved",
    "deferred": "Deferred",
    "held": "Held",
    "released": "Released",
    "retried": "Retry requested",
    "taken_over": "Taken over: the previous worker was lost",
    "requested": "Action requested while a worker had it",
    "restored": "Restored from a backup",
    "repaired": "Repaired by verify",
    "leaving": "Ends when the undo time is over",
    "undone": "Undone",
    "delivered": "Delivered",
    "bounced": "Bounced",
    "rejected": "Rejected",
    "dropped": "Dropped",
    "deleted": "Deleted",
    "expired": "Expired",
    "exported": "Exported",
    "notice": "Notice sent to the sender",
}
ORIGIN_NAMES = {
    "accepted": "Accepted over SMTP",
    "notice": "Notices from this gateway",
    "copy": "Copies",
    "redirect": "Redirects",
    "import": "Imported",
    "correction": "Corrections by postroom verify",
}
PAUSE_MEANINGS = {
    Scope.PROCESSING: "Mail is accepted; nothing is checked until processing is resumed.",
    Scope.DELIVERY: "Mail is accepted and checked; nothing is sent until delivery is resumed.",
}
EMPTY_SENDER = "<>"  # RFC 5321 4.5.5: the null reverse-path of notices

_HIDING = (
    *range(0x80, 0xA0),  # C1 controls
    0x00AD, 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x3164, 0xFFA0,  # drawn as nothing
    0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # direction (UAX 9)
    0x200B, *range(0x2060, 0x2066), *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC),
    0x2028, 0x2029,  # line and paragraph separator
    *range(0xE0000, 0xE0080),  # tags
)  # fmt: skip
_VISIBLE: dict[int, str | int] = {code: 0x2400 + code for code in range(32)}  # control pictures: U+0009 -> U+2409
_VISIBLE |= {0x7F: 0x2421}
_VISIBLE |= {code: f"‹U+{code:04X}›" for code in _HIDING}
_VISIBLE |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # lone surrogates cannot be encoded

_MARKS_IN_A_ROW = 4  # more combining marks on one letter draw over the neighbouring lines


def visible(text: str) -> str:
    """The text with every control, direction and invisible character shown as a mark."""
    if text.isascii() and text.isprintable():
        return text
    return _few_marks(text.translate(_VISIBLE))


def _few_marks(text: str) -> str:
    if text.isascii() or not any(unicodedata.combining(char) for char in text):
        return text
    kept: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= _MARKS_IN_A_ROW:
            kept.append(char)
    return "".join(kept)


def size_text(size: int) -> str:
    """`0.4 KB`, `12 KB`, `3.1 MB`: the vendor's unit (1024 bytes), one digit where it says something."""
    if size < _MIB - _KIB // 2:
        return f"{size / _KIB:.1f} KB" if size < 10 * _KIB else f"{size / _KIB:.0f} KB"
    return f"{size / _MIB:.1f} MB" if size < 10 * _MIB else f"{size / _MIB:.0f} MB"


def span_text(span: Millis) -> str:
    """A length of time in its largest one or two units: `8 s`, `4 min`, `2 h 5 min`, `3 d 4 h`."""
    span = max(span, 0)
    if span < MINUTE:
        return f"{span // SECOND} s"
    if span < HOUR:
        return f"{span // MINUTE} min"
    if span < DAY:
        return _two(span // HOUR, "h", span % HOUR // MINUTE, "min")
    return _two(span // DAY, "d", span % DAY // HOUR, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"


def moment(at: Millis) -> str:
    """`2026-11-22 10:04:31 UTC`."""
    return _utc(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def until_text(at: Millis, now: Millis) -> str:
    """When something ends: `14:20 UTC`, with the date unless it is today. Rounded down, so that nobody is late."""
    text = moment(at)[:16]
    return f"{text.removeprefix(moment(now)[:11])} UTC"


def unaccounted(difference: int) -> str:
    """The meaning of a difference of the ledger; empty without one."""
    entries = f"{abs(difference):,} {'entry' if abs(difference) == 1 else 'entries'}"
    if difference > 0:
        return f"{entries} created, but neither ended nor queued."
    return f"{entries} ended or queued, but never created." if difference else ""


def machine_moment(at: Millis) -> str:
    """For `<time datetime>`."""
    return _utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def number_text(number: int) -> str:
    return f"{number:,}"


def _utc(at: Millis) -> datetime:
    return datetime.fromtimestamp(
        min(max(at, 0), 253_402_300_799_000) // SECOND, UTC
    )  # the calendar ends with year 9999
