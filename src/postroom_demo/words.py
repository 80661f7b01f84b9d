"""The demo's first and last words on the terminal. Pure, except for time and current directory."""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from postroom_client import signed_headers
from postroom_demo.gateway import Admin, Ports
from postroom_demo.look import Look

FIND = "/api/gateway/find-processing-messages"
VALID = timedelta(minutes=15)  # how far a signed date may be from the gateway's clock ([api] clock_tolerance)


def welcome(admin: Admin, ports: Ports, wanted: Ports, data: Path) -> str:
    """The addresses of everything, and a first request to paste."""
    url = f"http://127.0.0.1:{ports.http}"
    now = datetime.now(UTC)
    until = (now + VALID).astimezone().strftime("%H:%M")
    moved = [
        f"  note        port {asked} is taken, {what} is at {got}"
        for what, asked, got in (
            ("SMTP", wanted.smtp, ports.smtp),
            ("HTTP", wanted.http, ports.http),
            ("the receiver", wanted.receiver, ports.receiver),
        )
        if asked != got
    ]
    elsewhere = "" if admin.base_url.rstrip("/") == url else f" --url {url}"
    return "\n".join(
        [
            "",
            "Postroom is running, with mail flowing through it.",
            "",
            f"  console     {url}/console/",
            f"  login       {admin.email}  password  {admin.password}",
            f"  SMTP        127.0.0.1:{ports.smtp}  (corp.example is internal)",
            f"  receiver    127.0.0.1:{ports.receiver}  (accepts, defers, refuses, hangs up; keeps nothing)",
            f"  data        {_near(data)}  (postroom.toml, admin.json, gateway.log, demo.log)",
            *moved,
            "",
            f"What is in the processing queue? A signed request, valid until {until}:",
            "",
            curl(url, admin, now),
            "",
            "The same in Python, with a new signature each time:",
            "",
            f"  {_near(Path(sys.executable))} examples/find_processing.py --data {shlex.quote(_near(data))}{elsewhere}",
            "",
            "Ctrl-C stops it.",
            "",
        ]
    )


def curl(url: str, admin: Admin, now: datetime) -> str:
    """One command for a shell."""
    headers = signed_headers(admin.credentials, FIND, now=now, request_id=str(uuid.uuid4()))
    body = '{"data":[{"sortOrder":"descending"}]}'
    lines = [f"curl -s {url}{FIND}", *(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items())]
    return "  " + " \\\n    ".join([*lines, f"-d {shlex.quote(body)}"])


def farewell(last: Look | None, data: Path) -> str:
    if last is None:
        return f"stopped; the data is in {_near(data)}"
    ended = ", ".join(f"{number} {outcome}" for outcome, number in last.ended.items() if number)
    return (
        f"stopped: {last.created.get('accepted', 0)} accepted, {ended or 'none ended'}, {last.queued} still queued\n"
        f"the data is in {_near(data)}; start again to continue with it, or delete it"
    )


def _near(path: Path) -> str:
    """The path as typed from the current directory, if it is below it."""
    absolute = Path(os.path.abspath(path))  # not resolved: a virtual environment is a link
    return os.path.relpath(absolute) if absolute.is_relative_to(Path.cwd()) else str(absolute)
