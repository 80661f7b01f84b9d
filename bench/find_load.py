"""`python -m bench.find_load --smtp HOST:PORT --seconds N`: 200 messages a second, as a process, for `bench.find`.

Promises: limited in time. Ends with one line of JSON: the number of messages sent, and every acknowledgement time in
milliseconds with the second in which it came. Fails: status 1 when a message is refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import uvloop

from bench.mail import Writer
from bench.soak import CONNECTIONS, RATE, Load, mails_from, send


@dataclass(frozen=True)
class Sent:
    sent: int
    late: float  # seconds behind the pace, at worst
    acks: list[float]  # milliseconds


class Loading:
    """The process, and its report when it has ended."""

    def __init__(self, address: tuple[str, int], seconds: float) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "bench.find_load", "--smtp", f"{address[0]}:{address[1]}", "--seconds",
                str(seconds),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "sending":
            raise RuntimeError("the load did not start")
        # Its report is longer than a pipe holds: it cannot end until we read.
        self._told: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._told += self._process.stdout

    def running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> Sent:
        """Waits for its end, for a limited time."""
        try:
            self._process.wait(timeout=600)
        finally:
            self.stop()
        self._reading.join()
        if self._process.returncode:
            raise RuntimeError(f"the load ended with status {self._process.returncode}")
        return Sent(**json.loads("".join(self._told)))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def under_load(address: tuple[str, int], seconds: float, meanwhile: Callable[[Callable[[], bool]], None]) -> Sent:
    """`meanwhile` gets a function that says whether the load still runs."""
    loading = Loading(address, seconds)
    try:
        meanwhile(loading.running)
        return loading.end()
    finally:
        loading.stop()


async def run(address: tuple[str, int], seconds: float) -> Sent:
    load, mails = Load(), mails_from(Writer(random.Random(2026)))
    print("sending", flush=True)
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(CONNECTIONS):
            tasks.create_task(send(address, mails, load, until, number / RATE))
    return Sent(load.sent, load.late, load.times)


def main() -> int:
    parser = argparse.ArgumentParser(description="A paced load.")
    parser.add_argument("--smtp", required=True, metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    host, _, port = chosen.smtp.rpartition(":")
    sent = uvloop.run(run((host, int(port)), chosen.seconds))
    print(json.dumps({"sent": sent.sent, "late": sent.late, "acks": sent.acks}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
