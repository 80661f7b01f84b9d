"""A snapshot of `Tx`: one state for reads, all or nothing for writes, and the first failure is the one that is
raised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from postroom.store.engine import FULL
from postroom.store.sqlite import connections
from postroom.store.sqlite.tx import SqliteTx


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[SqliteTx]:
    tx = SqliteTx(connections.writing(tmp_path / "postroom.db"))
    tx.run("CREATE TABLE stored (bytes BLOB)")
    yield tx
    tx.close()


def stored(tx: SqliteTx) -> int:
    return int(tx.rows("SELECT count(*) FROM stored")[0][0])


def test_what_is_written_in_a_snapshot_that_fails_is_undone_and_the_rest_is_kept(tx: SqliteTx) -> None:
    tx.run("BEGIN IMMEDIATE")
    tx.run("INSERT INTO stored VALUES (x'01')")
    with contextlib.suppress(ValueError), tx.snapshot():
        tx.run("INSERT INTO stored VALUES (x'02')")
        raise ValueError
    with tx.snapshot():
        tx.run("INSERT INTO stored VALUES (x'03')")
    tx.run("COMMIT")
    assert tx.rows("SELECT bytes FROM stored ORDER BY 1") == [(b"\x01",), (b"\x03",)]


@pytest.mark.parametrize("within", [True, False], ids=["in a transaction", "on its own"])
def test_a_full_disk_in_a_snapshot_is_called_a_full_disk(tx: SqliteTx, within: bool) -> None:
    """SQLite has rolled back everything by then, the savepoint as well."""
    tx.rows("PRAGMA max_page_count=10")
    if within:
        tx.run("BEGIN IMMEDIATE")
    with pytest.raises(FULL), tx.snapshot():
        tx.run("INSERT INTO stored VALUES (zeroblob(1000000))")
    if tx.in_snapshot:
        tx.run("ROLLBACK")
    with tx.snapshot():
        assert stored(tx) == 0
    assert not tx.in_snapshot


def test_a_snapshot_of_a_reader_does_not_see_later_commits(tx: SqliteTx, tmp_path: Path) -> None:
    reader = SqliteTx(connections.reading(tmp_path / "postroom.db"))
    with reader.snapshot():
        assert stored(reader) == 0
        tx.run("INSERT INTO stored VALUES (x'01')")
        assert stored(reader) == 0
    assert stored(reader) == 1
    reader.close()


def test_a_read_that_fails_half_way_leaves_no_snapshot_behind(tx: SqliteTx, tmp_path: Path) -> None:
    """Or the log could not restart until that thread reads again."""
    for text in ("x'ff'", "x'61'"):
        tx.run(f"INSERT INTO stored VALUES (CAST({text} AS TEXT))")
    reader = SqliteTx(connections.reading(tmp_path / "postroom.db"))
    assert reader.rows("SELECT bytes FROM stored") == [("\N{REPLACEMENT CHARACTER}",), ("a",)]
    with pytest.raises(UnicodeDecodeError):
        reader.rows("WITH found AS (SELECT bytes FROM stored) SELECT bytes FROM found")
    assert not reader.in_snapshot
    assert reader.connection.txn_state() == apsw.SQLITE_TXN_NONE
    assert len(reader.rows("SELECT bytes FROM stored")) == 2
    reader.close()
