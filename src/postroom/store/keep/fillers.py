"""What follows the mail some seconds behind, on a thread of its own: the search index, and the counters.

Promises: mail that passes at once pays for neither; the counters are written by the writer, in steps of some milliseconds.
Fails: as search_index.py does; a store that cannot be written is left alone.
"""

from __future__ import annotations

from postroom.store.find import counters
from postroom.store.sqlite.search_index import Filler
from postroom.store.store import Store
from postroom.telemetry import Counts, Log


def start_fillers(store: Store, *, log: Log, counts: Counts) -> None:
    """Start it, in the serving process, once; closing the store ends it."""
    filler = Filler(store.index, log=log, commits=lambda: counts.commits, advance=lambda newest: advance(store, newest))
    store.index.filler = filler
    filler.start()


def advance(store: Store, newest: int) -> int:
    """A step of the counters; 0 = nothing to do."""
    if store.failing or not counters.wanting(store.read_now().tx, newest):
        return 0
    return store.write_now(lambda tx: counters.advance(tx, newest))
