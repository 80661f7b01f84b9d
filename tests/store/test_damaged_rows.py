"""A row that holds what it must not is shown as damaged, and costs nobody else anything: lists, claims, actions,
starts go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroom.clock import DAY, MINUTE, HandClock
from postroom.http.console.detail import look_up
from postroom.ids import public_id
from postroom.model import Action, Entry, Filter, Outcome, Queue, Route
from postroom.rules.lifecycle import UNREADABLE_WAIT
from postroom.store import damage
from postroom.store.backup.pins import Pins
from postroom.store.engine import Tx
from postroom.store.keep import samples
from postroom.store.logs import lines as logs
from postroom.store.plans import commands as plans
from postroom.store.queue import unread
from postroom.store.store import Store
from tests.conformance.driven import claimed
from tests.conformance.test_plans import WINDOW, apply, difference, look_after, make, undo
from tests.store.conftest import Opener, a_message, accepted

MOST = (1 << 63) - 1

DAMAGE = [
    "route = 9", "route = -1", "route = 'x'", "queue = 17, from_queue = NULL", "queue = -1, from_queue = NULL",
    "priority = 77", "attempts = 'often'", "size = 'much'", "label = 'none'",
    "strikes = x'00'", "next_attempt = 'soon'",
    "locked_until = 'never', lease = 7", "locked_until = 7, lease = 'mine'",
]  # fmt: skip


def plant(store: Store, statement: str, *values: object) -> None:
    """What no statement of ours writes, and a disk may."""

    def write(tx: Tx) -> None:
        tx.rows("PRAGMA ignore_check_constraints=1")
        before = tx.written()
        tx.rows(statement, values)
        assert tx.written() > before, "nothing was damaged"
        tx.rows("PRAGMA ignore_check_constraints=0")

    store.write_now(write)


@pytest.mark.parametrize("done", DAMAGE)
def test_a_damaged_entry_is_listed_as_damaged_beside_the_others(store: Store, done: str) -> None:
    sound, hurt, last = (accepted(store, a_message(subject=name)).entries[0] for name in ("one", "two", "three"))
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", hurt)
    reader = store.read_now()
    shown = reader.entry(hurt)
    assert shown is not None
    assert (shown.info, shown.subject) == (damage.STATE_DAMAGED, "two")
    found = {entry.id: entry for entry in reader.find(Filter(), limit=10)}
    assert {sound, last} <= found.keys()
    assert found.get(hurt, shown) == shown
    assert found[sound].info != damage.STATE_DAMAGED
    reader.queue_counts()
    reader.events(hurt)


def test_an_entry_whose_reason_is_gone_is_listed_all_the_same(store: Store) -> None:
    entry = accepted(store, a_message()).entries[0]
    plant(store, "UPDATE entry SET info_id = 999 WHERE id = ?", entry)
    (found,) = store.read_now().find(Filter(), limit=10)
    assert (found.id, found.info) == (entry, damage.INFO_LOST)


@pytest.mark.parametrize("done", DAMAGE)
def test_a_damaged_entry_does_not_keep_the_others_from_being_worked_on(store: Store, done: str) -> None:
    entries = [accepted(store, a_message()).entries[0] for _ in range(3)]
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", entries[1])
    assert {entries[0], entries[2]} <= {lease.entry for lease in claimed(store)}


@pytest.mark.parametrize(
    "done",
    ["attempts = 'often'", "attempts = -1", f"attempts = {MOST}", "strikes = 'many'", "strikes = -1", "since = 'then'"],
)
def test_what_a_claim_cannot_count_is_held_and_marked(store: Store, done: str) -> None:
    entry = accepted(store, a_message()).entries[0]
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", entry)
    assert claimed(store) == []
    held = store.read_now().entry(entry)
    assert held is not None
    assert (held.queue, held.from_queue, held.info) == (Queue.HELD, Queue.PROCESSING, damage.STATE_DAMAGED)
    assert store.write_now(lambda tx: tx.rows("SELECT count(*) FROM entry")) == [(1,)]


@pytest.mark.parametrize("done", ["strikes = 'many'", "request = 77", "route = 9"])
def test_a_damaged_leased_entry_stops_neither_a_start_nor_a_claim(opening: Opener, clock: HandClock, done: str) -> None:
    store = opening()
    hurt, sound = (accepted(store, a_message(), lease_until=clock.now() + MINUTE).entries[0] for _ in range(2))
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", hurt)
    store.close()
    again = opening()
    assert again.recovered[0] == 2
    assert sound in {lease.entry for lease in claimed(again)}
    assert again.read_now().entry(hurt) is not None
    again.close()


def test_an_action_refuses_what_is_damaged_and_does_the_rest(store: Store) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    plant(store, "UPDATE entry SET queue = 17 WHERE id = ?", hurt)
    report = store.act_now(Action.HOLD, [hurt, sound], actor="ops")
    assert report.done == (sound,)
    assert report.refused == ((hurt, damage.STATE_DAMAGED),)


@pytest.mark.parametrize("stood", ["NULL", "77", "3", "'x'"])
@pytest.mark.parametrize("action", [Action.RELEASE, Action.REJECT])
def test_what_does_not_know_its_way_back_is_refused_beside_the_others(store: Store, stood: str, action: Action) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    store.act_now(Action.HOLD, [hurt, sound], actor="ops")
    plant(store, f"UPDATE entry SET from_queue = {stood} WHERE id = ?", hurt)
    report = store.act_now(action, [hurt, sound], actor="ops")
    assert (report.done, report.refused) == ((sound,), ((hurt, damage.STATE_DAMAGED),))
    held = store.read_now().entry(hurt)
    assert held is not None
    assert held.queue is Queue.HELD


NO_ACTION_STOPS = [
    "entry SET recipient = x'00ff'", "message SET env_from = x'00ff'",
    "message SET subject = x'00ff'", "message SET received = 'x'",
    f"message SET received = {MOST}", "message SET body_object = '../../etc/x'", "message SET body_object = 77",
]  # fmt: skip


@pytest.mark.parametrize("done", NO_ACTION_STOPS)
@pytest.mark.parametrize("action", [Action.RETRY, Action.BOUNCE, Action.DELETE])
def test_an_action_is_done_to_what_is_sound_beside_what_is_not(store: Store, done: str, action: Action) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    plant(store, f"UPDATE {done} WHERE id = ?", hurt)
    assert store.act_now(action, [hurt, sound], actor="ops").done == (hurt, sound)


def test_a_sender_gets_a_notice_though_the_bytes_of_the_message_are_damaged(store: Store) -> None:
    hurt = accepted(store, a_message()).entries[0]
    plant(store, "UPDATE body SET bytes = 'no bytes' WHERE message_id = ?", hurt)
    assert store.act_now(Action.BOUNCE, [hurt], actor="ops").done == (hurt,)
    assert store.read_now().queue_counts()[Queue.SYSTEM] == 1


@pytest.mark.parametrize("done", [*NO_ACTION_STOPS, "entry SET size = 'much'", f"entry SET size = {MOST}"])
def test_a_plan_ends_what_is_sound_beside_what_is_not(store: Store, clock: HandClock, done: str) -> None:
    hurt, sound, later = (accepted(store, a_message()).entries[0] for _ in range(3))
    plant(store, f"UPDATE {done} WHERE id = ?", hurt)
    apply(store, clock, make(store, clock, Action.BOUNCE, f"id:{public_id(hurt)}|{public_id(sound)}"))
    apply(store, clock, make(store, clock, Action.BOUNCE, f"id:{public_id(later)}"))
    clock.move(WINDOW)
    look_after(store, clock)
    reader = store.read_now()
    assert reader.entry(sound) is reader.entry(later) is None
    assert difference(store) == 0


def test_a_plan_leaves_out_what_does_not_know_its_way_back(store: Store, clock: HandClock) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    store.act_now(Action.HOLD, [hurt, sound], actor="ops")
    plant(store, "UPDATE entry SET from_queue = 77 WHERE id = ?", hurt)
    plan = make(store, clock, Action.RELEASE)
    assert [(share.name, share.entries) for share in plan.summary.left_out] == [(plans.DAMAGED, 1)]
    assert apply(store, clock, plan).done == 1


@pytest.mark.parametrize("done", ["queue = 77", "queue = 'x'", "from_queue = 'x'", "queue = 3", "queue = 5"])
@pytest.mark.parametrize("action", [Action.HOLD, Action.DELETE])
def test_a_damaged_line_of_a_plan_keeps_nothing_else_from_going_back(
    store: Store, clock: HandClock, action: Action, done: str
) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    plan = apply(store, clock, make(store, clock, action))
    plant(store, f"UPDATE plan_entry SET {done} WHERE entry = ?", hurt)
    taken_back = undo(store, clock, plan)
    assert (taken_back.state, taken_back.undone, taken_back.kept) == ("undone", 1, 1)
    back, left = store.read_now().entry(sound), store.read_now().entry(hurt)
    assert back is not None
    assert left is not None
    assert (back.queue, left.queue) == (Queue.PROCESSING, Queue.HELD)


@pytest.mark.parametrize("done", ["attempts = 'often'", "attempts = -1", "since = 'then'"])
async def test_after_the_clock_was_set_back_the_others_are_put_right(store: Store, clock: HandClock, done: str) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    far = clock.now() + 1000 * DAY
    plant(store, "UPDATE entry SET next_attempt = ?, attempts = 1", far)
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", hurt)
    store.attach(asyncio.get_running_loop())
    assert await store.reschedule() == 1
    back = await settled(store, sound)
    assert back.next_attempt < far


@pytest.mark.parametrize("done", ["facts = 'x'", "facts = x'00'", "verdicts = 77", "verdicts = x'ff'"])
def test_an_entry_is_shown_though_its_message_is_damaged(store: Store, done: str) -> None:
    entry = accepted(store, a_message()).entries[0]
    plant(store, f"UPDATE message SET {done} WHERE id = ?", entry)
    found = look_up(store.read_now(), store.bodies, entry)
    assert found is not None
    assert (found.entry, found.message, found.header) == (store.read_now().entry(entry), None, b"")


def test_a_backup_goes_on_beside_what_is_no_bodys_name(store: Store, tmp_path: Path) -> None:
    name = store.bodies.put(b"x")
    with Pins(store.bodies) as pins:
        assert pins.hold(["../../etc/x", name]) == ["../../etc/x"]
        assert pins.sizes == {name: 1}


@pytest.mark.parametrize(
    "done", ["env_from = x'00ff'", "subject = x'00ff'", "size = 'much'",
    "received = 'x'", f"received = {MOST}", "body_object = x'00ff'",
             "facts = 'x'", "verdicts = 77"],
)  # fmt: skip
async def test_a_damaged_message_is_held_beside_the_others(store: Store, done: str) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    plant(store, f"UPDATE message SET {done} WHERE id = ?", hurt)
    store.attach(asyncio.get_running_loop())
    taken = await store.claim([(Queue.PROCESSING, 10)], 10)
    assert [lease.entry for claimed in taken for lease in claimed.leases] == [sound]
    held = await settled(store, hurt)
    assert (held.queue, held.lease) == (Queue.HELD, None)


def test_a_damaged_line_of_a_log_costs_nobody_the_others(store: Store, clock: HandClock) -> None:
    entries = [accepted(store, a_message()).entries[0] for _ in range(2)]
    store.act_now(Action.HOLD, entries, actor="ops")
    store.act_now(Action.RELEASE, entries, actor="ops")
    plant(store, "UPDATE release_log SET route = 9, action = 77 WHERE entry_id = ?", entries[0])
    plant(store, "INSERT INTO queue_sample VALUES (?, 17, 9, 5)", clock.now())
    reader = store.read_now()
    asked = logs.LogQuery(0, clock.now() + MINUTE)
    lines = {line.entry: line for line in logs.find(reader.tx, logs.RELEASES, asked, limit=10)}
    assert lines.keys() == set(entries)
    assert (lines[entries[0]].route, lines[entries[0]].action) == (Route.EXTERNAL, Action.RELEASE)
    assert [sample.number for sample in samples.read(reader, 0, clock.now())] == [5]


def test_a_damaged_row_of_the_history_is_shown(store: Store) -> None:
    entry = accepted(store, a_message()).entries[0]
    store.act_now(Action.DELETE, [entry], actor="ops")
    plant(store, "UPDATE history SET outcome = 77, route = 9, queue = 12, size = 'much' WHERE id = ?", entry)
    ended = store.read_now().ended(entry)
    assert ended is not None
    assert (ended.outcome, ended.route, ended.queue, ended.size) == (Outcome.DROPPED, Route.EXTERNAL, Queue.HELD, 0)
    assert store.read_now().events(entry)


async def test_a_claim_that_no_reader_can_be_opened_for_is_given_back(store: Store, clock: HandClock) -> None:
    """The database file has gone from its place while the writer has it open: nothing can be said about any message."""
    entries = {accepted(store, a_message()).entries[0] for _ in range(3)}
    store.attach(asyncio.get_running_loop())
    aside = store.path.rename(store.path.with_name("aside"))
    assert await store.claim([(Queue.PROCESSING, 10)], 10) == []
    aside.rename(store.path)
    for entry in entries:
        back = await settled(store, entry)
        assert (back.queue, back.info, back.attempts, back.lease) == (Queue.PROCESSING, unread.NOT_NOW, 0, None)
        assert back.next_attempt == clock.now() + UNREADABLE_WAIT
        assert not back.label, "nothing was begun"
    clock.move(UNREADABLE_WAIT)
    again = await store.claim([(Queue.PROCESSING, 10)], 10)
    assert {lease.entry for claimed in again for lease in claimed.leases} == entries
    assert store.counts.unreadable == 0


async def settled(store: Store, entry: int) -> Entry:
    """As it is when what was handed to the writer before is committed."""
    await store.write(lambda tx: None)
    found = await store.read(lambda reader: reader.entry(entry))
    assert found is not None
    return found
