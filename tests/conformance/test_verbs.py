"""Verbs: what is asked of the store without seeing its transactions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.errors import PeerError
from postroom.sealing import Sealer
from postroom.settings import Settings
from postroom.store import Store, Write, access, logs, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(Settings(data=str(tmp_path)))
    yield opened
    opened.close()


def a_line(what: str) -> Write[int]:
    return logs.add_audit_line(at=1, actor="cli:root", kind="app.create", what=what)


def lines(store: Store) -> list[str]:
    return [line.what for line in store.read_now().ask(logs.list_audit())]


def test_a_write_and_what_follows_it_are_one_transaction(store: Store, tmp_path: Path) -> None:
    create = access.create_app(Sealer.at(tmp_path), name="soar", role=access.MONITOR)
    made = store.write_now(create.then(lambda made: a_line(made.app_id)))
    assert [app.app_id for app in store.read_now().ask(access.list_apps())] == [made.app_id]
    assert lines(store) == [made.app_id]


def test_when_what_follows_fails_nothing_is_kept(store: Store) -> None:
    create = access.create_role("reader", ["*"])
    with pytest.raises(PeerError, match="no role 'writer'"):
        store.write_now(create.then(lambda made: access.limit_plans("writer", 1)))
    assert "reader" not in [role.name for role in store.read_now().ask(access.list_roles())]


def test_nothing_need_follow_and_what_follows_sees_the_result(store: Store) -> None:
    revoke = access.revoke_app("nobody's")
    assert store.write_now(revoke.then(lambda done: a_line("revoked") if done else None)) is False
    assert lines(store) == []


def test_a_verb_has_the_words_of_what_it_does() -> None:
    assert access.find_user.__doc__ == "The person with this address. None: unknown, or may not log in."


def test_notes_join_their_lines_while_those_are_there(store: Store) -> None:
    first = logs.AuditNote(None, 10, 20, 2, "", "login", "console", "192.0.2.1", logs.REFUSED, "wrong password")
    (row,) = store.write_now(logs.add_audit_notes([first]))
    again = logs.AuditNote(row, 10, 40, 3, *(first.actor, first.kind, first.what, first.address, first.outcome), "")
    gone = logs.AuditNote(row + 100, 50, 60, 1, "", "login", "console", "192.0.2.1", logs.REFUSED, "")
    assert store.write_now(logs.add_audit_notes([again, gone])) == [row, row + 1]
    newest, oldest = store.read_now().ask(logs.list_audit())
    assert (oldest.at, oldest.last, oldest.times, oldest.detail) == (10, 40, 5, "wrong password")
    assert (newest.at, newest.last, newest.times) == (50, 60, 1)
