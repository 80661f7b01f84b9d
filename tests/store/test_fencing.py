"""A write under a lost lease changes nothing in the rows: neither what the store shows nor what it keeps to itself."""

from __future__ import annotations

import pytest

from postroom.clock import HandClock
from postroom.store import Store
from tests.conformance.test_fencing import WRITES, Write, write_late


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("now_leased", [True, False], ids=["another holder", "no holder"])
def test_a_write_with_a_lost_lease_changes_no_row(
    store: Store, clock: HandClock, write: Write, now_leased: bool
) -> None:
    def rows(entry: int) -> object:
        tx = store.read_now().tx
        return (
            tx.rows("SELECT * FROM entry WHERE id = ?", (entry,)),
            tx.rows("SELECT * FROM event WHERE entry_id = ?", (entry,)),
            tx.rows("SELECT * FROM ledger"),
        )

    before, after = write_late(store, clock, write, rows, now_leased=now_leased)
    assert after == before
