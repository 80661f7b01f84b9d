"""What the demo shows and how it is asked for, apart from the running of it."""

from __future__ import annotations

import base64
import shlex
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postroom.settings.file import load
from postroom_client import Credentials, signature
from postroom_demo.__main__ import options
from postroom_demo.gateway import Admin, Pace, Ports, free_port, settings_text
from postroom_demo.journal import KEPT, Journal
from postroom_demo.look import StatusLine, fitted, read_metrics
from postroom_demo.words import FIND, curl, farewell, welcome

CREDENTIALS = Credentials("app-1", "app-key", "access-key", base64.b64encode(b"secret").decode())
ADMIN = Admin("admin@gw.corp.example", "a password", "http://127.0.0.1:8080", CREDENTIALS)
PORTS = Ports(2525, 8080, 2626)
METRICS = """\
# HELP postroom_queue_entries Entries in each queue
# TYPE postroom_queue_entries gauge
postroom_queue_entries{queue="processing"} 9.0
postroom_queue_entries{queue="bulk_processing"} 4.0
postroom_queue_entries{queue="delivery"} 3.0
postroom_queue_entries{queue="held"} 2.0
postroom_queue_entries{queue="system"} 1.0
postroom_created_total{origin="accepted"} 1.2e+03
postroom_ended_total{outcome="delivered"} 1100.0
postroom_ended_total{outcome="bounced"} 31.0
postroom_ack_seconds_bucket{le="0.001"} 5.0
"""


def test_the_status_line() -> None:
    line = StatusLine()
    look = read_metrics(METRICS, {"locked": 4, "normal": 5})
    assert look.queued == 19
    line.write(look, 100.0)
    later = read_metrics(METRICS.replace("1.2e+03", "1215.0"), {"locked": 4, "normal": 5})
    assert line.write(later, 105.0) == (
        "processing 9 (4 locked, 0 delayed, 5 normal)  bulk 4  delivery 3  held 2  system 1",
        "accepted 1215  delivered 1100  bounced 31  rejected 0  3.0/s",
    )


def test_a_gateway_without_mail_has_a_line_too() -> None:
    waiting, gone = StatusLine().write(read_metrics("", {}), 1.0)
    assert waiting.startswith("processing 0 (0 locked, 0 delayed, 0 normal)")
    assert gone == "accepted 0  delivered 0  bounced 0  rejected 0  0.0/s"


def test_a_line_never_wraps() -> None:
    assert fitted("x" * 200, 80) == "x" * 78 + "…"
    assert fitted("short", 80) == "short"


def test_the_curl_command_is_signed_for_now() -> None:
    words = shlex.split(curl("http://127.0.0.1:8081", ADMIN, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    assert words[:3] == ["curl", "-s", f"http://127.0.0.1:8081{FIND}"]
    assert headers["x-mc-date"] == "Fri, 02 Jan 2026 03:04:05 UTC"
    assert headers["Authorization"] == "MC access-key:" + signature(
        CREDENTIALS, date=headers["x-mc-date"], request_id=headers["x-mc-req-id"], path=FIND
    )


def test_the_welcome_says_everything_once_and_no_secret() -> None:
    text = welcome(ADMIN, PORTS, PORTS, Path("demo-data"))
    for wanted in ("http://127.0.0.1:8080/console/", "a password", "127.0.0.1:2525", "curl -s", "--data demo-data"):
        assert text.count(wanted) == 1
    assert "taken" not in text
    assert "--url" not in text
    assert CREDENTIALS.secret_key not in text
    assert CREDENTIALS.app_key not in text


def test_another_port_is_told_clearly() -> None:
    text = welcome(ADMIN, Ports(2527, 8081, 2626), PORTS, Path("demo-data"))
    assert "port 2525 is taken, SMTP is at 2527" in text
    assert "port 8080 is taken, HTTP is at 8081" in text
    assert "find_processing.py --data demo-data --url http://127.0.0.1:8081" in text


def test_the_farewell_counts() -> None:
    assert farewell(read_metrics(METRICS, {}), Path("d")).startswith(
        "stopped: 1200 accepted, 1100 delivered, 31 bounced, 19 still queued\n"
    )
    assert farewell(None, Path("d")) == "stopped; the data is in d"


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port


@pytest.mark.parametrize("rate", [0.2, 1.0, 3.0, 50.0])
def test_the_gateway_reads_the_demos_settings(tmp_path: Path, rate: float) -> None:
    path = tmp_path / "postroom.toml"
    path.write_text(settings_text(PORTS, scanner=4000, pace=Pace.of(rate)))
    settings = load(path, {})
    assert Path(settings.data) == tmp_path
    assert settings.processing.checks == ("size", "structure", "loop", "antivirus")
    assert settings.antivirus.address == "127.0.0.1:4000"
    assert [str(route.host) for route in settings.delivery.routes] == ["127.0.0.1:2626"]
    assert settings.gateway.internal_domains == ("corp.example",)


@pytest.mark.parametrize("rate", [0.2, 1.0, 3.0, 50.0])
def test_a_scan_outlasts_the_longest_gap_of_the_feed(rate: float) -> None:
    pace = Pace.of(rate)
    assert 0.6 * pace.scan_seconds >= 1.5 / rate or rate >= 2.6
    assert pace.scanners / pace.scan_seconds > rate


def test_options() -> None:
    given = options(["--seconds", "60", "--data", "x", "--rate", "5", "--seed", "9"])
    assert (given.seconds, given.data, given.rate, given.seed) == (60.0, Path("x"), 5.0, 9)
    assert options([]).seconds is None
    assert options([]).data == Path("demo-data")


@pytest.mark.parametrize(
    "wrong", [["--seconds", "0"], ["--rate", "0"], ["--rate", "x"], ["--seconds", "nan"], ["more"]]
)
def test_wrong_options_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options(wrong)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_journal_keeps_the_last_lines_of_each_part(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "demo.log")
    for number in range(KEPT + 5):
        journal.note("feed", f"line {number}")
    journal.note("scanner", "two\nlines")
    assert len(journal.last("feed")) == KEPT
    assert journal.last("feed")[-1].endswith(f"feed: line {KEPT + 4}")
    assert journal.last("nobody") == []
    journal.close()
    journal.note("feed", "after the end")
    assert len((tmp_path / "demo.log").read_text().splitlines()) == KEPT + 7
