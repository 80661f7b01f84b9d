"""Check "loop": rejects mail that has passed too many hosts and probably loops (RFC 5321 6.3).

Promises: answers at once, from the number of Received fields. Fails: never.
"""

from __future__ import annotations

from postroom.checks.verdicts import CheckedMessage, passed, reject
from postroom.model import Verdict


class LoopCheck:
    name = "loop"

    def __init__(self, max_hops: int) -> None:
        self._max_hops = max_hops
        self._passed = passed(self.name)
        self._rejected = reject(self.name, "554 5.4.6 Too many hops: this message is going round in a loop")

    def inspect(self, work: CheckedMessage) -> Verdict:
        return self._passed if work.message.facts.hops < self._max_hops else self._rejected
