"""The demo's log: one file for all parts, and the last lines of each part in memory.

Promises: the end of a part's log can be shown when it dies. Fails: OSError when the file cannot be written at the
start; later failures are not noticed, a demo does not stop for its log.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from datetime import UTC, datetime
from pathlib import Path

KEPT = 20  # lines of each part


class Journal:
    """One line per event, `2026-11-22T10:00:00Z receiver: 451 greylisted ...`."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("a", encoding="utf-8", errors="replace", buffering=1) if path else None
        self._last: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=KEPT))

    def note(self, part: str, text: str) -> None:
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {part}: {text}"
        self._last[part].append(line)
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError):
                self._file.write(line.replace("\n", "\n  ") + "\n")

    def last(self, part: str) -> list[str]:
        return list(self._last[part])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
