"""The reasons in the search index: which texts of the dictionary contain a text, without reading all of it.

Taken in by the thread that fills the index (search_index.py), a thousand at a time once so many are there: what is newer is read, 0.1 us
a text. A text that was forgotten stays in it until the next sweep, and names no entry. Ids are never given again, because the
newest text is never forgotten (sql.forget_infos). Fails: apsw errors pass through.
"""

from __future__ import annotations

from postroom.store.engine import Tx
from postroom.store.sqlite.rarity import LENGTH, phrase

STEP = 1_000  # texts of one transaction, and how many must be there for one

SCHEMA = """CREATE VIRTUAL TABLE reasons USING fts5(
  text, content='', contentless_delete=1, tokenize='trigram case_sensitive 1'
)"""
# (What is done with the index happens where it is the main file, and the store is attached as `store`.)
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
# (And looked for where the store is the main file, and the index is attached as `find`.)
_CONTAINING = (
    "SELECT rowid FROM find.reasons WHERE reasons MATCH ? UNION ALL SELECT id FROM main.info "
    "WHERE id > (SELECT number FROM find.state WHERE what = 'reasons') AND instr(folded, ?) > 0"
)
_CONTAINING_READ = "SELECT id FROM main.info WHERE instr(folded, ?) > 0"


def take_in(tx: Tx) -> int:
    """Inside a transaction: the next texts, when there are enough of them; how many."""
    [(reach,)] = tx.rows(_REACH)
    upper, number = tx.rows(_UPPER, (reach, STEP))[0]
    if number < STEP:
        return 0
    tx.rows(_TAKE_IN, (reach, upper))
    tx.rows(_REACHED, (upper,))
    return int(number)


def sweep(tx: Tx) -> None:
    """Inside a transaction: what is forgotten goes, and what is missing comes, whatever may have happened to the file."""
    tx.rows(_FORGOTTEN)
    tx.rows(_MISSING, tx.rows(_REACH)[0])


def containing(tx: Tx, needle: str, *, attached: bool) -> list[int]:
    """Ids of the texts that contain a folded one; some may be forgotten already."""
    if attached and len(needle) >= LENGTH:
        rows = tx.rows(_CONTAINING, (phrase(needle, None), needle))
    else:
        rows = tx.rows(_CONTAINING_READ, (needle,))
    return [ident for (ident,) in rows]
