"""A backup is the store at one instant, whole or not there; what a restore brings back says what it may be."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from postroom.clock import DAY, HOUR, MINUTE, HandClock
from postroom.errors import EnvironmentFailed, PostroomError
from postroom.model import Action, Entry, Filter, Label, Queue
from postroom.query import parse
from postroom.settings import Plans, Settings
from postroom.store import Accepted, Bodies, Store, Waited, access, open_store, plans
from postroom.store import backup as backing
from tests.conformance.conftest import Elsewhere, Opener
from tests.conformance.driven import a_message, accepted, claimed, delivered_at_once, hand

LARGE = 200_000


def with_large_body(store: Store, data: bytes, *, leased: bool = False) -> Accepted:
    name = store.bodies.put(data)
    new = msgspec.structs.replace(a_message(), body=None, body_object=name, size=len(data))
    return accepted(store, new, lease_until=1_900_000_000_000 if leased else None)


def delivered(store: Store, got: Accepted, clock: HandClock) -> None:
    """A message that was born leased ends, and its body goes."""
    hand(store, delivered_at_once(got, clock))


def restored(backup: Path, target: Settings, clock: HandClock, *, hold: bool = False) -> backing.Restored:
    return backing.restore(backup, target, clock=clock, hold=hold, actor="cli:test")


def entries_of(target: Settings, clock: HandClock) -> list[Entry]:
    store = open_store(target, clock=clock, beside=True)
    try:
        return store.read_now().find(Filter(), limit=1000)
    finally:
        store.close()


def left_beside(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if path.name.startswith(f"{target.name}.")]


def pins_in(bodies: Path) -> list[str]:
    return [path.name for path in bodies.iterdir() if path.name.startswith("pins-")]


# -- one instant


def test_a_body_that_is_deleted_while_the_backup_runs_is_in_it(
    store: Store, elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    data = os.urandom(LARGE)
    got = with_large_body(store, data, leased=True)

    def meanwhile(_done: int, _total: int) -> None:
        if store.bodies.path(got.message.body_object).exists():
            delivered(store, got, clock)

    made = backing.take(store, tmp_path / "copy", clock=clock, progress=meanwhile)
    assert not store.bodies.path(got.message.body_object).exists()
    assert (made.bodies, made.missing_bodies) == (1, ())
    restored(tmp_path / "copy", elsewhere(tmp_path / "new"), clock)
    assert (tmp_path / "new" / "bodies" / got.message.body_object).read_bytes() == data
    assert pins_in(store.bodies.root) == []


def test_a_body_that_the_store_had_lost_is_named_and_the_rest_is_backed_up(
    store: Store, elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    lost = with_large_body(store, b"a" * LARGE).message.body_object
    kept = with_large_body(store, b"b" * LARGE).message.body_object
    store.bodies.path(lost).unlink()
    made = backing.take(store, tmp_path / "copy", clock=clock)
    assert made.missing_bodies == (lost,)
    assert (tmp_path / "copy" / "bodies" / kept).exists()
    assert restored(tmp_path / "copy", elsewhere(tmp_path / "new"), clock).missing_bodies == (lost,)


def test_a_file_system_without_hard_links_gets_copies(
    store: Store, clock: HandClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    name = with_large_body(store, b"a" * LARGE).message.body_object
    monkeypatch.setattr(os, "link", no_links)
    assert backing.take(store, tmp_path / "copy", clock=clock).bodies == 1
    assert (tmp_path / "copy" / "bodies" / name).read_bytes() == b"a" * LARGE


# -- whole or not there


def test_a_backup_is_readable_by_its_owner_alone_and_holds_the_key_only_when_asked(
    store: Store, clock: HandClock, settings: Settings, tmp_path: Path
) -> None:
    with_large_body(store, b"a" * LARGE)
    key = Path(settings.data, "secrets.key")
    key.write_bytes(b"k" * 32)
    assert not backing.take(store, tmp_path / "plain", clock=clock).secrets
    assert not (tmp_path / "plain" / "secrets.key").exists()
    assert backing.take(store, tmp_path / "full", clock=clock, key=key).secrets
    assert (tmp_path / "full" / "secrets.key").read_bytes() == b"k" * 32
    for path in (tmp_path / "full", *(tmp_path / "full").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("kind", ["not empty", "a file"])
def test_a_target_that_holds_something_is_refused(store: Store, clock: HandClock, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "copy"
    if kind == "a file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "letter.txt").write_text("mine")
    with pytest.raises(EnvironmentFailed, match="give a directory that is not there yet"):
        backing.take(store, target, clock=clock)
    assert (target if kind == "a file" else target / "letter.txt").read_text() == "mine"
    assert left_beside(target) == []


def test_a_backup_that_fails_half_way_leaves_nothing(store: Store, clock: HandClock, tmp_path: Path) -> None:
    with_large_body(store, b"a" * LARGE)

    def interrupted(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backing.take(store, tmp_path / "copy", clock=clock, progress=interrupted)
    assert not (tmp_path / "copy").exists()
    assert left_beside(tmp_path / "copy") == []
    assert pins_in(store.bodies.root) == []


def test_what_a_killed_backup_left_is_removed_by_the_next_one(store: Store, clock: HandClock, tmp_path: Path) -> None:
    dead, living = tmp_path / "copy.partial-0badc0de", tmp_path / "copy.partial-0badcafe"
    for place in (dead, living, store.bodies.root / "pins-0badc0de"):
        place.mkdir()
        (place / "half").write_text("half")
    descriptor = os.open(living, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        backing.take(store, tmp_path / "copy", clock=clock)
    finally:
        os.close(descriptor)
    assert left_beside(tmp_path / "copy") == [living.name], "another backup that still runs is left alone"
    assert pins_in(store.bodies.root) == []


# -- restoring


@pytest.fixture
def taken(opening: Opener, clock: HandClock, tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A backup of five entries, each in a state of its own; the store it is of has gone on since."""
    store = opening()
    ids: dict[str, int] = {}
    (ids["held"],) = accepted(store, a_message("held@corp.example")).entries
    store.act_now(Action.HOLD, [ids["held"]], actor="ops@corp.example")
    (ids["deferred"],) = accepted(store, a_message("deferred@corp.example")).entries
    (lease,) = claimed(store)
    later = clock.now() + 5 * MINUTE
    waited = Waited(lease.entry, lease.lease, Queue.DELIVERY, None, "451 later", 1, later, 0, clock.now(), "deferred")
    hand(store, waited)
    (ids["leased"],) = accepted(store, a_message("leased@corp.example"), lease_until=clock.now() + MINUTE).entries
    (ids["asked"],) = accepted(store, a_message("asked@corp.example"), lease_until=clock.now() + MINUTE).entries
    assert store.act_now(Action.HOLD, [ids["asked"]], actor="ops@corp.example").requested
    (ids["large"],) = with_large_body(store, b"a" * LARGE).entries
    backing.take(store, tmp_path / "copy", clock=clock)
    clock.move(MINUTE)
    return tmp_path / "copy", ids


def test_everything_that_waits_is_labelled_and_free(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    backup, ids = taken
    made = restored(backup, elsewhere(tmp_path / "new"), clock)
    assert (made.entries, made.labelled, made.held, made.ledger_difference) == (5, 5, 2, 0)
    found = {entry.id: entry for entry in entries_of(elsewhere(tmp_path / "new"), clock)}
    assert all(entry.label & Label.MAYBE_DELIVERED for entry in found.values())
    assert all(entry.lease is None and entry.strikes == 0 for entry in found.values())
    queues = {name: found[ident].queue for name, ident in ids.items()}
    assert queues == {
        "held": Queue.HELD,
        "deferred": Queue.DELIVERY,
        "leased": Queue.PROCESSING,
        "asked": Queue.HELD,  # a person had asked for it while it was worked on
        "large": Queue.PROCESSING,
    }
    assert found[ids["leased"]].next_attempt == clock.now(), "due at once"
    assert found[ids["deferred"]].next_attempt == clock.now() + 4 * MINUTE, "as it was"
    assert found[ids["asked"]].from_queue is Queue.PROCESSING


def test_the_timeline_says_that_it_was_restored_and_by_whom(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    backup, ids = taken
    restored(backup, elsewhere(tmp_path / "new"), clock)
    store = open_store(elsewhere(tmp_path / "new"), clock=clock, beside=True)
    last = store.read_now().events(ids["deferred"])[-1]
    store.close()
    assert (last.kind, last.actor, last.queue, last.at) == ("restored", "cli:test", "delivery", clock.now())
    assert "may have been delivered since" in last.info


def test_with_hold_everything_waits_for_a_person_and_knows_where_it_was(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    backup, ids = taken
    assert restored(backup, elsewhere(tmp_path / "new"), clock, hold=True).held == 5
    found = {entry.id: entry for entry in entries_of(elsewhere(tmp_path / "new"), clock)}
    assert {entry.queue for entry in found.values()} == {Queue.HELD}
    assert found[ids["deferred"]].from_queue is Queue.DELIVERY
    assert found[ids["held"]].from_queue is Queue.PROCESSING
    assert found[ids["held"]].info == "Held by a person", "why it was held before is kept"


@pytest.mark.parametrize("hold", [False, True])
def test_what_a_plan_was_about_to_end_is_held_and_goes_back_to_where_it_stood(
    opening: Opener, elsewhere: Elsewhere, clock: HandClock, tmp_path: Path, hold: bool
) -> None:
    store = opening()
    (waiting,) = accepted(store, a_message("waiting@corp.example")).entries
    (held,) = accepted(store, a_message("held@corp.example", queue=Queue.BULK)).entries
    store.act_now(Action.HOLD, [held], actor="ops@corp.example")
    wish = plans.Wish(Action.DELETE, parse("", clock.now()), "", "ops@corp.example")
    plan = plans.carry_out_now(store, plans.make(store, wish, Plans(), clock))
    plans.carry_out_now(store, plans.apply(store, plan.id, Plans(), clock, actor="ops@corp.example", reason="a test"))
    backing.take(store, tmp_path / "copy", clock=clock)
    assert restored(tmp_path / "copy", elsewhere(tmp_path / "new"), clock, hold=hold).held == 2
    again = open_store(elsewhere(tmp_path / "new"), clock=clock)
    try:
        assert again.act_now(Action.RELEASE, [waiting, held], actor="ops@corp.example").done == (waiting, held)
        clock.move(Plans().undo_window + HOUR)
        assert plans.carry_out_now(again, plans.look_after(again, clock, 0)) == 0, "nothing that was released is ended"
        queues = {entry.id: entry.queue for entry in again.read_now().find(Filter(), limit=9)}
    finally:
        again.close()
    assert queues == {waiting: Queue.PROCESSING, held: Queue.BULK}


def test_a_gateway_goes_on_with_what_was_restored(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    backup, ids = taken
    restored(backup, elsewhere(tmp_path / "new"), clock)
    store = open_store(elsewhere(tmp_path / "new"), clock=clock)
    try:
        assert store.recovered == (0, 0)
        assert {lease.entry for lease in claimed(store)} == {ids["leased"], ids["large"]}
        message = store.read_now().message(ids["large"])
        assert message is not None
        assert store.bodies.read(message.body_object) == b"a" * LARGE
        created, ended, queued = store.read_now().ledger()
        assert sum(created.values()) - sum(ended.values()) == queued == 5
    finally:
        store.close()


def test_console_sessions_are_not_restored(
    store: Store, elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    email = "alice@corp.example"
    person = store.write_now(access.create_user(email=email, password_hash="hash", role="monitor"))
    token = store.write_now(access.begin_session(person, lifetime=DAY, now=clock.now()))
    assert store.read_now().ask(access.find_session(token, now=clock.now())) is not None
    backing.take(store, tmp_path / "copy", clock=clock)
    restored(tmp_path / "copy", elsewhere(tmp_path / "new"), clock)
    again = open_store(elsewhere(tmp_path / "new"), clock=clock, beside=True)
    reader = again.read_now()
    assert reader.ask(access.find_user(email)) is not None
    assert reader.ask(access.find_session(token, now=clock.now())) is None
    again.close()


# -- what is refused

Damage = Callable[[Path], object]


def _flip(backup: Path) -> None:
    (body,) = [path for path in backup.glob("bodies/*/*") if path.is_file()]
    data = bytearray(body.read_bytes())
    data[LARGE // 2] ^= 1
    body.write_bytes(data)


def _rewrite(backup: Path, change: Callable[[dict], object]) -> None:
    file = backup / "manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a bit of a body": (_flip, r"damaged, nothing was restored: bodies/../[0-9a-f]{32}: its bytes"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "is not a backup: it has no manifest.json"),
    "half a manifest": (lambda b: os.truncate(b / "manifest.json", 300), "damaged: manifest.json: "),
    "a path outside": (
        lambda b: _rewrite(b, lambda m: m["files"].append({"path": "../x", "size": 0, "sha256": ""})),
        "damaged: manifest.json lists '../x'",
    ),
    "a newer schema": (
        lambda b: _rewrite(b, lambda m: m.update(schema=9999)),
        "schema 9999, this Postroom knows up to",
    ),
    "a newer form": (lambda b: _rewrite(b, lambda m: m.update(format=2)), "made by the newer release"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_naming_what_is_wrong(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path, damage: str
) -> None:
    is_refused(taken, elsewhere, clock, tmp_path / "new", *DAMAGES[damage])


def is_refused(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, new: Path, inflict: Damage, said: str
) -> None:
    backup, _ = taken
    inflict(backup)
    with pytest.raises(PostroomError, match=said):
        restored(backup, elsewhere(new), clock)
    assert not new.exists(), "nothing was written"


def test_bodies_and_keys_of_another_store_are_not_mixed_with(
    store: Store, settings: Settings, elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    key = Path(settings.data, "secrets.key")
    key.write_bytes(b"k" * 32)
    backing.take(store, tmp_path / "copy", clock=clock, key=key)
    new = tmp_path / "new"
    foreign = Bodies(new / "bodies").put(b"somebody's")
    with pytest.raises(PostroomError, match="holds 1 bodies of another store"):
        restored(tmp_path / "copy", elsewhere(new), clock)
    (new / "bodies" / foreign).unlink()
    (new / "secrets.key").write_bytes(b"o" * 32)
    with pytest.raises(PostroomError, match="another secrets key"):
        restored(tmp_path / "copy", elsewhere(new), clock)
    (new / "secrets.key").unlink()
    restored(tmp_path / "copy", elsewhere(new), clock)
    assert (new / "secrets.key").read_bytes() == b"k" * 32
    assert (new / "secrets.key").stat().st_mode & 0o777 == 0o600


def test_no_gateway_starts_where_a_restore_is_under_way(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    backup, _ = taken
    refused: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        if done > total * 3 // 4 and not refused:
            with pytest.raises(PostroomError) as told:
                open_store(elsewhere(tmp_path / "new"), clock=clock)
            refused.append(str(told.value))

    backing.restore(backup, elsewhere(tmp_path / "new"), clock=clock, hold=False, actor="x", progress=meanwhile)
    assert "in use by another gateway" in refused[0]
