"""How many entries match: exact, and counted again only when the number can have changed.

Without a text the store's counters know it. Counting a search walks every match (70 ms for a word in a fifth of a
million). `Reader.version` changes whenever anybody commits; until then a known total needs only a correction for the
window, which has moved on. Totals are known per thread, like a reader and its version; the same search comes to the
same thread (store/find/readers.py).
Promises: the same number as `reader.count`. Fails: as `reader.count` does.
"""

from __future__ import annotations

import threading

import msgspec

from postroom.clock import Millis
from postroom.model import Filter
from postroom.store import Reader, find

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
        """For a filter with a window, inside the page's own snapshot. SearchTooBroad when it takes too long."""
        if find.is_plain(filter):  # the counters know
            return reader.count(filter)
        assert filter.since is not None
        assert filter.until is not None
        mine = self._thread
        version = reader.version()
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
    """The known total without what the window has left, and with what it has reached since. None: count again."""
    if not known.since <= since <= known.until <= until:
        return None
    total = known.total
    if since > known.since:
        total -= reader.count(msgspec.structs.replace(filter, since=known.since, until=since - 1))
    if until > known.until:
        total += reader.count(msgspec.structs.replace(filter, since=known.until + 1, until=until))
    return total
