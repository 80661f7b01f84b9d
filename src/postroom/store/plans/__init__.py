"""Plans: a frozen set of entries and one action, applied and undone as one.

`make`, `apply`, `undo` and `look_after` take many small steps, which `carry_out` runs. The other verbs are single reads
and writes.
"""

from postroom.store.plans import book
from postroom.store.plans.book import (
    STATES,
    UNDER_WAY,
    Damaged,
    NoSuchPlan,
    Plan,
    PlanDamaged,
    PlanEntry,
    Sample,
    Share,
    Summary,
    without_held,
)
from postroom.store.plans.commands import Wish, apply, look_after, make, undo
from postroom.store.plans.run import Verb
from postroom.store.plans.run import run as carry_out
from postroom.store.plans.run import run_now as carry_out_now
from postroom.store.plans.steps import PlanRefused
from postroom.store.verbs import reads, writes

read = reads(book.read)
look = reads(book.look)
latest = reads(book.latest)
entries = reads(book.entries)
reasons = reads(book.reasons)
limit_of = reads(book.limit_of)
discard = writes(book.discard)

__all__ = [
    "STATES",
    "UNDER_WAY",
    "Damaged",
    "NoSuchPlan",
    "Plan",
    "PlanDamaged",
    "PlanEntry",
    "PlanRefused",
    "Sample",
    "Share",
    "Summary",
    "Verb",
    "Wish",
    "apply",
    "carry_out",
    "carry_out_now",
    "discard",
    "entries",
    "latest",
    "limit_of",
    "look",
    "look_after",
    "make",
    "read",
    "reasons",
    "undo",
    "without_held",
]
