"""What is refused before a store is opened, and what a crash may leave that is not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw
import pytest

from postroom.errors import StoreUnusable
from postroom.store.bodies import Bodies
from postroom.store.sqlite.opening import check_library, look_before_opening


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    return Bodies(tmp_path / "bodies")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A database whose last commits are in its log alone, as a kill leaves it."""
    path, live = tmp_path / "postroom.db", tmp_path / "live.db"
    connection = apsw.Connection(str(live))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE mail (id)")
    connection.execute("INSERT INTO mail VALUES (1)")
    shutil.copy(live, path)
    shutil.copy(f"{live}-wal", f"{path}-wal")
    connection.close()
    return path


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_the_sqlite_of_this_program_is_new_enough() -> None:
    check_library(apsw.sqlite_lib_version())
    check_library("4.0")


@pytest.mark.parametrize("version", ["3.37.2", "3.7.17", "2.8.0"])
def test_an_old_sqlite_is_refused_with_the_remedy(version: str) -> None:
    with pytest.raises(
        StoreUnusable, match=rf"SQLite {version} is too old: 3\.38 or newer is needed; install a newer apsw"
    ):
        check_library(version)


def test_a_sound_log_is_no_reason_to_refuse(store: Path, bodies: Bodies, tmp_path: Path) -> None:
    assert log_of(store).stat().st_size > 32
    bodies.put(b"x")
    look_before_opening(store, bodies, tmp_path)


@pytest.mark.parametrize("at", [0, 3, 5, 8, 17, 23, 24, 31])
def test_any_damage_in_the_header_of_the_log_is_seen(store: Path, bodies: Bodies, tmp_path: Path, at: int) -> None:
    data = bytearray(log_of(store).read_bytes())
    data[at] ^= 0x40
    log_of(store).write_bytes(data)
    with pytest.raises(StoreUnusable, match=r"postroom\.db-wal is damaged .* restore a backup"):
        look_before_opening(store, bodies, tmp_path)


@pytest.mark.parametrize("log", [b"", b"\x37\x7f", b"\0" * 4096])
def test_a_log_that_never_had_a_commit_is_no_reason_to_refuse(
    store: Path, bodies: Bodies, tmp_path: Path, log: bytes
) -> None:
    log_of(store).write_bytes(log)
    look_before_opening(store, bodies, tmp_path)


def test_a_first_start_and_one_that_was_killed_are_no_reason_to_refuse(bodies: Bodies, tmp_path: Path) -> None:
    path = tmp_path / "postroom.db"
    look_before_opening(path, bodies, tmp_path)
    path.touch()
    look_before_opening(path, bodies, tmp_path)


def test_an_emptied_store_is_not_taken_for_a_new_one(store: Path, bodies: Bodies, tmp_path: Path) -> None:
    os.truncate(store, 0)
    with pytest.raises(StoreUnusable, match=r"is empty, but its log postroom\.db-wal holds \d+ bytes"):
        look_before_opening(store, bodies, tmp_path)
    log_of(store).unlink()
    look_before_opening(store, bodies, tmp_path)
    (tmp_path / "admin.json").write_text("{}")
    with pytest.raises(StoreUnusable, match=r"is empty, but there was one \(admin\.json is there\)"):
        look_before_opening(store, bodies, tmp_path)


def test_bodies_without_a_store_are_not_left_to_a_new_one(bodies: Bodies, tmp_path: Path) -> None:
    bodies.put(b"x")
    with pytest.raises(StoreUnusable, match=r"is gone, but .* holds 1 message bodies, which a new store would delete"):
        look_before_opening(tmp_path / "postroom.db", bodies, tmp_path)
