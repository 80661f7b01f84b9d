"""The closed lists of the search language: its fields, its states and labels, its limits."""

from __future__ import annotations

from postroom.model import Aspect

MAX_QUERY = 4096  # characters
MAX_TEXT = 256  # characters of one search text
MAX_TERMS = 32

STATES = {
    "locked": "is being worked on now",
    "waiting": "is not being worked on",
    "due": "would be tried now, were there room for it",
    "tried": "has been tried at least once",
}
LABELS = {"maybe-delivered": 1, "suspect": 2}
TEXTS = {
    Aspect.FROM, Aspect.TO, Aspect.SUBJECT, Aspect.INFO, Aspect.IP, Aspect.ERROR, Aspect.DESTINATION, Aspect.VERDICT,
}  # fmt: skip
NUMBERS = {Aspect.ATTEMPTS, Aspect.SIZE, Aspect.NEXT}
KEYS = (
    *sorted(TEXTS),
    "route", "queue", "has", "age", "since", "until", "attempts", "size", "next", "is", "priority", "label", "id",
)  # fmt: skip
