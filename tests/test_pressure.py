"""Back-pressure by the numbers: when intake slows, when it closes, when it opens again, and what is said about it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from postroom.clock import DAY, HandClock
from postroom.settings import Limits, Settings
from postroom.smtp_in import replies
from postroom.store.store import Store, open_store
from postroom.telemetry import Log
from postroom.work import pressure
from postroom.work.pressure import Pressure
from tests.store.conftest import a_message, accepted

MIB = 1024 * 1024
LIMITS = Limits(queued_entries=10, disk_low=0)


class Scene:
    def __init__(self, store: Store, clock: HandClock) -> None:
        self.written = io.StringIO()
        self.clock = clock
        self.store = store
        self.pressure = Pressure(LIMITS, store, clock=clock, log=Log(self.written))

    def events(self) -> list[str]:
        return [line.split()[2] for line in self.written.getvalue().splitlines()]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    clock = HandClock(1_800_000_000_000)
    store = open_store(Settings(data=str(tmp_path)), clock=clock)
    yield Scene(store, clock)
    store.close()


async def test_intake_slows_down_and_then_closes_as_the_backlog_grows(scene: Scene) -> None:
    delays = []
    for _ in range(10):
        delays.append(scene.pressure.delay())
        assert scene.pressure.admission() is None
        accepted(scene.store, a_message())
        await scene.pressure.count()
    assert delays[:9] == [0.0] * 9
    assert scene.pressure.delay() == pytest.approx(pressure.SLOWEST)
    assert scene.pressure.admission() is replies.BACKLOG_FULL
    assert scene.pressure.reasons() == ["backlog: 10 entries queued, 10 allowed"]
    assert scene.pressure.blocked() == "", "what is queued is worked on"
    await scene.pressure.count()
    assert scene.events() == ["backlog_full"]


async def test_intake_opens_again_a_little_below_the_bound(scene: Scene) -> None:
    limits = msgspec.structs.replace(LIMITS, queued_entries=100)
    scene.pressure.apply(limits)
    for number, admitted in ((99, True), (100, False), (99, False), (98, False), (97, True), (99, True), (100, False)):
        scene.pressure._note_backlog(number)
        assert (scene.pressure.admission() is None) == admitted, number
    assert scene.events() == ["backlog_full", "backlog_fine", "backlog_full"]


async def test_no_bound_counts_nothing(scene: Scene) -> None:
    scene.pressure.apply(msgspec.structs.replace(LIMITS, queued_entries=0))
    accepted(scene.store, a_message())
    scene.pressure.look()
    assert scene.pressure._counting is None
    assert scene.pressure.delay() == 0.0
    assert scene.pressure.admission() is None


@pytest.mark.parametrize(
    ("free", "delay", "reply"),
    [(300, 0.0, None), (125, 0.0, None), (112.5, 0.5, None), (100, 1.0, None), (99, 1.0, replies.DISK_LOW)],
)
async def test_intake_slows_down_and_then_closes_as_the_disk_fills(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, free: float, delay: float, reply: bytes | None
) -> None:
    scene.pressure.apply(Limits(queued_entries=0, disk_low=100 * MIB))
    blocks = int(free * MIB) // 4096
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=blocks, f_frsize=4096))
    scene.pressure.look()
    assert scene.pressure.delay() == pytest.approx(delay, abs=0.01)
    assert scene.pressure.admission() is reply
    assert bool(scene.pressure.blocked()) == (reply is not None)


class Disks:
    """One for the store and one for bodies, with as many MiB free as the test says."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.bodies = 1000.0, 1000.0
        root, stat = scene.store.bodies.root, os.stat

        def statvfs(path: Path) -> SimpleNamespace:
            free = self.bodies if path == root else self.store
            return SimpleNamespace(f_bavail=int(free * MIB) // 4096, f_frsize=4096)

        monkeypatch.setattr(os, "statvfs", statvfs)
        monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_dev=7) if path == root else stat(path))


async def test_bodies_on_a_disk_of_their_own_close_intake_and_do_not_stop_what_makes_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(scene, monkeypatch)
    scene.pressure.apply(Limits(queued_entries=0, disk_low=100 * MIB))
    for free, delay, reply in ((1000, 0.0, None), (112.5, 0.5, None), (99, 1.0, replies.DISK_LOW), (101, 0.96, None)):
        disks.bodies = free
        scene.pressure.look()
        assert scene.pressure.delay() == pytest.approx(delay, abs=0.01)
        assert scene.pressure.admission() is reply
        assert scene.pressure.blocked() == "", "delivered mail makes room"
        told = [f"disk low: 99 MiB free, at least 100 MiB needed: {scene.store.bodies.root}"]
        assert scene.pressure.reasons() == (told if reply else [])
    assert scene.events() == ["disk_low", "disk_fine"]
    disks.store = disks.bodies = 50
    scene.pressure.look()
    assert "/bodies" not in scene.pressure.blocked()
    assert len(scene.pressure.reasons()) == 2, "each disk by itself"


async def test_the_search_index_stops_growing_before_mail_feels_anything(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(scene, monkeypatch)
    scene.pressure.apply(Limits(queued_entries=0, disk_low=100 * MIB))
    for free, halted in ((151, False), (149, True), (174, True), (176, False), (151, False)):
        disks.store = free
        scene.pressure.look()
        assert scene.store.index.halted == halted, free
        assert scene.pressure.delay() == 0.0
    assert scene.events() == ["search_index_halted", "search_index_goes_on"]


async def test_a_clock_that_jumps_is_logged_and_one_that_is_set_back_has_a_consequence(scene: Scene) -> None:
    set_back: list[str] = []
    scene.pressure.on_clock_set_back = lambda: set_back.append("now")
    scene.pressure.apply(Limits(queued_entries=0, disk_low=0))
    scene.pressure.look()
    for jump, consequences in ((1000, 0), (-30_000, 0), (3 * DAY, 0), (-2 * DAY, 1), (0, 1)):
        scene.clock.move(jump)
        scene.pressure.look()
        assert len(set_back) == consequences, jump
    assert scene.events() == ["clock_set", "clock_set"]


def test_as_many_descriptors_are_left_as_can_be_opened() -> None:
    left = pressure.descriptors_left()
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    try:
        assert left - pressure.descriptors_left() >= 1
    finally:
        for one in opened:
            os.close(one)
