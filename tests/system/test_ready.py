"""`/health/ready` answers 200 only when a caller can use the gateway: on a first start, once admin.json is written."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest
import uvloop

from postroom.app import Gateway
from postroom.settings import Address, GatewaySettings, Http, Settings, Smtp
from postroom.store.access import identity


def ready(base_url: str) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(f"{base_url}/health/ready", timeout=10) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        status, body = refused.code, refused.read()
    return status, msgspec.json.decode(body)["reasons"]


def test_a_first_start_is_ready_only_after_admin_json_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[tuple[int, list[str]]] = []
    write = identity.write_private

    def asked_first(path: Path, data: bytes) -> None:
        """In the store's writer thread: the event loop is free to answer."""
        before.append(ready(msgspec.json.decode(data)["baseUrl"]))
        write(path, data)

    monkeypatch.setattr(identity, "write_private", asked_first)
    anywhere = (Address("127.0.0.1", 0),)
    gateway = Gateway(
        Settings(
            gateway=GatewaySettings(hostname="gw.corp.example"),
            smtp=Smtp(listen=anywhere),
            http=Http(listen=anywhere),
            data=str(tmp_path / "data"),
        )
    )

    async def first_start() -> tuple[int, list[str]]:
        await gateway.start()
        try:
            admin = msgspec.json.decode((tmp_path / "data" / "admin.json").read_bytes())
            return await gateway.store.read(lambda _: ready(admin["baseUrl"]))
        finally:
            await gateway.stop()

    try:
        after = uvloop.run(first_start())
    finally:
        gateway.close()
    assert before == [(503, ["starting"])]
    assert after == (200, [])
