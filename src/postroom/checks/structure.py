"""Check "structure": holds messages that could harm scanners and readers behind us, for a person to decide.

Holds only headers over `smtp.max_header` and MIME built to exhaust a parser (too deep, too many parts). Ordinary faults
pass, because much legitimate mail has them. Promises: answers at once, from the header facts. Fails: never.
"""

from __future__ import annotations

from postroom import facts
from postroom.checks.verdicts import CheckedMessage, hold, passed
from postroom.model import Verdict

_HOLDS = {
    facts.HEADER_CUT: "Header is too large",
    facts.TOO_DEEP: f"MIME structure is suspect: {facts.TOO_DEEP}",
    facts.TOO_MANY_PARTS: f"MIME structure is suspect: {facts.TOO_MANY_PARTS}",
}


class StructureCheck:
    name = "structure"

    def __init__(self, max_header: int) -> None:
        self._max_header = max_header
        self._passed = passed(self.name)
        self._large = hold(self.name, f"Header is larger than {max_header} bytes")

    def inspect(self, work: CheckedMessage) -> Verdict:
        found = work.message.facts
        if found.body_at > self._max_header:
            return self._large
        if found.problems:
            for problem in found.problems:
                if problem in _HOLDS:
                    return hold(self.name, _HOLDS[problem])
        return self._passed
