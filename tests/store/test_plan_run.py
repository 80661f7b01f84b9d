"""What many entries at once may cost mail: the size of a step, and the line before SQLite's lock."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from postroom.store.plans.run import LEAST, LEAST_COMMITTED, MOST, STEP_TIME, Pace
from postroom.store.queue import actions
from postroom.store.sqlite import connections as sqlite

SYNC = 0.030  # seconds: a disk that is slow whatever it is given


def settled(pace: Pace, step: float, commit: float, *, fixed: float = SYNC) -> int:
    """The size after many steps whose cost, in seconds for each entry, is this."""
    for _ in range(50):
        pace.learn(pace.size * step, fixed + pace.size * commit)
    return pace.size


def test_a_step_is_as_large_as_its_time_allows() -> None:
    assert settled(Pace(), 0.000_020, 0) in range(150, 301)
    assert settled(Pace(), 0.001, 0) == LEAST
    assert settled(Pace(), 0.000_001, 0) == MOST
    assert settled(Pace(20), 0.000_001, 0) == 20


def test_what_a_step_adds_to_its_commit_counts_and_the_disks_own_time_does_not() -> None:
    assert settled(Pace(), 0.000_001, 0, fixed=1.0) == MOST
    alone = settled(Pace(), 0.000_010, 0)
    assert LEAST_COMMITTED <= settled(Pace(), 0.000_010, 0.000_010) < alone


def test_one_slow_commit_does_not_make_the_steps_tiny() -> None:
    pace = Pace()
    settled(pace, 0.000_001, 0)
    before = pace.size
    pace.learn(0.001, SYNC + 100 * STEP_TIME)
    assert pace.size == before // 2
    for _ in range(20):
        pace.learn(0.001, SYNC + 100 * STEP_TIME)
    assert pace.size == LEAST_COMMITTED


def test_a_command_rests_between_its_slices_for_as_long_as_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rests = [0.0], list[float]()
    monkeypatch.setattr(actions, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=rests.append))
    for number, part in enumerate(actions.paced(range(500), notify=False)):
        assert part == range(500)[number * actions.SLICE :][: actions.SLICE]
        now[0] += 0.004 if number else 5.0
    assert rests == pytest.approx([actions.PAUSE, 0.004, 0.004])


def test_a_writer_behind_another_process_looks_for_the_lock_every_millisecond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, ours = sqlite.writing(tmp_path / "postroom.db"), sqlite.writing(tmp_path / "postroom.db")
    other.execute("BEGIN IMMEDIATE")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 40:
            other.execute("COMMIT")

    monkeypatch.setattr(sqlite, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    ours.execute("BEGIN IMMEDIATE")
    assert looks == [sqlite.BUSY_PAUSE] * 40
    ours.execute("COMMIT")
    ours.close()
    other.close()


def test_a_lock_that_is_never_given_back_is_an_environments_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, ours = sqlite.writing(tmp_path / "postroom.db"), sqlite.writing(tmp_path / "postroom.db")
    other.execute("BEGIN IMMEDIATE")
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 1.0

    monkeypatch.setattr(sqlite, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    for _ in range(2):  # each time it waits as long
        began = now[0]
        with pytest.raises(apsw.BusyError):
            ours.execute("BEGIN IMMEDIATE")
        assert (now[0] - began) * 1000 in range(sqlite.BUSY_TIMEOUT, sqlite.BUSY_TIMEOUT + 2001)
    other.close()
    ours.close()
