"""The state of the machine: disk, CPU and memory, read from /proc and measured by writing a small file.

Promises: figures are of this machine at this moment, in seconds, bytes and calls per second. Fails: OSError when /proc
is not Linux's; a process that has ended counts no more.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def fsync_rate(directory: Path, seconds: float = 0.4) -> int:
    """4 KiB appends with fdatasync per second, one thread: the yardstick for every durable figure."""
    path = directory / "fsync-yardstick"
    block = b"x" * 4096
    calls = 0
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            os.write(fd, block)
            os.fdatasync(fd)
            calls += 1
        return round(calls / (time.perf_counter() - begin))
    finally:
        os.close(fd)
        path.unlink()


def busy_seconds() -> float:
    """Busy CPU seconds of the whole machine since it started."""
    user, nice, system, _idle, _iowait, irq, softirq = (
        int(word) / _TICK for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return user + nice + system + irq + softirq


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    cpu: float  # own seconds and those of its children that have ended
    resident: int  # bytes


def _process(pid: int) -> Process | None:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return None
    return Process(pid, int(words[1]), sum(int(ticks) for ticks in words[11:15]) / _TICK, resident)


def tree(root: int) -> list[Process]:
    """A process and all its descendants."""
    everything = [found for name in os.listdir("/proc") if name.isdigit() and (found := _process(int(name)))]
    children: dict[int, list[Process]] = {}
    for process in everything:
        children.setdefault(process.parent, []).append(process)
    below = [process for process in everything if process.pid == root]
    for process in below:
        below.extend(children.get(process.pid, []))
    return below


def cpu_of(root: int) -> float:
    """Seconds of a process tree; a child that ends moves its time to its parent, so the sum only grows."""
    return sum(process.cpu for process in tree(root))


def resident_of(root: int) -> int:
    """Bytes of memory of a process tree (shared pages count once per process)."""
    return sum(process.resident for process in tree(root))


def private_of(root: int) -> int:
    """Bytes that belong to the processes alone, without file pages that the kernel may drop at any time."""
    total = 0
    for process in tree(root):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return total


def settle(limit: float = 20.0) -> None:
    """Waits until the machine is idle: late work of one server must not count for the next."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        before, begin = busy_seconds(), time.monotonic()
        time.sleep(0.5)
        if (busy_seconds() - before) / (time.monotonic() - begin) < 0.08:
            return
    print("  (the machine did not become idle; figures may suffer)", flush=True)


def description() -> dict[str, object]:
    """The machine that the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
