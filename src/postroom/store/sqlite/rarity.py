"""Which piece of a text is rare: a phrase costs the search index the sum of its trigrams, however few rows hold all of them.

`.example` alone is in every row: 30 ms at a million for each of its trigrams, while the name before it is in fifty rows and found
in five. So the piece is chosen that begins at the rarest trigram and grows as long as it stays cheap; its rows are then checked.
How common a trigram is, is told from how far its first rows reach, beside those of all entries (0.1 ms), and kept for a while. Fails: apsw errors pass through.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from postroom.store.engine import Tx

LENGTH = 3  # characters of a trigram
LOOKED_AT = 2_000  # rows of a trigram, the oldest ones
LONGEST = 32  # characters in which a rare piece is looked for: 30 trigrams, 3 ms when none of them is known
CHEAP = 150_000  # rows of all trigrams of a piece together: some 3 ms
FEW = 1_000  # rows that are worth being checked one by one: some 5 ms
WORTH = 2_000  # ... or one for so many rows of all trigrams of the whole text: 5 us beside 10, more on a cold disk
MOST = 20_000  # ... and never more: each page begins by putting them in order, some 10 ms
KEPT = 600.0  # seconds
MOST_KEPT = 10_000

_OLDEST = "SELECT min(id), max(id) FROM (SELECT id FROM find.ix_docsize ORDER BY id LIMIT ?)"
_ENTRIES = "SELECT coalesce(sum(number), 0) FROM main.tally"
_REACH = "SELECT count(*), max(rowid) FROM (SELECT rowid FROM find.ix WHERE ix MATCH ? LIMIT ?)"
_FOUND = "SELECT rowid FROM find.ix WHERE ix MATCH ? LIMIT ?"


def phrase(text: str, column: str | None) -> str:
    """An expression of the search index: the literal text, in one column or in any."""
    quoted = '"' + text.replace('"', '""') + '"'
    return quoted if column is None else f"({{{column}}} : {quoted})"


def pieces(text: str, rows: Callable[[str], int]) -> list[tuple[str, int]]:
    """From the rarest trigram to all of the text, growing on the cheaper side, each with the rows of all its trigrams."""
    costs = [rows(text[at : at + LENGTH]) for at in range(len(text) - LENGTH + 1)]
    first = last = min(range(len(costs)), key=costs.__getitem__)
    total = costs[first]
    found = [(text[first : last + LENGTH], total)]
    while len(found) < len(costs):
        cost, at = min([(costs[at], at) for at in (first - 1, last + 1) if 0 <= at < len(costs)])
        total += cost
        first, last = min(first, at), max(last, at)
        found.append((text[first : last + LENGTH], total))
    return found


class Rarity:
    """What one connection has learnt of the index attached to it."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._known: dict[str, tuple[int, int]] = {}
        self._until = 0.0  # monotonic seconds
        self._low = self._reach = 0  # of all: the oldest, and the last of as many as are looked at
        self._entries = 0

    def few(self, text: str, column: str | None) -> list[int] | None:
        """All ids whose text may hold this one, if a cheap look finds that they are few; None: ask for the whole text.

        Begun with the longest piece that is cheap, doubled while it finds too many: such a look ends early.
        """
        growing = pieces(text[:LONGEST], self._rows) if len(text) > LENGTH else []
        taken = max(1, sum(cost <= CHEAP for _, cost in growing))
        most = max(FEW, min(MOST, growing[-1][1] // WORTH)) if growing else 0
        while taken <= len(growing):
            piece = growing[taken - 1][0]
            if piece == text:
                return None
            found = self._tx.rows(_FOUND, (phrase(piece, column), most + 1))
            if len(found) <= most:
                return [ident for (ident,) in found]
            taken *= 2
        return None

    def share(self, text: str) -> float:
        """The part of all entries that can hold the text: as many as hold its rarest trigram, judged by the oldest of both."""
        text = text[:LONGEST]
        found = [self._seen(text[at : at + LENGTH]) for at in range(len(text) - LENGTH + 1)]
        if not found or min(number for number, _ in found) < LOOKED_AT:
            return 0.0
        return min(1.0, (self._reach - self._low) / max(1, max(last for _, last in found) - self._low))

    def _rows(self, trigram: str) -> int:
        """About how many, in any column."""
        number, last = self._seen(trigram)
        if number < LOOKED_AT:
            return number
        return max(number, self._entries * (self._reach - self._low) // max(1, last - self._low))

    def _seen(self, trigram: str) -> tuple[int, int]:
        """How many of it were looked at, and how far they reach."""
        now = time.monotonic()
        if now > self._until or len(self._known) > MOST_KEPT:
            self._known.clear()
            self._until = now + KEPT
            low, reach = self._tx.rows(_OLDEST, (LOOKED_AT,))[0]
            self._low, self._reach = low or 0, reach or 0
            self._entries = int(self._tx.rows(_ENTRIES)[0][0])
        known = self._known.get(trigram)
        if known is None:
            number, last = self._tx.rows(_REACH, (phrase(trigram, None), LOOKED_AT))[0]
            known = self._known[trigram] = (int(number), int(last or 0))
        return known
