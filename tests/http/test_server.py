"""The server round the functions: health, metrics, wrong addresses, limits, our own failures, the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from typing import Any

import msgspec
import pytest

from postroom.errors import EnvironmentFailed
from postroom.http.asgi import new_request_id
from postroom.http.console import answers
from postroom.http.listener import server
from postroom.http.listener.server import MAX_HEAD, BoundedHttp, HttpServer, application
from postroom.model import Outcome, Queue
from postroom.settings import Address, Http
from postroom.store.access import identity
from postroom.telemetry import Log
from tests.http.conftest import (
    FIND,
    GOLDEN,
    Quiet,
    Serve,
    Served,
    connected,
    golden,
    read_answer,
    request_bytes,
    talk,
)


def a_scope(method: str, path: str, *headers: tuple[bytes, bytes], client: str = "192.0.2.1") -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": list(headers), "client": (client, 50_000), "http_version": "1.1", "scheme": "http",
        "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip


async def test_live_and_ready(served: Served) -> None:
    assert (await served.get("/health/live")).json == {"status": "live"}
    assert (await served.get("/health/ready")).json == {"status": "ready", "reasons": []}
    served.not_ready.append("disk low")
    answer = await served.get("/health/ready")
    assert (answer.status, answer.json) == (503, {"status": "not ready", "reasons": ["disk low"]})
    assert (await served.get("/health/live")).status == 200


async def test_metrics_tell_queues_ledger_and_counts(served: Served) -> None:
    await served.put("a@corp.example", "b@corp.example", locked_until=served.clock.now() + 1000)
    await served.put(queue=Queue.BULK)
    served.services.counts.smtp_accepted = 2
    served.services.counts.smtp_refused = {550: 3}
    served.services.counts.ack_seconds[1] = 4
    served.services.counts.ack_seconds[-1] = 1
    answer = await served.get("/metrics")
    assert answer.status == 200
    lines = dict(line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#"))
    expected = {
        'postroom_queue_entries{queue="processing"}': 2, 'postroom_queue_entries{queue="bulk_processing"}': 1,
        'postroom_queue_entries{queue="held"}': 0, 'postroom_queue_locked{queue="processing"}': 2,
        'postroom_created_total{origin="accepted"}': 3, 'postroom_ended_total{outcome="delivered"}': 0,
        "postroom_ledger_difference": 0, "postroom_smtp_accepted_total": 2,
        'postroom_smtp_refused_total{code="550"}': 3,
        'postroom_ack_seconds_bucket{le="0.001"}': 0, 'postroom_ack_seconds_bucket{le="0.002"}': 4,
        'postroom_ack_seconds_bucket{le="5.0"}': 4, 'postroom_ack_seconds_bucket{le="+Inf"}': 5,
    }  # fmt: skip
    assert {name: float(lines[name]) for name in expected} == expected
    assert {f'postroom_ended_total{{outcome="{outcome.value}"}}' for outcome in Outcome} <= lines.keys()
    assert all(re.fullmatch(r"postroom_[a-z_]+(\{[^}]*\})?", name) for name in lines)


@pytest.mark.parametrize(
    ("host", "status"),
    [("192.0.2.1", 401), ("2001:db8::1", 401), ("127.0.0.5", 200), ("::1", 200), ("::ffff:127.0.0.1", 200),
     ("::1234", 401), ("::1:2", 401), ("127.evil.example", 401), ("", 401)],
)  # fmt: skip
async def test_metrics_are_for_this_machine(served: Served, host: str, status: int) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = a_scope("GET", "/metrics", client=host)
    await application(served.services)(scope, receive, send)
    assert sent[0]["status"] == status


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "x-real-ip"])
async def test_metrics_are_not_shown_through_a_proxy_on_this_machine(served: Served, name: str) -> None:
    assert (await served.get("/metrics", {name: "for=192.0.2.1"})).status == 401
    assert (await served.get("/metrics", {name: ""})).status == 401


async def test_metrics_are_shown_to_other_machines_with_a_token_that_may(served: Served) -> None:
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    answer = await served.get("/metrics", elsewhere)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert b"access token" in answer.body
    assert (await served.get("/metrics", elsewhere | {"Authorization": "Bearer wrong"})).status == 401
    for role in (identity.ADMINISTRATOR, identity.MONITOR):
        answer = await served.get("/metrics", elsewhere | await served.bearer(role))
        assert answer.status == 200
        assert b"postroom_ledger_difference 0" in answer.body
    await served.store.write(lambda tx: tx.rows("""UPDATE role SET permissions = '["Monitoring | Held | Read"]'"""))
    answer = await served.get("/metrics", elsewhere | await served.bearer(identity.MONITOR))
    assert answer.status == 403
    assert b"Account | Dashboard | Read" in answer.body


async def test_an_unknown_address_is_a_404_envelope(served: Served) -> None:
    for answer in (
        await served.post("/api/gateway/nothing", served.signed(), b"{}"),
        await served.get("/api/gateway/nothing"),
    ):
        assert (answer.status, answer.body) == (404, golden("url_not_found"))
        assert "x-ratelimit-remaining" in answer.headers
    answer = await served.get("/nothing")
    assert answer.status == 404
    assert answer.json["meta"] == {"status": 404}


async def test_a_wrong_method_is_a_405_envelope(served: Served) -> None:
    answer = await served.get(FIND, served.signed())
    assert (answer.status, answer.body, answer.headers["allow"]) == (405, golden("method_not_allowed"), "POST")
    answer = await served.post("/health/live", {})
    assert (answer.status, answer.json["meta"]) == (405, {"status": 405})


async def test_a_body_too_large_is_a_413_envelope_said_or_streamed(served: Served) -> None:
    body = b"{'data': [{}]}".ljust(256 * 1024)
    assert (await served.post(FIND, served.signed(), body)).status == 200
    answer = await served.post(FIND, served.signed(), body + b" ")
    assert (answer.status, answer.body) == (413, golden("body_too_large_said"))
    assert answer.headers["connection"] == "close"
    headers = served.signed() | {"Transfer-Encoding": "chunked"}
    head = request_bytes("PUT", FIND, headers).replace(b"PUT", b"POST", 1)
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    answer = await talk(served.address, head + chunk * 9 + b"0\r\n\r\n")
    assert (answer.status, answer.body) == (413, golden("body_too_large_streamed"))


async def test_a_chunked_body_is_read(served: Served) -> None:
    headers = served.signed() | {"Transfer-Encoding": "chunked"}
    head = request_bytes("PUT", FIND, headers).replace(b"PUT", b"POST", 1)
    answer = await talk(served.address, head + b"5\r\n{'dat\r\n7\r\na': []}\r\n0\r\n\r\n")
    assert answer.messages == []


async def test_a_failure_of_ours_is_a_500_envelope_without_details(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a mistake in the program")

    monkeypatch.setattr("postroom.http.gateway.paging.queues.read_page", fail)
    answer = await served.post(FIND, served.signed() | {"x-request-id": "my-id"}, b"{}")
    assert (answer.status, answer.body) == (500, golden("internal_error"))
    (line,) = [line for line in served.told.lines if "http_failed" in line]
    assert "my-id" in line
    assert "Traceback" in line
    assert (await served.get("/health/live")).status == 200


async def test_a_store_that_cannot_be_read_is_a_500_envelope_that_says_try_again(served: Served) -> None:
    await served.store.write(lambda tx: tx.rows("ALTER TABLE info RENAME TO info_elsewhere"))
    answer = await served.post(FIND, served.signed() | {"x-request-id": "my-id"}, b"{}")
    assert (answer.status, answer.body) == (500, golden("store_unavailable"))
    assert "x-ratelimit-remaining" in answer.headers
    (line,) = [line for line in served.told.lines if "http_failed" in line]
    assert "my-id" in line
    assert "no such table" in line
    assert (await served.get("/health/live")).status == 200


async def test_a_failure_outside_the_api_is_answered_and_told_once(served: Served) -> None:
    await served.store.write(lambda tx: tx.rows("ALTER TABLE ledger RENAME TO ledger_elsewhere"))
    answer = await served.get("/metrics")
    assert (answer.status, answer.body) == (500, golden("internal_error"))
    assert len([line for line in served.told.lines if "no such table" in line]) == 1


async def test_every_answer_has_a_request_id(served: Served) -> None:
    for target in ("/health/live", "/nothing", "/api/nothing"):
        first, second = await served.get(target), await served.get(target)
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert (await served.get(target, {"X-Request-Id": "a-b_c.7"})).headers["x-request-id"] == "a-b_c.7"
        for wrong in ("with blank", "x" * 129, "ümlaut"):
            answer = await talk(served.address, request_bytes("GET", target, {"x-request-id": wrong}))
            assert uuid.UUID(answer.headers["x-request-id"]).version == 4


def test_request_ids_are_uuids_of_version_4() -> None:
    made = {new_request_id() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one) for one in made
    )


async def test_every_answer_has_the_security_headers(served: Served) -> None:
    for target in ("/health/live", "/nothing", "/api/nothing", "/metrics"):
        headers = (await served.get(target)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src" in headers["content-security-policy"]
        assert "server" not in headers


async def test_a_connection_is_kept_for_the_next_call(served: Served) -> None:
    async with connected(served.address) as (reader, writer):
        for headers in (served.signed(), served.signed(secret_key="c2VjcmV0"), served.signed()):
            writer.write(request_bytes("POST", FIND, headers, b"{'data': [{}]}"))
            answer = await read_answer(reader)
            assert answer.status in (200, 401)


@pytest.mark.parametrize("calls_before", [0, 1])
async def test_a_head_without_end_is_cut_off(served: Served, calls_before: int) -> None:
    async with connected(served.address) as (reader, writer):
        for _ in range(calls_before):
            writer.write(request_bytes("POST", FIND, served.signed(), b"{}".ljust(100_000)))
            assert (await read_answer(reader)).status == 200
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: ")
        await writer.drain()
        writer.write(b"a" * (MAX_HEAD + 256 * 1024))
        said = b""
        with contextlib.suppress(ConnectionResetError):  # what was sent and not read may overtake the answer
            said = await reader.read()
        assert said == b"" or said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("sent", ["nothing", "half a head", "half a body"])
async def test_a_request_that_does_not_arrive_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setattr(server, "ARRIVAL_TIMEOUT", 0.05)
    whole = request_bytes("POST", FIND, served.signed(), b"{'data': []}")
    async with connected(served.address) as (reader, writer):
        writer.write({"nothing": b"", "half a head": whole[:99], "half a body": whole[:-4]}[sent])
        assert await reader.read() == b""


MANY = 800  # style sheets are more than two sockets hold


def style_sheet() -> bytes:
    """A request whose answer is large and costs nothing."""
    return request_bytes("GET", answers._static_paths["console.css"], {})


@pytest.mark.parametrize("buffer", [64 * 1024, 1024**3])
async def test_a_client_that_never_reads_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch, buffer: int) -> None:
    """Also one that leaves less unread than makes the server pause: closing would wait for it for ever."""
    cut = asyncio.Event()
    made, lost = BoundedHttp.connection_made, BoundedHttp.connection_lost

    def connection_made(self: BoundedHttp, transport: asyncio.Transport) -> None:
        made(self, transport)
        transport.set_write_buffer_limits(buffer)

    def connection_lost(self: BoundedHttp, problem: Exception | None) -> None:
        lost(self, problem)
        cut.set()

    monkeypatch.setattr(BoundedHttp, "connection_made", connection_made)
    monkeypatch.setattr(BoundedHttp, "connection_lost", connection_lost)
    monkeypatch.setattr(server, "UNREAD_TIMEOUT", 0.1)
    async with connected(served.address) as (_, writer), asyncio.timeout(30):
        writer.write(style_sheet() * MANY)
        await cut.wait()
    assert not served.server._server.server_state.connections  # type: ignore[union-attr]


async def test_a_client_that_reads_late_gets_everything(served: Served) -> None:
    async with connected(served.address) as (reader, writer):
        writer.write(style_sheet() * MANY)
        await writer.drain()
        sizes = {len((await read_answer(reader)).body) for _ in range(MANY)}
        assert len(sizes) == 1
        (tx,) = served.server._server.server_state.connections  # type: ignore[union-attr]
        assert tx._unread is None  # type: ignore[union-attr]


async def test_a_client_that_leaves_is_no_failure_of_ours(served: Served) -> None:
    told = Quiet()
    log = Log(told, level="debug", clock=served.clock)
    services = msgspec.structs.replace(served.services, log=log)
    for event, left in (("http_client_left", True), ("http_failed", False)):

        async def receive(left: bool = left) -> dict[str, Any]:
            if left:
                return {"type": "http.disconnect"}
            raise RuntimeError("of ours")

        async def send(message: Any) -> None:
            pass

        scope = a_scope("POST", "/console/login", (b"content-type", b"application/x-www-form-urlencoded"))
        await application(services)(scope, receive, send)
        log.flush()
        (line,) = told.lines
        told.lines.clear()
        assert f" {event} " in line
        assert (" debug " in line, "Traceback" in line) == (left, not left)


async def test_what_is_not_http_is_refused(served: Served) -> None:
    async with connected(served.address) as (reader, writer):
        writer.write(b"EHLO mail.example\r\n\r\n")
        answer = await read_answer(reader)
        assert (answer.status, answer.body) == (400, golden("not_http"))
        assert answer.headers["connection"] == "close"
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])
        assert await reader.read() == b""


async def test_one_connection_too_many_is_told_to_come_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    call = request_bytes("GET", "/health/live", {})
    async with connected(served.address) as (reader, writer), connected(served.address) as (_, second):
        for each in (writer, second):
            each.write(call)
        assert (await read_answer(reader)).status == 200
        async with connected(served.address) as (refused, third):
            third.write(call)
            answer = await read_answer(refused)
            assert (answer.status, answer.body) == (503, golden("too_many_connections"))
            assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
            assert "x-request-id" in answer.headers
            assert await refused.read() == b""
        writer.write(call)
        assert (await read_answer(reader)).status == 200


async def test_all_addresses_are_bound_and_told(serve: Serve) -> None:
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0), Address("127.0.0.2", 0))))
    assert len(served.server.addresses) == 2
    for address in served.server.addresses:
        assert (await talk(address, request_bytes("GET", "/health/live", {}))).status == 200


async def test_a_taken_address_is_named(served: Served) -> None:
    taken = served.address
    settings = msgspec.structs.replace(served.services.settings, http=Http(listen=(taken,)))
    with pytest.raises(EnvironmentFailed, match=re.escape(str(taken))):
        await HttpServer(settings, served.services, served.services.log).start()


async def test_a_stop_answers_what_runs_and_closes_what_idles(serve: Serve) -> None:
    served = await serve()
    whole = request_bytes("POST", FIND, served.signed() | {"Expect": "100-continue"}, b"{'data': []}")
    async with connected(served.address) as (idle_reader, idle_writer), connected(served.address) as (reader, writer):
        idle_writer.write(request_bytes("GET", "/health/live", {}))
        await read_answer(idle_reader)
        writer.write(whole[:-4])
        # The call is running when it asks for its body, which is not all there.
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        stopping = asyncio.create_task(served.server.stop(5))
        assert await idle_reader.read() == b""
        writer.write(whole[-4:])
        assert (await read_answer(reader)).messages == []
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(served.address.host, served.address.port)


async def test_a_stop_does_not_wait_longer_than_its_grace(serve: Serve) -> None:
    served = await serve()
    whole = request_bytes("POST", FIND, served.signed() | {"Expect": "100-continue"}, b"{'data': []}")
    async with connected(served.address) as (reader, writer):
        writer.write(whole[:-4])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        async with asyncio.timeout(30):
            await served.server.stop(0.01)
            assert (await reader.read()).startswith(b"HTTP/1.1 5")  # and the connection is closed
    assert any("a call was cut off" in line for line in served.told.lines)


async def test_many_callers_at_once_each_get_their_own(served: Served) -> None:
    await served.put(*[f"r{number}@corp.example" for number in range(50)])

    async def one(size: int) -> None:
        answer = await served.find({}, pageSize=size)
        assert answer.pagination["pageSize"] == size
        assert answer.pagination["totalCount"] == 50

    await asyncio.gather(*[one(size) for size in range(1, 50)])


async def test_the_root_leads_to_the_console(served: Served) -> None:
    answer = await served.get("/")
    assert (answer.status, answer.headers["location"]) == (302, "/console/")


def test_golden_files_are_one_line_of_compact_json_each() -> None:
    for path in sorted(GOLDEN.glob("*.json")):
        text = path.read_text()
        assert text.count("\n") == 1, path
        assert list(json.loads(text))[:3] == ["meta", "data", "fail"], path
