"""The whole demo as its user starts it: one command in the foreground."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom_client import Client
from postroom_demo.demo import PartDied

pytestmark = pytest.mark.system
PATIENCE = 60.0  # seconds
ROOT = Path(__file__).parents[2]


class Run:
    """The demo as a process, its output read line by line."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "postroom_demo", "--data", str(data), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        self.said = ""

    def until(self, wanted: str) -> re.Match[str]:
        """Reads on to a line that matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if found := re.search(wanted, line):
                return found
        raise AssertionError(f"{wanted!r} was never said:\n{self.said}")

    def end(self) -> int:
        assert self.process.stdout is not None
        with self.process.stdout as rest:
            self.said += rest.read()
        return self.process.wait(PATIENCE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts the demo with its data in `tmp_path / name`; what still runs at the end is stopped."""
    started: list[Run] = []

    def start(*arguments: str, name: str = "demo data") -> Run:
        started.append(Run(tmp_path / name, *arguments))
        return started[-1]

    yield start
    for run in started:
        if run.process.poll() is None:
            run.process.terminate()
            run.end()
        assert run.process.stdout is not None
        run.process.stdout.close()


@pytest.fixture
def run(start: Callable[..., Run]) -> Run:
    return start()


def sent_as_printed(command: str) -> dict[str, Any]:
    """What the printed curl command asks for, without needing curl."""
    words = shlex.split(command)
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    request = urllib.request.Request(words[2], words[words.index("-d") + 1].encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE) as answer:
        result: dict[str, Any] = json.loads(answer.read())
        return result


def gateway_pid(data: Path) -> int:
    (line,) = [line for line in (data / "gateway.log").read_text().splitlines() if " ready " in line]
    return int(re.search(r"pid=(\d+)", line)[1])  # type: ignore[index]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def listing(data: Path, url: str) -> list[str]:
    with Client.from_admin_json(data / "admin.json", base_url=url) as client:
        return [message.subject for message in client.find_processing_messages()]


def test_the_demo_shows_mail_and_leaves_nothing_running(run: Run, start: Callable[..., Run], tmp_path: Path) -> None:
    data = tmp_path / "demo data"
    url = run.until(r"console +(http://\S+)/console/")[1]
    run.until(r"processing [1-9]")
    command = re.search(r"^  (curl -s .*?\}')$", run.said, re.MULTILINE | re.DOTALL)
    assert command
    answer = sent_as_printed(command[1])
    assert answer["fail"] == []
    assert answer["data"][0]["messages"]
    assert listing(data, url)
    pid = gateway_pid(data)
    assert is_running(pid)
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0
    assert "stopped: " in run.said
    assert not is_running(pid)
    again = start("--seconds", "4")  # what was queued is still there
    again.until(r"processing [1-9]")
    assert again.end() == 0


def test_the_example_works_as_printed(run: Run, tmp_path: Path) -> None:
    run.until(r"processing [1-9]")
    printed = re.search(r"^  (\S+ examples/find_processing.py .*)$", run.said, re.MULTILINE)
    assert printed
    said = subprocess.check_output(["sh", "-c", printed[1]], cwd=ROOT, text=True, timeout=PATIENCE)
    assert re.search(r"^[1-9]\d* shown of \d+ in processing$", said, re.MULTILINE)
    run.process.terminate()
    assert run.end() == 0


def test_a_dead_gateway_is_named_with_the_end_of_its_log(run: Run, tmp_path: Path) -> None:
    run.until(r"processing [1-9]")
    os.kill(gateway_pid(tmp_path / "demo data"), signal.SIGKILL)
    assert run.end() == 1
    assert "the gateway died: it ended with exit status -9" in run.said
    assert re.search(r"^  \| .* accepted ", run.said, re.MULTILINE)


def test_a_directory_in_use_is_told(run: Run, start: Callable[..., Run]) -> None:
    run.until(r"processing \d")
    second = start()
    assert second.end() == 1
    assert "the gateway died" in second.said


def test_a_stop_while_starting_is_a_stop(start: Callable[..., Run], tmp_path: Path) -> None:
    running = start(name="data")
    running.until("starting the gateway")
    running.process.terminate()
    assert running.end() == 0
    log = tmp_path / "data" / "gateway.log"
    assert not log.exists() or " ready " not in log.read_text() or not is_running(gateway_pid(tmp_path / "data"))


def test_a_data_directory_that_cannot_be_made(start: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    running = start(name="file")
    assert running.end() == 1
    assert "File exists" in running.said


def test_a_death_says_which_part() -> None:
    assert str(PartDied("scanner", "address in use", [])) == "the scanner died: address in use"
