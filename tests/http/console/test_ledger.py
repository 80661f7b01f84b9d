"""The ledger page and the alarm on the queue pages."""

from __future__ import annotations

import asyncio
import re
from html import unescape

from postroom.http.console import wording
from postroom.model import Queue
from postroom.store.access import identity
from postroom.store.engine import Tx
from postroom.store.keep import ledger
from tests.http.console.conftest import Visitor
from tests.http.console.scene import PASSWORD, Console, Mailroom

ROW = re.compile(r'<th scope="row">([^<]+)</th><td class="num">([0-9,-]+)</td>')


def accounts(text: str) -> dict[str, str]:
    return {name: number for name, number in ROW.findall(text) if name != "Total"}


def forge(console: Console, number: int) -> None:
    """The ledger counts mail that was never there."""
    console.store.write_now(
        lambda tx: tx.rows("INSERT INTO ledger (connection, kind, number) VALUES (1, 'accepted', ?)", (number,))
    )


def test_the_ledger_shows_both_sides_and_that_nothing_is_missing(console: Console, visitor: Visitor) -> None:
    room = Mailroom(console.store, console.clock)
    for _ in range(3):
        room.take(recipients=2)
    room.take(into=Queue.BULK)
    visitor.log_in()
    text = unescape(visitor.page("/console/ledger").text)
    assert "<h1>Ledger</h1>" in text
    assert "Nothing is missing" in text
    assert "does not agree" not in text
    shown = accounts(text)
    assert shown["Accepted over SMTP"] == "7"
    assert (shown["Delivered"], shown["Processing"], shown["Bulk"]) == ("0", "6", "1")
    assert re.findall(r'<p class="term"><strong[^>]*>([0-9-]+)</strong>', text) == ["7", "0", "7", "0"]
    assert '<a href="/console/ledger" aria-current="page">Ledger</a>' in text
    assert text.count('aria-current="page"') == 1


def test_a_difference_is_an_alarm_on_every_queue_page_until_it_is_gone(console: Console, visitor: Visitor) -> None:
    Mailroom(console.store, console.clock).take()
    visitor.log_in()
    assert "does not agree" not in visitor.page("/console/").text
    forge(console, 2)
    assert asyncio.run(ledger.check(console.store, console.log)) == 2
    for path in ("/console/", "/console/ledger"):
        text = visitor.page(path).text
        assert "The ledger does not balance.</strong> 2 entries created, but neither ended nor queued." in text, path
        assert "postroom verify" in text
    assert "Unaccounted for" in visitor.page("/console/ledger").text
    forge_away = "DELETE FROM ledger WHERE connection = 1"
    console.store.write_now(lambda tx: tx.rows(forge_away))
    assert asyncio.run(ledger.check(console.store, console.log)) == 0
    assert "does not agree" not in visitor.page("/console/").text


def test_who_may_not_see_queues_may_not_see_the_ledger(console: Console, visitor: Visitor) -> None:
    assert visitor.get("/console/ledger").headers["location"] == "/console/login?next=%2Fconsole%2Fledger"
    hashed = identity.hash_password(PASSWORD)

    def tracker(tx: Tx) -> None:
        identity.create_role(tx, "tracker", ("Gateway | Tracking | Read",))
        identity.create_user(tx, email="t@corp.example", password_hash=hashed, role="tracker")

    console.store.write_now(tracker)
    visitor.log_in("t@corp.example")
    answer = visitor.get("/console/ledger")
    assert answer.status_code == 403
    assert "cannot see the ledger" in answer.text


def test_a_login_leads_back_to_the_ledger(console: Console, visitor: Visitor) -> None:
    answer = visitor.log_in(next="/console/ledger")
    assert answer.headers["location"] == "/console/ledger"


def test_a_difference_has_words() -> None:
    assert wording.unaccounted(0) == ""
    assert wording.unaccounted(1) == "1 entry created, but neither ended nor queued."
    assert wording.unaccounted(-2) == "2 entries ended or queued, but never created."
