"""A real gateway whose processing is paused, so that mail stays where it can be seen, and a browser for each test."""

from __future__ import annotations

import json
import os
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from bench.gateway import Gateway

from tests.browser.chromium import Window, missing, window

SETTINGS = """\
[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]

[processing]
paused = true
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("browser")


class Office:
    """A gateway, its administrator, and mail for it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.admin: dict[str, str] = json.loads((gateway.data / "admin.json").read_text())
        self.base = f"http://{gateway.http[0]}:{gateway.http[1]}"

    def send(
        self,
        subject: str,
        *,
        sender: str = "orders@shop.example",
        to: str = "bob@corp.example",
        attachment: bool = False,
    ) -> None:
        message = EmailMessage()
        message["From"], message["To"] = f"Somebody <{sender}>", to
        message["Subject"] = subject
        message.set_content("a body that is never shown")
        if attachment:
            message.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="a.pdf")
        with smtplib.SMTP(*self.gateway.smtp) as smtp:
            smtp.send_message(message, from_addr=sender, to_addrs=[to])


@pytest.fixture(scope="session", autouse=True)
def browser_is_there() -> None:
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Gateway(tmp_path, SETTINGS) as gateway:
        yield Office(gateway)


@pytest.fixture
def person(office: Office) -> Iterator[Window]:
    """Logged in; at the end the browser must have had nothing to complain of."""
    with window(office.base) as opened:
        opened.log_in(office.admin["email"], office.admin["password"])
        yield opened
        assert opened.complaints() == []
