"""Proving a store: one file for each kind of truth."""

from postroom.store.verbs import writes
from postroom.store.verify.proof import KINDS, SHOWN, Progress, Report, Result, add_to_audit
from postroom.store.verify.proof import verify as run
from postroom.store.verify.rows import Finding

record = writes(add_to_audit)

__all__ = ["KINDS", "SHOWN", "Finding", "Progress", "Report", "Result", "record", "run"]
