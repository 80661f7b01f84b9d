"""The load: Postfix's own generator and sink, and a prober that times single acknowledgements meanwhile.

Promises: the load is limited in count and time; the prober sends at most one message each INTERVAL on one connection.
Fails: `missing` says what to install; CalledProcessError or TimeoutExpired when the generator is refused or hangs;
RuntimeError when the prober is.
"""

from __future__ import annotations

import contextlib
import io
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.postfix import INSTALL, free_port, wait_for_port

SENDER = "sender@bench.example"
RECIPIENT = "rcpt@bench.example"
LIMIT = 180  # seconds for one run
INTERVAL = 0.020


def missing() -> str:
    """Why no load can run here; empty when it can."""
    return "" if shutil.which("smtp-source") else f"smtp-source is not installed ({INSTALL})"


def smtp_source(address: tuple[str, int], messages: int, *, size: int, sessions: int, keep: bool) -> None:
    """`keep`: many messages per connection; else a connection for each."""
    subprocess.run(
        [
            "smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(size), *(["-d"] if keep else []),
            "-f", SENDER, "-t", RECIPIENT, f"{address[0]}:{address[1]}",
        ],
        check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT,
    )  # fmt: skip


def generator_seconds() -> float:
    """CPU seconds of the generators that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def smtp_sink(log: Path) -> Iterator[int]:
    """Accepts all mail, keeps none; yields its port."""
    port = free_port()
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["smtp-sink", "-u", "root", f"127.0.0.1:{port}", "1000"], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        wait_for_port("127.0.0.1", port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


class Prober:
    """One more session beside the load: the time from the end of data to "250", message by message."""

    def __init__(self, address: tuple[str, int], size: int) -> None:
        self.seconds: list[float] = []
        self._address = address
        head = f"From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: probe\r\n\r\n".encode()
        line = b"X" * 78 + b"\r\n"
        self._body = head + line * ((size - len(head)) // len(line)) + b".\r\n"
        self._ended = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="prober")

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(LIMIT)
        if self._problem:
            raise RuntimeError(f"prober: {self._problem}")

    def _run(self) -> None:
        try:
            with socket.create_connection(self._address, 30) as connection, connection.makefile("rb") as answers:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._say(connection, answers, b"", b"220")
                self._say(connection, answers, b"EHLO prober.bench.example\r\n", b"250")
                while not self._ended.is_set():
                    begin = time.perf_counter()
                    self._say(connection, answers, f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250")
                    self._say(connection, answers, f"RCPT TO:<{RECIPIENT}>\r\n".encode(), b"250")
                    self._say(connection, answers, b"DATA\r\n", b"354")
                    sent = time.perf_counter()
                    self._say(connection, answers, self._body, b"250")
                    now = time.perf_counter()
                    self.seconds.append(now - sent)
                    self._ended.wait(max(0.0, INTERVAL - (now - begin)))
                connection.sendall(b"QUIT\r\n")
        except (OSError, ValueError) as problem:
            self._problem = str(problem)

    def _say(self, connection: socket.socket, answers: io.BufferedReader, words: bytes, expected: bytes) -> None:
        connection.sendall(words)
        while True:
            line = answers.readline()
            if line[3:4] != b"-":
                break
        if not line.startswith(expected):
            raise ValueError(f"expected {expected.decode()} after {words[:20]!r}, got {line!r}")
