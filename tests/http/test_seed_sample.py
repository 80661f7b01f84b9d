"""The vendor's own Python sample as published, with only address, keys and (second) placeholder values filled in."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import types
import urllib.error
import urllib.request
import warnings

import pytest

from postroom.clock import SystemClock
from postroom.model import Route
from postroom.store.access import identity
from tests.http.conftest import GOLDEN, Serve, Served, golden

SEARCH = '"searchBy": {{\n"value": "{}",\n"fieldName": "{}"'
FILTER = '"filterBy": [\n{{\n"value": "{}",\n"fieldName": "{}"'
SAMPLE = (GOLDEN / "seed_sample.py.txt").read_text()


class _Response:
    def __init__(self, text: str) -> None:
        self.text = text


def _post(*, url: str, headers: dict[str, str], data: str) -> _Response:
    """As much of the `requests` package as the sample uses."""
    request = urllib.request.Request(url, data=data.encode(), headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return _Response(answer.read().decode())
    except urllib.error.HTTPError as problem:
        with problem:
            return _Response(problem.read().decode())


async def run(served: Served, monkeypatch: pytest.MonkeyPatch, *filled: tuple[str, str]) -> str:
    """What the sample prints, with these pieces of its text replaced."""
    keys = served.keys[identity.ADMINISTRATOR]
    text = SAMPLE
    for old, new in (  # each one exactly as it stands there
        *filled,
        ("https://xx-api.mimecast.com", f"http://{served.address}"),
        ("YOUR ACCESS KEY", keys.access_key),
        ("YOUR SECRET KEY", keys.secret_key),
        ("YOUR APPLICATION ID", keys.app_id),
        ("YOUR APPLICATION KEY", keys.app_key),
    ):
        assert old in text
        text = text.replace(old, new)
    shim = types.ModuleType("requests")
    shim.__dict__["post"] = _post
    monkeypatch.setitem(sys.modules, "requests", shim)
    printed = io.StringIO()

    def execute() -> None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore", DeprecationWarning)  # the sample calls utcnow()
            exec(compile(text, "seed_sample.py", "exec"), {"__name__": "__main__"})

    await asyncio.to_thread(execute)
    return printed.getvalue().rstrip("\n")


async def test_with_its_placeholders_it_is_told_precisely_what_to_fill_in(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve(clock=SystemClock())
    assert (await run(served, monkeypatch)).encode() == golden("seed_placeholders")


async def test_with_real_values_it_gets_rows(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = await serve(clock=SystemClock())
    await served.put(subject="It's found")
    await served.put(subject="another")
    await served.put(subject="it's outbound", route=Route.OUTBOUND)
    await served.put(subject="and so it's this")
    filled = (
        ('"end": "2015-11-16T14:49:18+0000"', '"end": "2099-11-16T14:49:18+0000"'),
        ('"sortOrder": "String"', '"sortOrder": "ascending"'),
        ('"sortBy": "String"', '"sortBy": "createTime"'),
        ('"type": "String"', '"type": "processing"'),
        (SEARCH.format("String", "String"), SEARCH.format("it's", "subject")),
        (FILTER.format("String", "String"), FILTER.format("inbound", "route")),
    )
    answer = json.loads(await run(served, monkeypatch, *filled))
    assert answer["fail"] == []
    assert answer["meta"] == {"status": 200, "pagination": {"pageSize": 2, "totalCount": 2}}
    assert [message["subject"] for message in answer["data"][0]["messages"]] == ["It's found", "and so it's this"]
