"""Upkeep: what is forgotten, swept, counted and reaped."""

from postroom.store.keep import expiry, ledger, samples, upkeep
from postroom.store.keep.expiry import look_after as look_after_logs
from postroom.store.keep.ledger import REMEDY, Ledger
from postroom.store.keep.ledger import as_json as ledger_as_json
from postroom.store.keep.ledger import check as check_ledger
from postroom.store.keep.samples import Sample
from postroom.store.keep.upkeep import (
    Forgetting,
    collect_orphans,
    give_back,
    settle_doubtful,
    sweep_infos,
)
from postroom.store.verbs import looks, writes

read_ledger = looks(ledger.read)
read_samples = looks(samples.read)
sweep_due = looks(upkeep.sweep_due)
expire_access = writes(expiry.reap)

__all__ = [
    "REMEDY",
    "Forgetting",
    "Ledger",
    "Sample",
    "check_ledger",
    "collect_orphans",
    "expire_access",
    "give_back",
    "ledger_as_json",
    "look_after_logs",
    "read_ledger",
    "read_samples",
    "settle_doubtful",
    "sweep_due",
    "sweep_infos",
]
