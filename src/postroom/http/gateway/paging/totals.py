"""The exact number of matches, counted again only when it can have changed.

Without a text the store's counters have it (store/find/counters.py). Counting a search walks every match (70 ms for a
word in a fifth of a million). SQLite tells a connection whether anything was committed since its last look
(`data_version`, also by other processes); until then a known total needs only a correction for its moving window. Known
totals are kept per thread, as readers and their versions are; the same search goes to the same thread
(store/find/readers.py).
Promises: the same number as `reader.count`. Fails: as `reader.count` does.
"""

from __future__ import annotations

import threading

import msgspec

from postroom.clock import Millis
from postroom.model import Filter
from postroom.store.find.counters import is_plain
from postroom.store.find.reader import Reader

MAX_KNOWN = 64  # filters per thread


class _Known(msgspec.Struct, frozen=True):
    since: Millis
    until: Millis
    total: int


class _Thread(threading.local):
    def __init__(self) -> None:
        self.version: object = None
        self.known: dict[Filter, _Known] = {}


class Totals:
    def __init__(self) -> None:
        self._thread = _Thread()

    def count(self, reader: Reader, filter: Filter) -> int:
        """Inside the snapshot that the page is read in, for a filter with a window. SearchTooBroad when it takes too
        long."""
        if is_plain(filter):  # the counters know
            return reader.count(filter)
        assert filter.since is not None
        assert filter.until is not None
        mine = self._thread
        version = reader.tx.version()
        if version != mine.version or len(mine.known) >= MAX_KNOWN:
            mine.version, mine.known = version, {}
        key = without_window(filter)
        known = mine.known.get(key)
        total = None if known is None else _moved(reader, filter, known, filter.since, filter.until)
        if total is None:
            total = reader.count(filter)
        mine.known[key] = _Known(filter.since, filter.until, total)
        return total


def without_window(filter: Filter) -> Filter:
    """The key of a known total: the filter without its window, which moves."""
    return msgspec.structs.replace(filter, since=None, until=None)


def _moved(reader: Reader, filter: Filter, known: _Known, since: Millis, until: Millis) -> int | None:
    """The known total, less what fell out at the old end of the window, and what came in at the new end. None: start
    anew."""
    if not known.since <= since <= known.until <= until:
        return None
    total = known.total
    if since > known.since:
        total -= reader.count(msgspec.structs.replace(filter, since=known.since, until=since - 1))
    if until > known.until:
        total += reader.count(msgspec.structs.replace(filter, since=known.until + 1, until=until))
    return total
