"""The reasons in the search index: which texts of the dictionary contain a text, without reading the dictionary.

The thread that fills the index (search_index.py) takes texts in a thousand at a time; newer ones are read, at 0.1 us a
text. A deleted text stays in the index until the next sweep, and no entry has it. Ids are never given twice, because
the newest text is never deleted (`keep/upkeep.forget_infos`). Fails: apsw errors pass through.
"""

from __future__ import annotations

from postroom.store.engine import Tx
from postroom.store.sqlite.rarity import LENGTH, phrase

STEP = 1_000  # texts of one transaction, which waits until there are so many

SCHEMA = """CREATE VIRTUAL TABLE reasons USING fts5(
  text, content='', contentless_delete=1, tokenize='trigram case_sensitive 1'
)"""
# Statements that fill: the index is the main file, and the store is attached as `store`.
_UPPER = "SELECT max(id), count(*) FROM (SELECT id FROM store.info WHERE id > ? ORDER BY id LIMIT ?)"
_TAKE_IN = "INSERT INTO reasons (rowid, text) SELECT id, folded FROM store.info WHERE id > ? AND id <= ? ORDER BY id"
_FORGOTTEN = (
    "DELETE FROM reasons WHERE rowid IN (SELECT id FROM reasons_docsize WHERE id NOT IN (SELECT id FROM store.info))"
)
_MISSING = (
    "INSERT INTO reasons (rowid, text) SELECT id, folded FROM store.info "
    "WHERE id <= ? AND id NOT IN (SELECT id FROM reasons_docsize) ORDER BY id"
)
_REACH = "SELECT number FROM state WHERE what = 'reasons'"
_REACHED = "UPDATE state SET number = ? WHERE what = 'reasons'"
# Statements that search: the store is the main file, and the index is attached as `find`.
_CONTAINING = (
    "SELECT rowid FROM find.reasons WHERE reasons MATCH ? UNION ALL SELECT id FROM main.info "
    "WHERE id > (SELECT number FROM find.state WHERE what = 'reasons') AND instr(folded, ?) > 0"
)
_CONTAINING_READ = "SELECT id FROM main.info WHERE instr(folded, ?) > 0"


def take_in(tx: Tx) -> int:
    """Inside a transaction: take in the next texts if there are enough of them. Returns how many."""
    reach = tx.value(_REACH)
    [(upper, number)] = tx.rows(_UPPER, (reach, STEP))
    if number < STEP:
        return 0
    tx.run(_TAKE_IN, (reach, upper))
    tx.run(_REACHED, (upper,))
    return int(number)


def sweep(tx: Tx) -> None:
    """Inside a transaction: remove deleted texts and add missing ones, whatever has happened to the file."""
    tx.run(_FORGOTTEN)
    tx.run(_MISSING, (tx.value(_REACH),))


def containing(tx: Tx, needle: str, *, attached: bool) -> list[int]:
    """Ids of the texts that contain a folded text. Some may be deleted already."""
    if attached and len(needle) >= LENGTH:
        rows = tx.rows(_CONTAINING, (phrase(needle, None), needle))
    else:
        rows = tx.rows(_CONTAINING_READ, (needle,))
    return [ident for (ident,) in rows]
