"""Which outbound mail is a mailshot. Pure, except for what it remembers.

More than `threshold` outbound messages (counted per recipient) of one sender with the same body within `window` are a
mailshot; what exceeds the threshold goes to `bulk_processing` with low priority (contract section 8). The memory is
bounded and is lost at a restart: a mailshot that goes on is recognised again after `threshold` more messages.
"""

from __future__ import annotations

from collections import OrderedDict

from postroom.clock import Millis
from postroom.model import Recipient, Route
from postroom.settings import Bulk

REMEMBERED = 20_000  # (sender, body) pairs


class Mailshots:
    __slots__ = ("_seen", "_settings")

    def __init__(self, settings: Bulk) -> None:
        self._settings = settings
        self._seen: OrderedDict[tuple[str, bytes], tuple[Millis, int]] = OrderedDict()

    def apply(self, settings: Bulk) -> None:
        """New limits; what was seen stays seen."""
        self._settings = settings

    def is_bulk(self, sender: str, recipients: tuple[Recipient, ...], body_hash: bytes, now: Millis) -> bool:
        """Count this message and say whether it goes beyond what one sender may send of one body."""
        outbound = sum(1 for recipient in recipients if recipient.route is Route.OUTBOUND)
        if not outbound or not self._settings.threshold:
            return False
        key = (sender.lower(), body_hash)
        started, number = self._seen.get(key, (now, 0))
        if now - started > self._settings.window:
            started, number = now, 0
        number += outbound
        self._seen[key] = (started, number)
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return number > self._settings.threshold
