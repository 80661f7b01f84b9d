"""What the conformance suite cannot see of the queue: the table of bodies, and schemas that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.clock import MINUTE, HandClock
from postroom.errors import StoreUnusable
from postroom.store import Store
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, delivered_at_once, hand


def test_the_body_of_a_message_goes_with_its_last_entry(store: Store, clock: HandClock) -> None:
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    assert store.write_now(lambda tx: tx.rows("SELECT count(*) FROM body")) == [(1,)]
    hand(store, delivered_at_once(got, clock))
    assert store.write_now(lambda tx: tx.rows("SELECT count(*) FROM body")) == [(0,)]


def test_a_call_that_fails_is_rolled_back(store: Store) -> None:
    def wrong(tx) -> None:
        tx.rows("INSERT INTO pause VALUES ('x', 1, 'y')")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write_now(wrong)
    assert store.write_now(lambda tx: tx.rows("SELECT count(*) FROM pause")) == [(0,)]


def test_a_store_of_a_newer_release_or_of_something_else_is_refused_with_the_remedy(opening: Opener) -> None:
    store = opening()
    store.write_now(lambda tx: tx.rows("PRAGMA user_version=999"))
    store.close()
    with pytest.raises(StoreUnusable, match="newer release"):
        opening()


def test_a_command_beside_never_changes_the_schema_or_makes_a_store(opening: Opener, tmp_path: Path) -> None:
    (tmp_path / "postroom.db").touch()
    with pytest.raises(StoreUnusable, match="schema 0"):
        opening(beside=True)
    assert not (tmp_path / "bodies").exists()
