"""The client against the real gateway, which was started for it with processing paused."""

from __future__ import annotations

import json
import os
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from postroom_client import (
    AsyncClient,
    AuthenticationError,
    Client,
    Credentials,
    InvalidApplication,
    InvalidToken,
    PostroomClientError,
)
from postroom_client.exchange import Retries, find_page
from postroom_client.query import query

pytestmark = pytest.mark.system
MESSAGES = 7


def mail(number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ängström Öberg <a@example.org>"
    message["To"] = f"Bob <bob{number}@corp.example>"
    message["Subject"] = f"Überweisung {number}"
    message.set_content("hello\n")
    if number % 2:
        message.add_attachment(b"1;2\n", maintype="text", subtype="csv", filename="a.csv")
    return message


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("gateway")
    settings = place / "postroom.toml"
    settings.write_text(
        'data = "."\n[gateway]\ninternal_domains = ["corp.example"]\n[smtp]\nlisten = ["127.0.0.1:0"]\n'
        '[http]\nlisten = ["127.0.0.1:0"]\n[processing]\npaused = true\n'
    )
    command = [str(Path(sys.executable).with_name("postroom")), "serve", "--config", str(settings)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if " ready " in line:
                break
        else:
            raise AssertionError(f"the gateway did not start:\n{said}")
        smtp = json.loads((place / "admin.json").read_text())["smtp"]
        host, _, port = smtp.rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=10) as sender:
            for number in range(MESSAGES):
                sender.send_message(mail(number), "a@example.org", [f"bob{number}@corp.example"])
        yield place
        process.terminate()
        process.stderr.read()
    assert process.returncode == 0


@pytest.fixture
def client(data: Path) -> Iterator[Client]:
    with Client.from_admin_json(data / "admin.json") as made:
        yield made


def subjects(client: Client, **asked: object) -> list[str]:
    return [message.subject for message in client.find_processing_messages(**asked)]  # type: ignore[arg-type]


def test_what_was_sent_is_listed_newest_first(client: Client) -> None:
    assert subjects(client) == [f"Überweisung {number}" for number in reversed(range(MESSAGES))]
    assert subjects(client, newest_first=False) == [f"Überweisung {number}" for number in range(MESSAGES)]


def test_all_fields(client: Client) -> None:
    (message,) = client.find_processing_messages(search=("toAddress", "bob3@"))
    assert str(message.from_header) == "Ängström Öberg <a@example.org>"
    assert message.from_env.address == "a@example.org"
    assert message.to.address == "bob3@corp.example"
    assert (message.routing, message.attachment, message.remote_ip) == ("inbound", True, "127.0.0.1")
    assert (message.priority, message.info) == ("normal", "Queued for Processing")
    assert message.size > 300
    assert message.created is not None
    assert timedelta(0) <= datetime.now(UTC) - message.created < timedelta(minutes=5)
    assert message.light() == "delayed"


def test_pages(client: Client) -> None:
    listing = client.find_processing_messages(page_size=3)
    assert listing.total_count() == MESSAGES
    pages = list(listing.pages())
    assert [len(page.messages) for page in pages] == [3, 3, 1]
    assert [page.total_count for page in pages] == [MESSAGES] * 3
    assert len({message.id for page in pages for message in page.messages}) == MESSAGES


def test_filters(client: Client) -> None:
    assert len(subjects(client, attachments=True)) == MESSAGES // 2
    assert len(subjects(client, attachments=False)) == MESSAGES - MESSAGES // 2
    assert len(subjects(client, route="inbound")) == MESSAGES
    assert subjects(client, route="outbound") == []
    assert subjects(client, type="bulk_processing") == []
    assert subjects(client, search=("subject", "überWEISUNG 4")) == ["Überweisung 4"]
    assert subjects(client, search="öberg", page_size=2) == subjects(client)
    assert subjects(client, end=datetime.now(UTC) - timedelta(days=1)) == []
    assert client.find_processing_messages(route="outbound").total_count() == 0


def test_wrong_keys(client: Client) -> None:
    good = client.credentials
    for wrong, kind in (
        (replace(good, secret_key="d3Jvbmc="), AuthenticationError),
        (replace(good, app_key="wrong"), AuthenticationError),
        (replace(good, access_key="wrong"), AuthenticationError),
        (replace(good, app_id="wrong"), InvalidApplication),
    ):
        with (
            Client(client.base_url, wrong, retries=Retries(first_wait=0.001)) as stranger,
            pytest.raises(kind) as caught,
        ):
            stranger.find_processing_messages().total_count()
        assert caught.value.request_id


def test_a_page_token_that_is_none(client: Client) -> None:
    with pytest.raises(InvalidToken):
        client._run(find_page(client.credentials, query(), "not a token", client.retries))


async def test_async(data: Path) -> None:
    async with AsyncClient.from_admin_json(data / "admin.json") as client:
        listing = client.find_processing_messages(page_size=2)
        assert await listing.total_count() == MESSAGES
        assert len([message async for message in listing]) == MESSAGES
        stranger = AsyncClient(client.base_url, Credentials("a", "b", "c", "ZA=="), retries=Retries(attempts=1))
        with pytest.raises(PostroomClientError):
            await stranger.find_processing_messages().total_count()
        await stranger.aclose()
