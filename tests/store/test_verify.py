"""Planted damage of every kind is found, repaired or held for a person, and gone from the next report."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.clock import HOUR, MINUTE, HandClock
from postroom.model import Action, Label, Outcome, Queue
from postroom.query import parse
from postroom.settings import Plans
from postroom.store import codes, damage
from postroom.store.engine import Tx
from postroom.store.plans import commands as plans
from postroom.store.plans.commands import Wish
from postroom.store.plans.run import run_now
from postroom.store.queue import unread
from postroom.store.records import EndedEntry, Waited
from postroom.store.store import Store
from postroom.store.verify.proof import KINDS, Report, verify
from postroom.store.verify.rows import ledger_difference
from tests.conformance.conftest import Opener
from tests.conformance.driven import START, accepted, claimed, hand
from tests.conformance.test_verify import Mail, a_mail, kinds, real, told, wrong


class Scene(Mail):
    """One entry in each state that an entry can have, closed, so that damage can be planted in it."""

    def __init__(self, opening: Opener, clock: HandClock) -> None:
        self._opening = opening
        self.clock = clock
        store = opening()
        self.path = store.path
        self.root = store.bodies.root
        super().__init__(store, clock)
        store.close()

    def plant(self, *statements: str, **values: object) -> None:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            database.execute("PRAGMA ignore_check_constraints=1")
            for statement in statements:
                used = {name: value for name, value in values.items() if f":{name}" in statement}
                changed = database.execute(statement, used)
                assert changed.rowcount != 0, f"nothing was damaged by {statement}"

    def rows(self, statement: str, *values: object) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            database.text_factory = lambda data: data.decode(errors="replace")
            return database.execute(statement, values).fetchall()

    def verify(self, *, repair: bool = False, deep: bool = False) -> Report:
        store = self._opening(beside=True)
        try:
            return verify(store, clock=self.clock, repair=repair, deep=deep)
        finally:
            store.close()

    def open(self) -> Store:
        return self._opening()

    def entry(self, ident: int) -> tuple[Queue, str, int]:
        """(queue, info, label)."""
        (row,) = self.rows(
            "SELECT e.queue, i.text, e.label FROM entry AS e LEFT JOIN info AS i ON i.id = e.info_id WHERE e.id = ?",
            ident,
        )
        return codes.QUEUES[row[0]], row[1], row[2]


@pytest.fixture
def scene(opening: Opener, clock: HandClock) -> Scene:
    return Scene(opening, clock)


def found_and_repaired(scene: Scene, *expected: str, deep: bool = False) -> Report:
    """Found, not touched without --repair, repaired, and not found again; the repair's report."""
    first = scene.verify(deep=deep)
    assert wrong(first) == set(expected), told(first)
    assert wrong(scene.verify(deep=deep)) == set(expected), "looking changed something"
    repair = scene.verify(repair=True, deep=deep)
    assert set(expected) <= kinds(repair, "repaired"), told(repair)
    assert repair.wrong == 0, told(repair)
    again = scene.verify(deep=deep)
    assert again.wrong == 0, told(again)
    assert not kinds(scene.verify(repair=True, deep=deep), "repaired"), "a repair repairs the same thing for ever"
    with contextlib.closing(sqlite3.connect(scene.path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return repair


@pytest.mark.parametrize(
    ("columns", "value"),
    [
        ("subject", "Quarterly deport"),
        ("env_from", "mallory@corp.example"),
        ("from_address", "x@y"),
        ("from_name", ""),
        ("to_header", "Nobody"),
        ("remote_ip", "198.51.100.1"),
        ("size", 1),
        ("attachment", 1),
        ("subject", 7),
    ],
)
def test_copies_follow_the_message(scene: Scene, columns: str, value: object) -> None:
    before = scene.rows("SELECT * FROM entry ORDER BY id")
    scene.plant(f"UPDATE entry SET {columns} = :value WHERE id = :entry", value=value, entry=scene.second)
    found_and_repaired(scene, "entry-copies")
    assert scene.rows("SELECT * FROM entry ORDER BY id") == before


def test_the_search_text_follows_the_fields(scene: Scene) -> None:
    before = scene.rows("SELECT search FROM entry ORDER BY id")
    scene.plant("UPDATE entry SET search = 'nothing' WHERE id = :entry", entry=scene.waiting)
    scene.plant("UPDATE entry SET search = CAST(x'ff' AS TEXT) WHERE id = :entry", entry=scene.held)
    found_and_repaired(scene, "entry-search")
    assert scene.rows("SELECT search FROM entry ORDER BY id") == before


def test_copies_and_search_text_that_are_wrong_together_are_put_right_together(scene: Scene) -> None:
    before = scene.rows("SELECT * FROM entry ORDER BY id")
    scene.plant("UPDATE entry SET subject = CAST(x'41ff' AS TEXT), search = '' WHERE id = :entry", entry=scene.waiting)
    found_and_repaired(scene, "entry-copies", "entry-search")
    assert scene.rows("SELECT * FROM entry ORDER BY id") == before


@pytest.mark.parametrize(
    "damage_done",
    [
        "route = 9", "route = 'x'", "queue = 17, from_queue = NULL", "queue = -1, from_queue = 0",
        "queue = 3, from_queue = NULL", "queue = 3, from_queue = 3", "queue = 3, from_queue = 1.5",
        "queue = 3, from_queue = 'x'",
    ],
)  # fmt: skip
def test_an_entry_of_which_nobody_knows_where_it_stood_is_held(scene: Scene, damage_done: str) -> None:
    scene.plant(f"UPDATE entry SET {damage_done} WHERE id = :entry", entry=scene.waiting)
    found_and_repaired(scene, "entry-state")
    queue, info, _ = scene.entry(scene.waiting)
    assert (queue, info) == (Queue.HELD, damage.RESTORED_STATE)
    store = scene.open()
    assert store.act_now(Action.RELEASE, [scene.waiting], actor="ops").done == (scene.waiting,)
    assert scene.waiting in {lease.entry for lease in claimed(store)}


@pytest.mark.parametrize(
    "damage_done",
    [
        "from_queue = 1", "priority = 5", "attempts = -1", "strikes = -3", "label = 64", "label = -1", "request = 77",
        "since = 0", "next_attempt = 9000000000000000", "next_attempt = 'soon'", "locked_until = 5", "lease = 5",
        "lease = 5, locked_until = 9000000000000000", "attempts = 1.5",
    ],
)  # fmt: skip
def test_a_state_that_is_not_possible_is_put_right_and_the_mail_goes_on(scene: Scene, damage_done: str) -> None:
    scene.plant(f"UPDATE entry SET {damage_done} WHERE id = :entry", entry=scene.waiting)
    found_and_repaired(scene, "entry-state")
    assert scene.entry(scene.waiting)[0] is Queue.PROCESSING
    store = scene.open()
    assert scene.waiting in {lease.entry for lease in claimed(store)}
    assert "repaired" in {event.kind for event in store.read_now().events(scene.waiting)}


def test_a_recipient_that_cannot_be_read_is_held(scene: Scene) -> None:
    scene.plant(
        "UPDATE entry SET recipient = CAST(x'626f62ff40636f72702e6578616d706c65' AS TEXT) WHERE id = :entry",
        entry=scene.waiting,
    )
    found_and_repaired(scene, "entry-search", "entry-text")
    assert scene.entry(scene.waiting)[:2] == (Queue.HELD, damage.RESTORED_STATE)
    assert scene.rows("SELECT recipient FROM entry WHERE id = ?", scene.waiting) == [("bob\ufffd@corp.example",)]


@pytest.mark.parametrize("held_before", [False, True], ids=["it waited there", "it was held"])
def test_an_entry_that_was_about_to_end_by_a_plan_is_held_as_one_that_goes_back_to_where_it_stood(
    opening: Opener, clock: HandClock, held_before: bool
) -> None:
    store = opening()
    (entry,) = accepted(store, real(queue=Queue.SYSTEM)).entries
    if held_before:
        store.act_now(Action.HOLD, [entry], actor="ops")
    wish = Wish(Action.DELETE, parse("", clock.now()), "", "cli:ann")
    plan = run_now(store, plans.make(store, wish, Plans(), clock))
    run_now(store, plans.apply(store, plan.id, Plans(), clock, actor="cli:ann", reason="a test"))
    spoil = "UPDATE entry SET recipient = CAST(x'626fff' AS TEXT) WHERE queue = ?"
    store.write_now(lambda tx: tx.rows(spoil, (codes.LEAVING,)))
    assert verify(store, clock=clock, repair=True).wrong == 0
    held = store.read_now().entry(entry)
    assert held is not None
    assert (held.queue, held.from_queue, held.info) == (Queue.HELD, Queue.SYSTEM, damage.RESTORED_STATE)


def test_a_reason_that_is_not_there_is_replaced_by_words_that_say_so(scene: Scene) -> None:
    scene.plant("UPDATE entry SET info_id = 999 WHERE id = :entry", entry=scene.waiting)
    scene.plant("UPDATE event SET info_id = 998 WHERE entry_id = :entry", entry=scene.held)
    found_and_repaired(scene, "entry-info", "event-info")
    assert scene.entry(scene.waiting) == (Queue.PROCESSING, damage.INFO_LOST, 0)
    assert scene.open().read_now().entry(scene.waiting) is not None


def test_a_reason_that_cannot_be_read_or_found_is_written_again(scene: Scene) -> None:
    scene.plant("UPDATE info SET folded = 'x' WHERE text LIKE 'Queued%'")
    scene.plant("UPDATE info SET text = CAST(x'ff' AS TEXT) WHERE text LIKE 'Held by a person: %'")
    found_and_repaired(scene, "reason")
    assert scene.rows("SELECT folded FROM info WHERE text LIKE 'Queued%'") == [("queued for processing",)]


def test_an_entry_that_stands_in_the_history_too_is_kept_held_and_labelled(scene: Scene) -> None:
    scene.plant("UPDATE history SET id = :entry WHERE id = :ended", entry=scene.waiting, ended=scene.ended)
    found_and_repaired(scene, "entry-ended")
    queue, info, label = scene.entry(scene.waiting)
    assert (queue, info) == (Queue.HELD, damage.ENDED_BEFORE)
    assert label & Label.MAYBE_DELIVERED
    events = scene.open().read_now().events(scene.waiting)
    assert "The history had it as delivered: 250 2.0.0 kept" in {event.info for event in events}


def test_an_entry_that_stands_in_the_history_too_ends_when_it_is_delivered(scene: Scene) -> None:
    """Or else its end could never be written, and it would be delivered again and again."""
    scene.plant("UPDATE history SET id = :entry WHERE id = :ended", entry=scene.waiting, ended=scene.ended)
    store = scene.open()
    taken = store.write_now(lambda tx: store._claim(tx, [(Queue.PROCESSING, 9)], 9, frozenset()))
    (lease,) = [one for part in taken for one in part.leases if one.entry == scene.waiting]
    now = scene.clock.now()
    end = EndedEntry(
        lease.entry, lease.lease, lease.message_id, Queue.DELIVERY, Outcome.DELIVERED, "250 now", 1, 0, now
    )
    hand(store, end)
    assert store.read_now().entry(scene.waiting) is None
    ended = store.read_now().ended(scene.waiting)
    assert ended is not None
    assert (ended.reply, ended.outcome) == ("250 now", Outcome.DELIVERED)
    assert ended.label & Label.MAYBE_DELIVERED


def test_an_entry_without_its_message_is_held_and_shown(scene: Scene) -> None:
    scene.plant(
        "DELETE FROM message WHERE id = :entry", "DELETE FROM body WHERE message_id = :entry", entry=scene.waiting
    )
    repair = found_and_repaired(scene, "entry-message")
    assert scene.entry(scene.waiting)[:2] == (Queue.HELD, damage.UNREADABLE)
    assert "entry-message" in kinds(scene.verify(), "noted"), "it is known, not forgotten"
    assert repair.repaired == 1
    shown = scene.open().read_now().entry(scene.waiting)
    assert shown is not None
    assert shown.subject == "Quarterly report"


def test_an_entry_that_has_its_bytes_but_no_message_gets_one_made_of_them(scene: Scene) -> None:
    scene.plant("DELETE FROM message WHERE id = :entry", entry=scene.waiting)
    assert wrong(scene.verify()) == {"body-alone", "entry-message"}
    assert scene.verify(repair=True).wrong == 0
    assert scene.verify().counts == {}
    assert scene.entry(scene.waiting)[:2] == (Queue.HELD, damage.RESTORED_STATE)
    message = scene.open().read_now().message(scene.waiting)
    assert message is not None
    assert message.body == a_mail()
    assert (message.env_from, message.client.ip, message.facts.subject) == (
        "alice@corp.example", "192.0.2.7", "Quarterly report",
    )  # fmt: skip


def test_an_entry_that_names_the_wrong_message_gets_its_own_again(scene: Scene) -> None:
    scene.plant("UPDATE entry SET message_id = :other WHERE id = :entry", entry=scene.second, other=scene.waiting)
    found_and_repaired(scene, "entry-foreign")
    assert scene.rows("SELECT message_id FROM entry WHERE id = ?", scene.second) == [(scene.first,)]


def test_an_entry_is_held_when_it_cannot_be_told_which_message_is_its_own(scene: Scene) -> None:
    scene.plant(
        "UPDATE entry SET message_id = :other, subject = 'Another' WHERE id = :entry",
        entry=scene.second, other=scene.waiting,
    )  # fmt: skip
    report = scene.verify(repair=True)
    assert {"entry-foreign", "entry-search"} <= kinds(report, "repaired")
    assert scene.verify().wrong == 0
    assert scene.entry(scene.second)[:2] == (Queue.HELD, damage.MISPLACED)


# -- the logs


LINES = (
    "INSERT INTO release_log VALUES (77, 5, 2, 'ops', 'fine', 'spam', 0, 'a@b', 'a@b', 'A', 'c@d', 'C', 'Hello', 9, 0)",
    "INSERT INTO rejection VALUES (78, '192.0.2.7', 'helo', 'a@b', 'c@d', 'size', '552 too large', 3)",
    "INSERT INTO queue_sample VALUES (1800000000000, 0, 0, 12)",
    "INSERT INTO queue_sample VALUES (1800000000000, 1, 0, 3)",
)


def test_the_logs_are_looked_at_and_sound(scene: Scene) -> None:
    before = scene.verify().rows
    scene.plant(*LINES)
    report = scene.verify(repair=True)
    assert report.counts == {}
    assert report.rows == before + len(LINES)


@pytest.mark.parametrize(
    ("damage_done", "left"),
    [
        ("action = 1", (2, 0, 9, 0)), ("action = 'x'", (2, 0, 9, 0)),
        ("route = 9", (2, 3, 9, 0)), ("route = -1", (2, 3, 9, 0)),
        ("size = -5", (2, 0, 0, 0)), ("attachment = 7", (2, 0, 9, 1)), ("entry_id = -5", (2, 0, 9, 0)),
        ("subject = CAST(x'41ff' AS TEXT)", (2, 0, 9, 0)), ("reason = x'41'", (2, 0, 9, 0)),
    ],
)  # fmt: skip
def test_a_damaged_line_of_the_release_log_is_kept_and_says_so(
    scene: Scene, damage_done: str, left: tuple[int, ...]
) -> None:
    scene.plant(*LINES, f"UPDATE release_log SET {damage_done}")
    found_and_repaired(scene, "release-line")
    assert scene.rows("SELECT action, route, size, attachment FROM release_log") == [left]
    ((reason, actor),) = scene.rows("SELECT reason, actor FROM release_log")
    assert actor == "ops"
    assert reason.startswith("The stored line was damaged") == damage_done.startswith("action")


@pytest.mark.parametrize(
    ("damage_done", "kind", "number"),
    [
        ("kind = 'nonsense'", "unavailable", 3),
        ("kind = CAST(x'ff' AS TEXT)", "unavailable", 3), ("number = 0", "size", 1),
        ("number = 'three'", "size", 1), ("env_from = CAST(x'41ff' AS TEXT)", "size", 3),
    ],
)  # fmt: skip
def test_a_damaged_refusal_is_kept(scene: Scene, damage_done: str, kind: str, number: int) -> None:
    scene.plant(*LINES, f"UPDATE rejection SET {damage_done}")
    found_and_repaired(scene, "rejection-line")
    assert scene.rows("SELECT kind, number, ip FROM rejection") == [(kind, number, "192.0.2.7")]


@pytest.mark.parametrize(
    "damage_done",
    ["queue = 9", "queue = CAST(x'ff' AS TEXT)", "route = 4", "route = 'x'", "number = -1", "number = 0.5"],
)
def test_a_damaged_sample_is_deleted_and_its_neighbours_stay(scene: Scene, damage_done: str) -> None:
    scene.plant(*LINES, f"UPDATE queue_sample SET {damage_done} WHERE queue = 0")
    found_and_repaired(scene, "sample")
    assert scene.rows("SELECT queue, route, number FROM queue_sample") == [(1, 0, 3)]


# -- messages and bodies


@pytest.mark.parametrize(
    "what", ["DELETE FROM body WHERE message_id = :entry", "UPDATE body SET bytes = 7 WHERE message_id = :entry"]
)
def test_all_entries_of_a_message_without_its_bytes_are_held(scene: Scene, what: str) -> None:
    scene.plant(what, entry=scene.first)
    found_and_repaired(scene, "body-missing")
    for entry in (scene.first, scene.second):
        assert scene.entry(entry)[:2] == (Queue.HELD, damage.BODY_GONE)
    assert "body-missing" in kinds(scene.verify(), "noted")


@pytest.mark.parametrize(
    ("bytes_", "kind"), [(a_mail() + b"x", "body-size"), (a_mail()[:-1] + b"x", "body-changed"), (b"", "body-size")]
)
def test_bytes_that_are_not_those_accepted_are_held(scene: Scene, bytes_: bytes, kind: str) -> None:
    scene.plant("UPDATE body SET bytes = :data WHERE message_id = :entry", data=bytes_, entry=scene.waiting)
    found_and_repaired(scene, kind)
    assert scene.entry(scene.waiting)[:2] == (Queue.HELD, damage.BODY_CHANGED)
    assert scene.rows("SELECT bytes FROM body WHERE message_id = ?", scene.waiting) == [(bytes_,)], "it was thrown away"


@pytest.mark.parametrize(
    ("spoil", "kind", "text"),
    [
        (lambda file: file.unlink(), "body-missing", damage.BODY_GONE),
        (lambda file: os.truncate(file, 100_000), "body-size", damage.BODY_CHANGED),
        (lambda file: os.truncate(file, 0), "body-size", damage.BODY_CHANGED),
        (lambda file: file.write_bytes(file.read_bytes()[:-4] + b"x\r\n."), "body-changed", damage.BODY_CHANGED),
    ],
    ids=["gone", "half-written", "empty", "changed"],
)
def test_a_body_file_that_is_not_what_was_accepted(
    scene: Scene, spoil: Callable[[Path], None], kind: str, text: str
) -> None:
    spoil(scene.file)
    found_and_repaired(scene, kind)
    assert scene.entry(scene.large)[:2] == (Queue.HELD, text)


def test_a_body_that_cannot_be_read_just_now_is_no_reason_to_hold_anything(scene: Scene) -> None:
    """Its directory is a link to itself, as it might not be mounted, or belong to somebody else."""
    store = scene.open()
    aside = scene.file.parent.rename(scene.root.parent / "aside")
    scene.file.parent.symlink_to(scene.file.parent)
    report = scene.verify(repair=True)
    assert {(one.finding.kind, one.state) for one in report.results} == {("body-unread", "left")}
    assert scene.large not in {lease.entry for lease in claimed(store, limit=100)}
    entry = store.read_now().entry(scene.large)
    assert entry is not None
    assert (entry.queue, entry.info, entry.attempts) == (Queue.PROCESSING, unread.NOT_NOW, 0)
    assert scene.clock.now() < entry.next_attempt < scene.clock.now() + MINUTE
    scene.file.parent.unlink()
    aside.rename(scene.file.parent)
    scene.clock.move(MINUTE)
    assert scene.large in {lease.entry for lease in claimed(store, limit=100)}


def test_a_body_that_comes_back_needs_only_a_release(scene: Scene) -> None:
    data = scene.file.read_bytes()
    scene.file.unlink()
    scene.verify(repair=True)
    scene.file.write_bytes(data)
    assert scene.verify().counts == {}
    store = scene.open()
    store.act_now(Action.RELEASE, [scene.large], actor="ops")
    assert scene.large in {lease.entry for lease in claimed(store)}


def test_an_entry_held_for_another_reason_is_marked_too(scene: Scene) -> None:
    scene.plant("DELETE FROM body WHERE message_id = :entry", entry=scene.held)
    found_and_repaired(scene, "body-missing")
    assert scene.entry(scene.held)[:2] == (Queue.HELD, damage.BODY_GONE)
    assert scene.rows("SELECT from_queue FROM entry WHERE id = ?", scene.held) == [(codes.QUEUE[Queue.PROCESSING],)]


def test_a_row_of_bytes_beside_a_file_is_deleted(scene: Scene) -> None:
    scene.plant("INSERT INTO body (message_id, bytes) VALUES (:entry, x'00')", entry=scene.large)
    found_and_repaired(scene, "body-twice")
    assert scene.file.exists()


@pytest.mark.parametrize(
    "damage_done",
    [
        "subject = 'Another'", "from_address = ''", "from_name = 'Eve'", "to_header = 'x'", "message_id = ''",
        "attachment = 1", "size = 12", "facts = x'00'", "facts = x''",
        "subject = CAST(x'41ff' AS TEXT)", "size = 'many'",
    ],
)  # fmt: skip
def test_what_a_message_says_of_itself_follows_its_bytes(scene: Scene, damage_done: str) -> None:
    before = scene.rows("SELECT * FROM message ORDER BY id")
    scene.plant(f"UPDATE message SET {damage_done} WHERE id = :entry", entry=scene.first)
    assert "message-facts" in wrong(scene.verify())
    report = scene.verify(repair=True)
    assert report.wrong == 0, told(report)
    assert scene.rows("SELECT * FROM message ORDER BY id") == before
    assert scene.verify().counts == {}, "the entries follow their message"


def test_a_message_whose_envelope_cannot_be_read_learns_it_from_its_entries(scene: Scene) -> None:
    before = scene.rows("SELECT env_from, remote_ip FROM message ORDER BY id")
    scene.plant(
        "UPDATE message SET env_from = CAST(x'ff' AS TEXT), remote_ip = CAST(x'ff' AS TEXT), helo "
        "= CAST(x'68ff' AS TEXT) "
        "WHERE id = :entry",
        entry=scene.waiting,
    )
    assert "message-text" in wrong(scene.verify())
    assert scene.verify(repair=True).wrong == 0
    assert scene.verify().counts == {}
    assert scene.rows("SELECT env_from, remote_ip FROM message ORDER BY id") == before
    assert scene.rows("SELECT helo FROM message WHERE id = ?", scene.waiting) == [("h\ufffd",)]


def test_verdicts_that_cannot_be_read_are_asked_for_again(scene: Scene) -> None:
    scene.plant("UPDATE message SET verdicts = x'c1' WHERE id = :entry", entry=scene.waiting)
    found_and_repaired(scene, "message-verdicts")
    message = scene.open().read_now().message(scene.waiting)
    assert message is not None
    assert message.verdicts == ()


def test_a_left_over_message_goes_with_its_file_when_the_ledger_misses_nothing(scene: Scene) -> None:
    left_over = scene.root / "ab" / ("ab" + "0" * 30)
    left_over.write_bytes(b"x" * 200_000)
    scene.plant(
        "INSERT INTO message SELECT :ended, remote_ip, remote_name, helo, esmtp, tls, auth_user, "
        "env_from, from_address, "
        "from_name, to_header, subject, message_id, 200000, 0, facts, verdicts, received, :file, body_hash "
        "FROM message WHERE id = :large",
        ended=scene.ended, large=scene.large, file=f"ab/{left_over.name}",
    )  # fmt: skip
    assert "message-alone" in wrong(scene.verify())
    assert "message-alone" in kinds(scene.verify(repair=True), "repaired")
    assert scene.verify().counts == {}
    assert not left_over.exists()
    assert scene.rows("SELECT 1 FROM message WHERE id = ?", scene.ended) == []


def test_mail_whose_entry_was_lost_is_shown_again_for_nobody(scene: Scene) -> None:
    scene.plant("DELETE FROM entry WHERE id = :entry", entry=scene.waiting)
    assert wrong(scene.verify()) == {"message-alone", "ledger-difference"}
    report = scene.verify(repair=True)
    assert report.wrong == 0
    assert kinds(report, "repaired") == {"message-alone"}, "with its entry the ledger adds up again"
    assert scene.verify().counts == {}
    queue, info, label = scene.entry(scene.waiting)
    assert (queue, info, label & Label.MAYBE_DELIVERED) == (Queue.HELD, damage.RECIPIENT_LOST, Label.MAYBE_DELIVERED)
    store = scene.open()
    entry = store.read_now().entry(scene.waiting)
    assert entry is not None
    assert (entry.recipient, entry.subject) == (damage.NOBODY, "Quarterly report")
    assert store.act_now(Action.REJECT, [scene.waiting], actor="ops").done == (scene.waiting,)
    assert ledger_difference(store.read_now().tx) == 0


def test_mail_of_which_one_entry_ended_and_the_other_was_lost_is_not_taken_for_left_over(scene: Scene) -> None:
    store = scene.open()
    leases = {lease.entry: lease for lease in claimed(store)}
    end = EndedEntry(
        scene.first, leases[scene.first].lease, scene.first, Queue.DELIVERY, Outcome.DELIVERED, "250 kept", 1, 0, START
    )
    hand(store, end)
    store.close()
    scene.plant("DELETE FROM entry WHERE id = :entry", entry=scene.second)
    assert scene.verify(repair=True).wrong == 0
    assert scene.entry(scene.second)[:2] == (Queue.HELD, damage.RECIPIENT_LOST)
    assert scene.verify().wrong == 0


def test_bytes_without_anything_else_become_mail_that_is_held(scene: Scene) -> None:
    scene.plant(
        "DELETE FROM entry WHERE id = :entry", "DELETE FROM message WHERE id = :entry", entry=scene.waiting
    )  # fmt: skip
    found = wrong(scene.verify())
    assert found == {"body-alone", "ledger-difference"}
    assert scene.verify(repair=True).wrong == 0
    assert scene.verify().counts == {}
    assert scene.entry(scene.waiting)[:2] == (Queue.HELD, damage.RECIPIENT_LOST)


def test_left_over_bytes_are_deleted(scene: Scene) -> None:
    scene.plant("INSERT INTO body (message_id, bytes) VALUES (:ended, x'0102')", ended=scene.ended)
    found_and_repaired(scene, "body-alone")
    assert scene.rows("SELECT 1 FROM body WHERE message_id = ?", scene.ended) == []


# -- beside the queue


def test_events_without_an_entry_are_deleted(scene: Scene) -> None:
    scene.plant("INSERT INTO event (entry_id, at, kind, queue, info_id, actor) VALUES (12345, 1, 'held', 3, NULL, '')")
    found_and_repaired(scene, "event-alone")


@pytest.mark.parametrize(
    "damage_done", ["kind = 'sung'", "queue = 9", "at = -1", "actor = CAST(x'ff' AS TEXT)", "info_id = 'x'"]
)
def test_an_event_that_cannot_be_read_is_put_right(scene: Scene, damage_done: str) -> None:
    scene.plant(f"UPDATE event SET {damage_done} WHERE entry_id = :entry", entry=scene.held)
    assert "event-state" in wrong(scene.verify())
    assert scene.verify(repair=True).wrong == 0
    assert scene.verify().counts == {}
    assert len(scene.open().read_now().events(scene.held)) == 2


@pytest.mark.parametrize(
    "damage_done",
    [
        "queue = 9", "route = -1", "outcome = 40", "outcome = 'x'", "label = 9",
        "attempts = -5", "ended = 0", "size = -1",
        "attachment = 3", "priority = 2", "reply = CAST(x'ff' AS TEXT)",
        "subject = CAST(x'ff' AS TEXT)", "events = x'c1'",
    ],
)  # fmt: skip
def test_an_ended_entry_that_cannot_be_read_is_put_right(scene: Scene, damage_done: str) -> None:
    scene.plant(f"UPDATE history SET {damage_done} WHERE id = :ended", ended=scene.ended)
    found_and_repaired(scene, "history-state")
    reader = scene.open().read_now()
    ended = reader.ended(scene.ended)
    assert ended is not None
    assert ended.outcome is (Outcome.DROPPED if "outcome" in damage_done else Outcome.DELIVERED)
    assert reader.events(scene.ended)


def test_a_pause_of_a_stage_that_does_not_exist_is_deleted(scene: Scene) -> None:
    scene.plant("INSERT INTO pause (scope, since, actor) VALUES ('singing', 1, 'ops'), ('delivery', 'x', 'ops')")
    store = scene.open()
    assert {scope.value for scope in store.read_now().pauses()} == {"delivery"}, "mail must go on meanwhile"
    store.close()
    found_and_repaired(scene, "pause")
    assert [scope.value for scope in scene.open().read_now().pauses()] == ["delivery"]


@pytest.mark.parametrize("number", [1, -2])
def test_a_ledger_that_does_not_add_up_gets_a_line_that_says_so(scene: Scene, number: int) -> None:
    scene.plant("UPDATE ledger SET number = number + :number WHERE kind = 'accepted'", number=number)
    found_and_repaired(scene, "ledger-difference")
    assert scene.rows("SELECT number FROM ledger WHERE kind = 'correction'") == [(-number,)]
    created, ended, queued = scene.open().read_now().ledger()
    assert sum(created.values()) - sum(ended.values()) - queued == 0
    assert created["correction"] == -number


def test_an_account_that_nobody_knows_is_closed_into_the_correction(scene: Scene) -> None:
    scene.plant("UPDATE ledger SET kind = 'acceptee' WHERE kind = 'accepted'")
    report = scene.verify(repair=True)
    assert kinds(report, "repaired") == {"ledger-account", "ledger-difference"}
    assert scene.verify().counts == {}
    assert scene.rows("SELECT number FROM ledger WHERE kind = 'correction'") == [(7,)]


# -- files


def test_an_old_file_that_no_message_names_is_deleted(scene: Scene) -> None:
    name = "cd" + "1" * 30
    orphan = scene.root / "cd" / name
    orphan.write_bytes(b"x")
    foreign = [scene.root / "letter.txt", scene.root / "cd" / "letter.txt", scene.root / "ce" / name]
    for path in foreign:
        path.write_text("not ours")
    (scene.root / "pins-0011223344556677").mkdir()
    found_and_repaired(scene, "file-alone")
    assert not orphan.exists()
    assert all(path.exists() for path in foreign)
    assert scene.file.exists()
    assert scene.verify().counts == {"file-foreign": {"noted": 3}}


def test_a_file_without_a_row_is_left_alone_while_a_gateway_runs_or_may_have_just_started(
    scene: Scene, clock: HandClock
) -> None:
    store = scene.open()
    orphan = store.bodies.path(store.bodies.put(b"x"))
    os.utime(orphan, (clock.now() / 1000,) * 2)
    for _ in range(2):
        assert scene.verify(repair=True).counts == {"file-young": {"noted": 1}}
        clock.move(2 * HOUR)
    store.close()
    os.utime(orphan, (clock.now() / 1000 - 10,) * 2)
    assert scene.verify(repair=True).counts == {"file-young": {"noted": 1}}, "a gateway may just have started"
    clock.move(MINUTE)
    assert kinds(scene.verify(repair=True), "repaired") == {"file-alone"}
    assert not orphan.exists()


def test_a_file_that_may_be_the_body_of_a_lost_message_is_kept(scene: Scene) -> None:
    scene.plant("DELETE FROM message WHERE id = :entry", entry=scene.large)
    found_and_repaired(scene, "entry-message")
    assert scene.file.exists()
    assert "file-kept" in kinds(scene.verify(), "noted")


# -- SQLite's own


def test_an_index_that_lacks_a_row_is_built_again(scene: Scene) -> None:
    """The row is written while the schema does not know the index."""
    (saved,) = scene.rows("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master WHERE name = 'entry_queue'")
    with contextlib.closing(sqlite3.connect(scene.path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema=1")
        database.execute("DELETE FROM sqlite_master WHERE name = 'entry_queue'")
    with contextlib.closing(sqlite3.connect(scene.path, isolation_level=None)) as database:
        database.execute("DELETE FROM entry WHERE id = ?", (scene.youngest,))
        database.execute("DELETE FROM message WHERE id = ?", (scene.youngest,))
        database.execute("DELETE FROM body WHERE message_id = ?", (scene.youngest,))
        database.execute("UPDATE ledger SET number = number - 1 WHERE kind = 'accepted'")
        database.execute("PRAGMA writable_schema=1")
        database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", saved)
    found_and_repaired(scene, "index")


def test_a_damaged_page_is_told_and_nothing_is_written(scene: Scene) -> None:
    ((page,),) = scene.rows("SELECT rootpage FROM sqlite_master WHERE name = 'event_entry'")
    scene.plant("UPDATE entry SET search = '' WHERE id = :entry", entry=scene.waiting)
    with scene.path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    report = scene.verify(repair=True)
    assert "database" in kinds(report, "left")
    assert "entry-search" in kinds(report, "left")
    assert kinds(report, "repaired") == set()
    assert any(".recover" in one.done for one in report.results)
    assert scene.rows("SELECT search FROM entry WHERE id = ?", scene.waiting) == [("",)]


def test_a_row_that_refers_to_nothing_is_left_to_a_person(scene: Scene) -> None:
    scene.plant("INSERT INTO console_user (email, password_hash, role, created) VALUES ('a@b', 'x', 'nobody', 1)")
    assert wrong(scene.verify()) == {"reference"}
    report = scene.verify(repair=True)
    assert kinds(report, "left") == {"reference"}


def test_a_row_that_breaks_a_rule_of_its_table_is_left_to_a_person(scene: Scene) -> None:
    scene.plant("INSERT INTO role (name, permissions, plan_limit) VALUES ('night shift', '[]', -5)")
    [result] = scene.verify().results
    assert (result.finding.kind, result.finding.name) == ("rule", "role")
    assert kinds(scene.verify(repair=True), "left") == {"rule"}


# -- beside a gateway


def test_an_entry_that_is_being_worked_on_is_left_for_the_next_run(scene: Scene, clock: HandClock) -> None:
    store = scene.open()
    leases = {lease.entry: lease for lease in claimed(store)}
    assert scene.large in leases
    scene.file.unlink()
    report = scene.verify(repair=True)
    assert [(one.finding.kind, one.done) for one in report.results if one.state == "left"] == [
        ("body-missing", "it is being worked on: run this again")
    ]
    lease = leases[scene.large]
    later = Waited(
        scene.large, lease.lease, Queue.PROCESSING, None, "451 later", 1, clock.now() + HOUR, 0, clock.now(), "deferred"
    )
    hand(store, later)
    assert scene.verify(repair=True).wrong == 0
    assert scene.entry(scene.large)[:2] == (Queue.HELD, damage.BODY_GONE)


def test_a_lease_that_a_dead_gateway_left_is_ended_with_its_label(scene: Scene) -> None:
    store = scene.open()
    assert scene.large in {lease.entry for lease in claimed(store)}
    store.close()
    scene.plant("UPDATE entry SET queue = 2 WHERE id = :entry", entry=scene.large)
    scene.file.unlink()
    assert scene.verify(repair=True).wrong == 0
    queue, info, label = scene.entry(scene.large)
    assert (queue, info, label) == (Queue.HELD, damage.BODY_GONE, Label.MAYBE_DELIVERED)


def test_what_ended_before_the_second_look_is_not_reported(scene: Scene) -> None:
    """A check sees something wrong that is right again when it looks once more, as it is when the queue moves
    meanwhile."""

    class Fleeting:
        name, slice, looks = "fleeting", 1, 0

        def size(self, *_: object) -> int:
            return 1

        def upper(self, _: Tx, after: int) -> int | None:
            return 1 if after < 1 else None

        def look(self, *_: object) -> list:
            from postroom.store.verify.rows import Finding

            self.looks += 1
            return [Finding("entry-state", 1, "just now")] if self.looks == 1 else []

        def mend(self, *_: object) -> str:
            raise AssertionError("it was mended all the same")

    store = scene.open()
    fleeting = Fleeting()
    report = verify(store, clock=scene.clock, repair=True, wanted=[fleeting])
    assert (report.counts, fleeting.looks) == ({}, 2)


# -- the claim of a gateway meets the same damage


@pytest.mark.parametrize(
    "spoil", [lambda file: file.unlink(), lambda file: os.truncate(file, 10)], ids=["gone", "short"]
)
def test_a_claim_holds_what_has_no_whole_body_and_takes_the_rest(scene: Scene, spoil: Callable[[Path], None]) -> None:
    spoil(scene.file)
    store = scene.open()
    assert {lease.entry for lease in claimed(store, limit=100)} == {
        scene.waiting,
        scene.first,
        scene.second,
        scene.youngest,
    }
    entry = store.read_now().entry(scene.large)
    assert entry is not None
    assert (entry.queue, entry.info, store.counts.unreadable) == (Queue.HELD, damage.BODY_GONE, 1)
    store.close()
    assert scene.verify().wrong == 0


def test_a_claim_holds_what_cannot_be_read_and_takes_the_rest(scene: Scene) -> None:
    bad = "CAST(x'626f62ff' AS TEXT)"
    scene.plant(f"UPDATE entry SET recipient = {bad} WHERE id = :entry", entry=scene.waiting)
    scene.plant(f"UPDATE message SET env_from = {bad} WHERE id = :entry", entry=scene.first)
    store = scene.open()
    assert {lease.entry for lease in claimed(store, limit=100)} == {scene.large, scene.youngest}
    queues = {entry: scene.entry(entry)[:2] for entry in (scene.waiting, scene.first, scene.second)}
    assert queues == {
        scene.waiting: (Queue.HELD, damage.ENTRY_UNREADABLE),
        scene.first: (Queue.HELD, damage.UNREADABLE),
        scene.second: (Queue.HELD, damage.UNREADABLE),
    }
    shown = store.read_now().entry(scene.waiting)
    assert shown is not None
    assert shown.recipient == "bob\ufffd"


def test_every_kind_has_its_words_and_its_place_in_the_documentation() -> None:
    documentation = Path(__file__).parents[2].joinpath("docs/operations.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in documentation] == []
