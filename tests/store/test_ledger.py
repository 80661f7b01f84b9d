"""The ledger of a store whose lines were written by hand: many lives, a correction, a difference."""

from __future__ import annotations

import asyncio
import io

from postroom.store import Store
from postroom.store.keep import ledger
from postroom.telemetry import Log
from tests.conformance.driven import a_message, accepted


def test_old_lives_are_added_up_and_only_the_newest_told_one_by_one(store: Store) -> None:
    store.write_now(
        lambda tx: tx.rows(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80) "
            "INSERT INTO ledger SELECT i, kind, 7 FROM n, (SELECT 'accepted' AS kind UNION SELECT 'delivered')"
        )
    )
    found = ledger.read(store.read_now())
    assert (len(found.lives), found.earlier) == (ledger.LIVES, 80 - ledger.LIVES)
    assert (found.created["accepted"], found.ended["delivered"], found.difference) == (560, 560, 0)


def test_an_account_that_only_a_repair_writes_is_shown(store: Store) -> None:
    accepted(store, a_message())
    store.write_now(lambda tx: tx.rows("INSERT INTO ledger VALUES (1, 'correction', -1)"))
    found = ledger.read(store.read_now())
    assert (found.created["correction"], found.difference) == (-1, -1)
    told = ledger.as_json(found)
    assert (told["difference"], told["created"]["correction"]) == (-1, -1)


def test_a_difference_is_an_error_in_the_log_once_until_it_changes(store: Store) -> None:
    out = io.StringIO()
    log = Log(out)

    def checked() -> int:
        return asyncio.run(ledger.check(store, log))

    def lines() -> list[str]:
        log.flush()
        found = [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]
        out.seek(0)
        out.truncate()
        return found

    accepted(store, a_message())
    assert (checked(), lines()) == (0, [])
    store.write_now(lambda tx: tx.rows("INSERT INTO ledger VALUES (1, 'accepted', 2)"))
    assert checked() == store.ledger_difference == 2
    (told,) = lines()
    assert told.startswith("error ledger_difference difference=2 created=3 ended=0 queued=1 remedy=")
    assert (checked(), lines()) == (2, [])
    store.write_now(lambda tx: tx.rows("DELETE FROM ledger WHERE connection = 1"))
    assert (checked(), lines()) == (0, ["warning ledger_agrees"])
