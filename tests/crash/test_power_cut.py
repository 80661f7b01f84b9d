"""A power cut at any moment takes no message that was acknowledged (docs/reliability.md has the model in words)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.disk import Chance, Disk, Everything, Nothing
from tests.crash.powercut import Examination, Recording, examine, record, stopped
from tests.system.conftest import need

SEED = 20_261_122
CUTS = 30


@pytest.mark.system
def test_a_power_cut_at_any_moment_takes_no_message_that_was_acknowledged(tmp_path: Path) -> None:
    recording = Recording(need("strace"), tmp_path, SEED)
    with recording.fickle:
        record(recording, mails=15)
        looked_for, problems = examine(recording, CUTS, random.Random(SEED))
    assert not problems, f"seed {SEED}"
    assert not recording.load.problems
    assert len(recording.acknowledgements) == len(recording.load.acked) == 3 * 4 * 15
    assert looked_for > CUTS


@pytest.mark.system
@pytest.mark.parametrize(
    ("spoiled", "loss"),
    [
        ("commits not synced", "cannot be opened|neither queued nor ended"),
        ("names of bodies not synced", "the body of"),
    ],
)
def test_a_store_that_does_not_sync_would_be_found(tmp_path: Path, spoiled: str, loss: str) -> None:
    recording = Recording(need("strace"), tmp_path, SEED, spoiled)
    with recording.fickle:
        recording.live("only", 10, stopped)
    large = [line for line, subject in recording.acknowledgements if int(subject.rpartition(" ")[2]) > 128 * 1024]
    assert len(large) == 4
    problems = []
    for line in large:
        examination = Examination(recording, line + 1, Nothing(), tmp_path / f"cut-{line}")
        examination.look()
        problems += examination.problems
    assert any(word in problem for word in loss.split("|") for problem in problems), problems


@pytest.mark.system
def test_a_backup_and_a_restore_that_say_they_are_done_are_on_the_disk(tmp_path: Path) -> None:
    recording = Recording(need("strace"), tmp_path, SEED)
    recording.fickle.odds = [("defer", 1)]  # so that something is left to back up
    with recording.fickle:
        recording.live("only", 10, stopped)
    root = recording.root
    recording.command("backup", "backup", root / "kept/backup", "--data", root / "data")
    recording.command("restore", "restore", root / "kept/backup", "--data", root / "back/again")
    for target, least in (("kept/backup/", 4), ("back/again/", 4)):
        after_cut = recording.disk.after_cut(recording.disk.lines, Nothing())
        left, made = (
            {path: content for path, content in there.items() if path.startswith(target) and not path.endswith("/lock")}
            for there in (after_cut, recording.disk.living())
        )
        assert len([content for content in made.values() if content is not None and len(content) > 128 * 1024]) >= least
        assert left == made, target


DATA = "/disk/data"
TRACE = f"""\
1 mkdir("{DATA}", 0700) = 0
1 openat(AT_FDCWD</>, "/disk", O_RDONLY) = 9</disk>
1 fsync(9</disk>) = 0
1 openat(AT_FDCWD</>, "{DATA}/a", O_RDWR|O_CREAT, 0600) = 3<{DATA}/a>
1 write(3<{DATA}/a>, "kept", 4) = 4
1 fdatasync(3<{DATA}/a>) = 0
1 openat(AT_FDCWD</>, "{DATA}", O_RDONLY) = 4<{DATA}>
1 fsync(4<{DATA}>) = 0
1 pwrite64(3<{DATA}/a>, "K", 1, 0 <unfinished ...>
2 fsync(3<{DATA}/a>) = 0
1 <... pwrite64 resumed>) = 1
1 rename("{DATA}/a", "{DATA}/b") = 0
1 unlink("{DATA}/b") = 0
""".splitlines()


@pytest.fixture
def disk() -> Disk:
    disk = Disk(Path("/disk"))
    disk.play(TRACE)
    assert not disk.unknown
    return disk


def test_what_was_synced_is_kept_and_what_was_not_may_go(disk: Disk) -> None:
    assert disk.after_cut(3, Nothing()) == {"data": None}, "the sync has returned at line 2"
    assert disk.after_cut(2, Nothing()) == {}, "its end is not before the cut"
    assert disk.after_cut(7, Nothing()) == {"data": None}, "a synced file without a synced name"
    assert disk.after_cut(8, Nothing()) == {"data": None, "data/a": b"kept"}
    assert disk.after_cut(8, Everything()) == {"data": None, "data/a": b"kept"}


def test_a_sync_does_not_cover_a_write_that_had_not_ended_when_it_began(disk: Disk) -> None:
    assert disk.after_cut(11, Nothing())["data/a"] == b"kept"
    assert disk.after_cut(11, Everything())["data/a"] == b"Kept"


def test_a_rename_happens_as_a_whole_or_not_at_all(disk: Disk) -> None:
    assert set(disk.after_cut(12, Nothing())) == {"data", "data/a"}
    assert set(disk.after_cut(12, Everything())) == {"data", "data/b"}
    assert disk.after_cut(13, Everything()) == disk.living() == {"data": None}


def test_a_write_that_is_not_synced_may_be_torn_between_its_sectors() -> None:
    disk = Disk(Path("/disk"))
    lines = [
        '1 openat(AT_FDCWD</>, "/disk/a", O_RDWR|O_CREAT, 0600) = 3</disk/a>',
        '1 openat(AT_FDCWD</>, "/disk", O_RDONLY) = 4</disk>',
        "1 fsync(4</disk>) = 0",
        f'1 pwrite64(3</disk/a>, "{"x" * 2048}", 2048, 100) = 2048',
    ]
    disk.play(lines)
    chance = Chance(random.Random(SEED))
    found = {disk.after_cut(9, chance)["a"] for _ in range(200)}
    assert {b"", bytes(100) + b"x" * 2048} < found
    for content in found:
        assert content is not None
        sectors = [set(content[begin : begin + 512]) for begin in range(512, 2048, 512)]
        assert all(len(sector) <= 1 for sector in sectors), "a sector is whole"
