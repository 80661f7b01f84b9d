"""What finding stands on is proved, too: a counter that is off, and an entry that the search index has lost."""

from __future__ import annotations

from postroom.clock import SystemClock
from postroom.store.find import counters
from postroom.store.sqlite.search_index import Filling
from postroom.store.store import Store
from postroom.store.verify.proof import verify
from tests.conformance.test_verify import a_mail, real
from tests.store.conftest import accepted


def filled(store: Store) -> Filling:
    for number in range(5):
        accepted(store, real(data=a_mail(f"number {number}")))
    store.write_now(lambda tx: tx.rows("UPDATE counted SET upto = (SELECT max(id) FROM entry)"))
    store.write_now(counters.recount)
    filling = Filling(store.index)
    while filling.fill(filling.newest()):
        pass
    return filling


def test_a_sound_store_with_its_index_has_no_findings(store: Store) -> None:
    filled(store).close()
    assert verify(store, clock=SystemClock()).counts == {}


def test_a_counter_that_is_off_is_found_and_counted_anew(store: Store) -> None:
    filled(store).close()
    store.write_now(lambda tx: tx.rows("UPDATE tally SET number = number + 2"))
    assert verify(store, clock=SystemClock()).counts == {"counters": {"found": 1}}
    assert verify(store, clock=SystemClock(), repair=True).counts == {"counters": {"repaired": 1}}
    assert verify(store, clock=SystemClock()).counts == {}


def test_what_was_about_to_end_when_it_was_counted_is_no_finding(store: Store) -> None:
    filled(store).close()
    move = "UPDATE entry SET queue = ? WHERE id = (SELECT max(id) FROM entry)"
    later = accepted(store, real(data=a_mail("later"))).entries[0]
    store.write_now(lambda tx: tx.rows(move, (5,)))
    assert store.write_now(lambda tx: counters.advance(tx, later)) == 1
    assert "counters" not in verify(store, clock=SystemClock()).counts
    store.write_now(lambda tx: tx.rows(move, (0,)))
    assert "counters" not in verify(store, clock=SystemClock()).counts


def test_an_entry_that_its_reason_does_not_lead_to_is_found_and_so_is_one_too_many(store: Store) -> None:
    filled(store).close()
    store.write_now(lambda tx: tx.rows("DELETE FROM reason WHERE id = (SELECT min(id) FROM reason)"))
    [result] = verify(store, clock=SystemClock()).results
    assert (result.finding.kind, result.finding.what) == ("reason-entry", "is not found by its reason")
    assert verify(store, clock=SystemClock(), repair=True).counts == {"reason-entry": {"repaired": 1}}
    assert verify(store, clock=SystemClock()).counts == {}
    store.write_now(lambda tx: tx.rows("INSERT INTO reason VALUES (1, 0, 77, 0, 0)"))
    [result] = verify(store, clock=SystemClock()).results
    assert (result.finding.kind, result.finding.what) == ("counters", "1 reasons of entries that are not there")
    assert verify(store, clock=SystemClock(), repair=True).counts == {"counters": {"repaired": 1}}
    assert verify(store, clock=SystemClock()).counts == {}


def test_an_entry_that_the_search_index_has_lost_is_found_and_the_index_disowned(store: Store) -> None:
    filling = filled(store)
    [(lost,)] = filling.tx.rows("SELECT min(id) FROM ix_docsize")
    with filling.tx.snapshot():
        filling.tx.rows("DELETE FROM ix WHERE rowid = ?", (lost,))
    filling.close()
    report = verify(store, clock=SystemClock())
    assert [(result.finding.kind, result.finding.id) for result in report.results] == [("index-entry", lost)]
    assert verify(store, clock=SystemClock(), repair=True).counts == {"index-entry": {"repaired": 1}}
    assert verify(store, clock=SystemClock()).counts == {}
    again = Filling(store.index)  # of another store now: made anew
    assert again.watermark == 0
    again.close()
