"""The log: one event is one line, from any thread."""

from __future__ import annotations

import io
import json
import threading

from postroom.clock import HandClock
from postroom.telemetry import Log


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
