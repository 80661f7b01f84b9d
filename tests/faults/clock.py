"""`python -m tests.faults.clock FILE serve ...`: the real command line on a machine whose clock can be set.

The first eight bytes of FILE are the milliseconds by which the clock is off, signed and little-endian; the process
looks at them each time it asks for the time. What machines call monotonic stays so.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path


class MachineClock:
    """The test's end of it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, seconds: float) -> None:
        """Off by so much from now on."""
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:  # in place: the process has it mapped
            file.write(struct.pack("<q", int(seconds * 1000)))

    @property
    def program(self) -> list[str | Path]:
        return [sys.executable, "-m", "tests.faults.clock", self.file]


def _main() -> None:
    with open(sys.argv[1], "rb") as file:
        off = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    now_ns = time.time_ns
    time.time_ns = lambda: now_ns() + struct.unpack("<q", off[:8])[0] * 1_000_000
    time.time = lambda: time.time_ns() / 1e9
    del sys.argv[1]
    from postroom.cli import main

    main()


if __name__ == "__main__":
    _main()
