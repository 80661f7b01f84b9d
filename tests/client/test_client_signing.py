"""The signature is the vendor's, to the byte."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from scripted_vendor import CREDENTIALS, hmac_sha1

from postroom_client import Client, Credentials, date_header, signature, signed_headers


def test_known_answer() -> None:
    credentials = Credentials("any", "ApplicationKey", "any", base64.b64encode(b"SecretKey").decode())
    assert (
        signature(
            credentials,
            date="Sun, 21 Aug 2022 13:49:40 UTC",
            request_id="3d796b76-4180-40e5-8f7c-6e0fd643b1a9",
            path="/api/test/some-url",
        )
        == "WOywLsnZlsE+D6bp/ug6uch5kxc="
    )


def test_the_tests_own_arithmetic_knows_the_answer_too() -> None:
    text = b"Sun, 21 Aug 2022 13:49:40 UTC:3d796b76-4180-40e5-8f7c-6e0fd643b1a9:/api/test/some-url:ApplicationKey"
    assert base64.b64encode(hmac_sha1(b"SecretKey", text)) == b"WOywLsnZlsE+D6bp/ug6uch5kxc="


def test_dates_are_written_as_the_vendor_writes_them() -> None:
    assert date_header(datetime(2015, 11, 24, 12, 50, 11, tzinfo=UTC)) == "Tue, 24 Nov 2015 12:50:11 UTC"
    assert date_header(datetime(2015, 1, 4, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))) == (
        "Sat, 03 Jan 2015 23:02:03 UTC"
    )


def test_headers_of_a_call() -> None:
    headers = signed_headers(
        CREDENTIALS, "/api/x", now=datetime(2015, 11, 24, 12, 50, 11, tzinfo=UTC), request_id="id-1"
    )
    assert headers["x-mc-app-id"] == "app-1"
    assert headers["x-mc-req-id"] == "id-1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].startswith("MC access-key:")


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("app_id", {"app_id": ""}),
        ("app_key", {"app_key": "line\nbreak"}),
        ("access_key", {"access_key": "nåme"}),
        ("secret_key", {"secret_key": "not base64!"}),
        ("secret_key", {"secret_key": ""}),
    ],
)
def test_wrong_credentials_are_named_but_not_shown(word: str, changes: dict[str, str]) -> None:
    words = {"app_id": "a", "app_key": "b", "access_key": "c", "secret_key": "c2VjcmV0"} | changes
    with pytest.raises(ValueError, match=word) as failure:
        Credentials(**words)
    assert changes[word].strip() == "" or changes[word] not in str(failure.value)


def test_no_key_is_in_a_repr() -> None:
    client = Client("http://127.0.0.1:1", CREDENTIALS)
    for text in (repr(CREDENTIALS), str(CREDENTIALS), repr(client)):
        assert "app-1" in text
        for secret in (CREDENTIALS.app_key, CREDENTIALS.access_key, CREDENTIALS.secret_key):
            assert secret not in text
    client.close()


def test_admin_json(tmp_path: Path) -> None:
    place = tmp_path / "admin.json"
    place.write_text(
        json.dumps(
            {
                "baseUrl": "http://127.0.0.1:8080",
                "smtp": "127.0.0.1:2525",
                "appId": "app-1",
                "appKey": "application-key",
                "accessKey": "access-key",
                "secretKey": CREDENTIALS.secret_key,
                "email": "admin@gw.corp.example",
                "password": "never shown",
            }
        )
    )
    assert Credentials.from_admin_json(place) == CREDENTIALS
    with Client.from_admin_json(place) as client:
        assert client.base_url == "http://127.0.0.1:8080"
    with Client.from_admin_json(place, base_url="http://localhost:9/") as client:
        assert client.base_url == "http://localhost:9"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"baseUrl": "http://x", "appId": 3}'])
def test_a_wrong_admin_json_is_refused(tmp_path: Path, content: str) -> None:
    place = tmp_path / "admin.json"
    place.write_text(content)
    with pytest.raises(ValueError, match=r"admin\.json"):
        Credentials.from_admin_json(place)


@pytest.mark.parametrize("url", ["", "gateway.example", "ftp://gateway.example", "http://"])
def test_a_wrong_base_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(url, CREDENTIALS)
