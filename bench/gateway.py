"""A Postroom of our own as a real process, started as an operator starts it; benchmarks and system tests share it.

Promises: it listens on free ports of 127.0.0.1, keeps everything in one directory, and inherits no POSTROOM_ setting;
`start` returns when it is ready. Fails: GatewayFailed with the end of its log when it exits or does not become ready.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_READY = re.compile(rb" ready smtp=([0-9.]+):(\d+) http=([0-9.]+):(\d+) ")
_METRIC = re.compile(r"^([a-z_]+(?:\{[^}]*\})?) ([-+.0-9eE]+)$", re.MULTILINE)
START_LIMIT = 30.0  # seconds
STOP_LIMIT = 30.0


class GatewayFailed(RuntimeError):
    """It did not start, or exited by itself."""


class Gateway:
    """`with Gateway(directory, settings) as gateway: ...`; can be started again after `stop` or `kill`."""

    def __init__(self, directory: Path, settings: str = "", *, data: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.data = data or directory / "data"
        self.config = directory / "postroom.toml"
        self.config.write_text(settings)
        self.log = directory / "postroom.log"
        self.program: Sequence[str | Path] = (Path(sys.executable).with_name("postroom"),)
        self.smtp = self.http = ("", 0)
        self.status: int | None = None  # of the last process that ended by itself; negative = killed by that signal
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        assert self._process is None, "started already"
        begin = self.log.stat().st_size if self.log.exists() else 0
        command: list[str | Path] = [
            *self.program, "serve", "--config", self.config, "--data", self.data,
            "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0",
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        try:
            self._wait_until_ready(begin)
        except GatewayFailed:
            self.kill()
            raise

    def _wait_until_ready(self, begin: int) -> None:
        assert self._process is not None
        until = time.monotonic() + START_LIMIT
        while time.monotonic() < until:
            said = self.log.read_bytes()[begin:]
            if ready := _READY.search(said):
                self.smtp = (ready[1].decode(), int(ready[2]))
                self.http = (ready[3].decode(), int(ready[4]))
                return
            self.status = self._process.poll()
            if self.status is not None:
                raise GatewayFailed(
                    f"postroom ended with status {self.status} at its start:\n{self._last_words(begin)}"
                )
            time.sleep(0.02)
        raise GatewayFailed(f"postroom did not say that it is ready:\n{self._last_words(begin)}")

    def _last_words(self, begin: int = 0) -> str:
        return self.log.read_bytes()[begin:][-4000:].decode(errors="replace")

    def stop(self) -> int:
        """Stops it as a supervisor does; returns the exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.terminate()
        try:
            return process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise GatewayFailed(f"postroom did not stop within {STOP_LIMIT:.0f} s:\n{self._last_words()}") from None

    def ask_to_stop(self) -> None:
        """As `stop`, without waiting."""
        assert self._process is not None, "not started"
        self._process.terminate()

    def wait_for_end(self, limit: float) -> int | None:
        """The exit status of a process that ends by itself; None when it still runs after so many seconds."""
        assert self._process is not None, "not started"
        try:
            self.status = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        self._process = None
        return self.status

    def kill(self) -> None:
        """Kills it as the kernel does: no time to clean up."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def metrics(self) -> dict[str, float]:
        """`/metrics`, by name with labels."""
        connection = http.client.HTTPConnection(*self.http, timeout=30)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise GatewayFailed(f"/metrics answered {answer.status}: {text[:200]}")
        return {name: float(value) for name, value in _METRIC.findall(text)}

    def queued(self) -> int:
        """Entries in all queues."""
        return int(sum(value for name, value in self.metrics().items() if name.startswith("postroom_queue_entries{")))
