"""Check "size": rejects messages larger than `smtp.max_size`.

SMTP refuses these already; this check covers mail that was accepted under a larger limit, or imported.
Promises: answers at once. Fails: never.
"""

from __future__ import annotations

from postroom.checks.verdicts import CheckedMessage, passed, reject
from postroom.model import Verdict


class SizeCheck:
    name = "size"

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._passed = passed(self.name)
        # RFC 3463 3.4: X.3.4 message too big for system
        self._rejected = reject(self.name, f"552 5.3.4 Message is larger than the limit of {max_size} bytes")

    def inspect(self, work: CheckedMessage) -> Verdict:
        return self._passed if work.message.size <= self._max_size else self._rejected
