"""The log: one event is one line, from any thread."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from postroom.clock import HandClock
from postroom.telemetry import Counts, Log, Outlet
from tests.system.conftest import eventually


def test_lines_of_several_threads_all_come_out_once() -> None:
    out = io.StringIO()
    log = Log(out)

    def speak(name: str) -> None:
        for number in range(500):
            log.info("event", who=name, number=number)
            log.warning("warned", who=name, number=number)

    threads = [threading.Thread(target=speak, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    lines = out.getvalue().splitlines()
    assert len({line.partition(" ")[2] for line in lines}) == len(lines) == 3000


def test_a_value_cannot_begin_a_line_or_a_field() -> None:
    out = io.StringIO()
    log = Log(out, clock=HandClock(0))
    log.info("event", subject='x\nerror "forged" id=1', empty="", none=None)
    log.flush()
    assert out.getvalue() == '1970-01-01T00:00:00.000Z info event subject="x\\nerror \\"forged\\" id=1"\n'


def test_a_value_that_cannot_be_written_costs_its_own_line_only() -> None:
    out = io.StringIO()
    log = Log(out, format="json")
    log.info("bad", subject="\ud800")
    log.info("good", subject="fine")
    log.flush()
    events = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    assert events == ["bad", "good"]


class Pipe:
    """A log whose reader does not read yet: what fits into the pipe has been put there already."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.filled = 0
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.filled += os.write(writer, b"-" * 4096)
        os.set_blocking(writer, True)
        self.out = os.fdopen(writer, "w")
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read)

    def let_go(self) -> None:
        self._reading.start()

    def close(self) -> None:
        self.out.close()
        self._reading.join(60)

    def _read(self) -> None:
        with os.fdopen(self.reader, "rb") as file:
            self.lines = file.read()[self.filled :].decode().splitlines()


def test_a_log_that_stands_still_stops_nobody_and_tells_later_what_is_missing() -> None:
    pipe, counts = Pipe(), Counts()
    log = Log(pipe.out, clock=HandClock(0), counts=counts)
    log.detach(room=1000)
    log.warning("first")  # into a pipe that nobody reads: without the thread this would wait for ever
    for number in range(100):
        log.info("event", number=number)
        log.flush()
    kept = 100 - counts.log_dropped
    assert 10 < kept < 50, "as many lines as there is room for"
    pipe.let_go()
    assert log.attach(60)
    log.info("afterwards")
    log.flush()
    pipe.close()
    assert [line.partition(" ")[2] for line in pipe.lines] == [
        "warning first",
        *[f"info event number={number}" for number in range(kept)],
        f"warning log_lines_dropped lines={100 - kept}",
        "info afterwards",
    ]


def test_an_end_does_not_wait_for_a_log_that_stands_still() -> None:
    pipe = Pipe()
    log = Log(pipe.out)
    log.detach()
    log.info("last words")
    assert not log.attach(0.01)
    pipe.let_go()
    assert log.attach(60), "everything was written when there was room again"
    pipe.close()
    assert len(pipe.lines) == 1


def test_lines_that_the_disk_has_no_room_for_are_counted_and_told(tmp_path: Path) -> None:
    counts = Counts()
    with open("/dev/full", "w") as out, open(tmp_path / "log", "wb") as roomy:
        log = Log(out, format="json", clock=HandClock(0), counts=counts)
        log.detach()
        for number in range(3):
            log.warning("event", number=number)
        eventually(lambda: counts.log_dropped == 3, "all have been tried", 60)
        os.dup2(roomy.fileno(), out.fileno())  # somebody has made room
        log.warning("event", number=3)
        assert log.attach(60)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["log_lines_dropped", "event"]
    assert lines[0]["lines"] == counts.log_dropped == 3


def test_no_memory_for_a_while_costs_lines_and_not_the_log(tmp_path: Path) -> None:
    counts, failed = Counts(), threading.Event()

    def told(lines: int) -> str:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        return f"missing {lines}\n"

    with open(tmp_path / "log", "wb") as file:
        outlet = Outlet(file.fileno(), 10, counts, told)
        outlet.put(["short\n"], 0)
        outlet.put(["too long for that room\n"], 0)
        outlet.start()
        assert failed.wait(60)
        eventually(lambda: counts.log_dropped == 2, "both are counted", 60)
        outlet.put(["later\n"], 0)
        assert outlet.end(60)
    assert (tmp_path / "log").read_text() == "missing 2\nlater\n"


def test_a_log_that_was_closed_before_the_start_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    counts = Counts()
    log = Log(counts=counts)
    log.detach()
    log.error("nobody hears this")
    assert log.attach(60)
    assert counts.log_dropped == 1
