"""What the crash tests ask of a store would be found if it were wrong."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import apsw
import pytest

from postroom.settings import Settings
from postroom.store.sqlite.search_index import Filling, SearchIndex
from postroom.store.store import open_store
from postroom.telemetry import Log
from tests.crash import older
from tests.crash.agreement import disagreements


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """With mail that waits, and all of it in the search index."""
    data = tmp_path / "data"
    older.make(data)
    open_store(Settings(data=str(data)), log=Log(io.StringIO())).close()
    path = data / "postroom.db"
    with contextlib.closing(Filling(SearchIndex(path, beside=False))) as filling:
        assert filling.fill(filling.newest()) >= older.MESSAGES
    assert disagreements(path) == []
    return path


@pytest.mark.parametrize(
    ("file", "damage", "what"),
    [
        ("postroom.db", "UPDATE ledger SET number = number - 1", "the ledger differs by -1"),
        ("postroom.db", "UPDATE tally SET number = number + 1", "of the counters by hour are wrong"),
        (
            "search.db",
            "DELETE FROM ix WHERE rowid = (SELECT max(id) FROM ix_docsize)",
            "1 entries up to the search index",
        ),
    ],
)
def test_what_does_not_agree_is_found(database: Path, file: str, damage: str, what: str) -> None:
    with contextlib.closing(apsw.Connection(str(database.with_name(file)))) as connection:
        connection.execute(damage)
    [found] = disagreements(database)
    assert what in found
