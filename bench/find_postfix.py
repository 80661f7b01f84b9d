"""What an administrator does today, for `bench.find`: search Postfix's queue with its own tools, or read the spool.

`postqueue` knows senders but no subjects. For a subject, `postcat` reads every message's header, which is Postfix's own
way; or `grep` searches the files, which nobody does (they are not text) but which is the fastest. All files are in the
page cache. Promises: each way finds exactly the mail put there, or the run fails. Fails: RuntimeError,
CalledProcessError.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

from bench import load, postfix
from bench.people import RARE
from bench.postfix import Postfix

NEEDLES = 10
SIZE = 5120
BATCH = 5_000
COMMAND_LIMIT = 900
SENDER = "needle@bench.example"


@dataclass(frozen=True)
class Way:
    """One way to find something."""

    name: str
    looks_for: str  # "subject" or "sender"
    seconds: float
    found: int


def missing() -> str:
    return load.missing() or postfix.missing()


def measure(work: Path, depth: int) -> list[Way]:
    with Postfix(work / "postfix", 9, postfix.EVERYTHING_ON_HOLD) as server:
        _fill(server, depth)
        hold = server.root / "queue/hold"
        headers = f"find {hold} -type f -print0 | xargs -0 -n 500 postcat -c {server.etc} -h"
        return [
            _way("postqueue -j, filtered by sender", "sender", f"postqueue -c {server.etc} -j | grep -c '{SENDER}'"),
            _way("postcat -h of every message", "subject", f"{headers} | grep -c '^Subject: {RARE}'"),
            _way("grep through the spool files", "subject", f"grep -rlE '^?Subject: {RARE}' {hold} | wc -l"),
        ]


def _fill(server: Postfix, depth: int) -> None:
    done = 0
    with click.progressbar(length=depth, label=f"Queueing {depth:,} in Postfix", file=sys.stderr) as bar:
        for number in range(NEEDLES):
            part = depth * (number + 1) // NEEDLES - done - 1
            for begin in range(0, part, BATCH):
                count = min(BATCH, part - begin)
                load.smtp_source(server.smtp, count, size=SIZE, sessions=20, keep=True)
                bar.update(count)
            _needle(server)
            bar.update(1)
            done += part + 1
    if server.on_hold() != depth:
        raise RuntimeError(f"{server.on_hold():,} messages are on hold, {depth:,} were sent")


def _needle(server: Postfix) -> None:
    subprocess.run(
        [
            "smtp-source", "-m", "1", "-l", str(SIZE), "-S", f"{RARE} invoice", "-f", SENDER, "-t", load.RECIPIENT,
            f"{server.smtp[0]}:{server.smtp[1]}",
        ],
        check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
    )  # fmt: skip


def _way(name: str, looks_for: str, command: str) -> Way:
    """The second of two runs: files and programs are in the cache."""
    for _ in range(2):
        begin = time.perf_counter()
        told = subprocess.run(
            ["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_LIMIT
        )
        seconds = time.perf_counter() - begin
    found = int(told.stdout.strip() or 0)
    if found != NEEDLES:
        raise RuntimeError(f"{name}: {found} found, {NEEDLES} are there: {told.stderr[-300:]}")
    print(f"  {name:<36}{seconds:8.2f} s", flush=True)
    return Way(name, looks_for, seconds, found)
