"""A backup beside a writer, page by page; its pins; a restore that finds or leaves a database file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.clock import HandClock
from postroom.errors import EnvironmentFailed, PostroomError
from postroom.settings import Settings
from postroom.store.backup import backup as backing
from postroom.store.backup.backup import back_up
from postroom.store.backup.pins import Pins, remove_left_overs
from postroom.store.backup.restore import restore
from postroom.store.bodies import Bodies
from postroom.store.records import Accepted
from postroom.store.sqlite import copying
from postroom.store.store import Store
from tests.conformance.conftest import Elsewhere
from tests.conformance.driven import a_message, accepted
from tests.conformance.test_backup import (
    LARGE,
    Damage,
    delivered,
    entries_of,
    is_refused,
    pins_in,
    restored,
    taken,
    with_large_body,
)

__all__ = ["taken"]  # a fixture


# -- one instant


def test_a_backup_has_what_was_there_at_its_instant_though_the_writer_goes_on(
    store: Store, elsewhere: Elsewhere, clock: HandClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "STEP", 8)
    for number in range(60):
        accepted(store, a_message(f"before{number}@corp.example", body=b"x" * 9_000))
    copied: list[int] = []

    def meanwhile(done: int, _total: int) -> None:
        copied.append(done)
        assert len(copied) < 1000, "each write makes it begin again"
        accepted(store, a_message("after@corp.example", body=b"y" * 9_000))

    made = back_up(store, tmp_path / "copy", clock=clock, progress=meanwhile)

    assert len(copied) > 10, "the copy went in steps"
    assert copied == sorted(copied), "a writer made it begin again"
    assert (made.entries, made.messages, made.ledger_difference) == (60, 60, 0)
    restored(tmp_path / "copy", elsewhere(tmp_path / "new"), clock)
    assert {entry.recipient for entry in entries_of(elsewhere(tmp_path / "new"), clock)} == {
        f"before{number}@corp.example" for number in range(60)
    }


class Restless(Bodies):
    """Large mail arrives behind each look at the directory, and passes before it can be pinned."""

    arrive: Callable[[], None]

    def names(self) -> list[str]:
        found = super().names()
        self.arrive()
        return found


class Passing(HandClock):
    """Asked for the time after the snapshot was read, before its bodies are pinned."""

    leave: Callable[[], None]

    def now(self) -> int:
        if threading.current_thread() is threading.main_thread():  # under the write lock nothing can leave
            self.leave()
        return super().now()


def test_mail_that_passes_faster_than_it_can_be_pinned_is_caught_all_the_same(
    store: Store, elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    under_way: list[Accepted] = []
    arrived = 0

    def arrive() -> None:
        nonlocal arrived
        arrived += 1
        under_way.append(with_large_body(store, b"%09d" % arrived * 20_000, leased=True))

    def leave() -> None:
        while under_way:
            delivered(store, under_way.pop(), clock)

    restless, passing = Restless(store.bodies.root), Passing(clock.now())
    restless.arrive, passing.leave = arrive, leave
    store.bodies = restless
    made = back_up(store, tmp_path / "copy", clock=passing)
    assert arrived == backing.TRIES + 1, "each try found a body gone"
    assert (made.entries, made.bodies, made.missing_bodies) == (1, 1, ())
    restored(tmp_path / "copy", elsewhere(tmp_path / "new"), clock)
    (kept,) = Bodies(tmp_path / "new" / "bodies", create=False).names()
    assert (tmp_path / "new" / "bodies" / kept).read_bytes() == b"%09d" % arrived * 20_000


# -- whole or not there


def test_pins_are_removed_only_when_their_backup_has_ended(store: Store) -> None:
    name = with_large_body(store, b"a" * LARGE).message.body_object
    with Pins(store.bodies) as pins:
        assert pins.hold([name]) == []
        assert remove_left_overs(store.bodies.root) == 0
        assert pins.path(name).exists()
        with pytest.raises(EnvironmentFailed, match="another backup"):
            Pins(store.bodies)
    (store.bodies.root / "pins-dead").mkdir()
    assert remove_left_overs(store.bodies.root) == 1
    assert pins_in(store.bodies.root) == []
    assert store.bodies.names() == [name]


def test_a_restore_that_was_interrupted_can_be_repeated(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path
) -> None:
    backup, _ = taken

    def interrupted(done: int, total: int) -> None:
        if done > total * 3 // 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(
            backup, elsewhere(tmp_path / "new"), clock=clock, hold=False, actor="x", progress=interrupted
        )  # fmt: skip
    assert not (tmp_path / "new" / "postroom.db").exists()
    assert restored(backup, elsewhere(tmp_path / "new"), clock).entries == 5


# -- what is refused

DAMAGES: dict[str, tuple[Damage, str]] = {
    "the database cut": (lambda b: os.truncate(b / "postroom.db", 4096), "damaged, nothing was restored: postroom.db"),
    "the database gone": (lambda b: (b / "postroom.db").unlink(), "postroom.db: No such file"),
}


def test_a_target_that_holds_a_store_is_refused(
    taken: tuple[Path, dict[str, int]], settings: Settings, clock: HandClock
) -> None:
    backup, _ = taken
    with pytest.raises(PostroomError, match=r"there is a store at .*postroom.db already: .* move .* away"):
        restored(backup, settings, clock)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_backup_whose_database_is_damaged_is_refused(
    taken: tuple[Path, dict[str, int]], elsewhere: Elsewhere, clock: HandClock, tmp_path: Path, damage: str
) -> None:
    is_refused(taken, elsewhere, clock, tmp_path / "new", *DAMAGES[damage])
