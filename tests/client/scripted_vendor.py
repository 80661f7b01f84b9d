"""A real HTTP server that answers as the vendor was recorded, and checks signatures with its own arithmetic."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from postroom_client import Credentials

PATH = "/api/gateway/find-processing-messages"
SECRET = b"a secret of twenty b"
CREDENTIALS = Credentials("app-1", "application-key", "access-key", base64.b64encode(SECRET).decode())

INVALID_SIGNATURE = (  # recorded (contract section 0, fact 2)
    '{"meta":{"status":401},"data":[],"fail":[{"errors":[{"code":"err_xdk_invalid_signature",'
    '"message":"0004 Invalid Signature","retryable":false}]}]}'
)
INVALID_APPLICATION = (  # recorded (fact 3): HTTP 200
    '{"meta":{"status":200},"data":[],"fail":[{"errors":[{"code":"err_developer_key",'
    '"message":"App ID is invalid: app-1","retryable":false}]}]}'
)
BINDING_EXPIRED = (
    '{"meta":{"status":418},"data":[],"fail":[{"errors":[{"code":"err_xdk_binding_expired",'
    '"message":"0018 AccessKey Has Expired","retryable":false}]}]}'
)
NOTHING = '{"meta":{"status":200,"pagination":{"pageSize":0}},"data":[{"messages":[]}],"fail":[]}'


def hmac_sha1(key: bytes, text: bytes) -> bytes:
    """RFC 2104 by hand, so that the client's MAC is not checked with the client's MAC."""
    key = (hashlib.sha1(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in key) + text).digest()
    return hashlib.sha1(bytes(byte ^ 0x5C for byte in key) + inner).digest()


def failure(code: str, message: str, *, status: int = 200, **more: Any) -> str:
    """A function failure in the recorded envelope."""
    error = {"code": code, "message": message, "retryable": False, **more}
    return json.dumps({"meta": {"status": status}, "data": [], "fail": [{"key": {"type": "x"}, "errors": [error]}]})


def recorded_item(**changes: Any) -> dict[str, Any]:
    """The vendor's own item (contract section 6.2), with an undocumented priority and without what was absent."""
    return {
        "id": "eNoVzcEOgjAQBNB",
        "fromEnv": {"emailAddress": "alice@corp.example"},
        "fromHeader": {"emailAddress": "alice@corp.example"},
        "to": {"emailAddress": "bob@example.org"},
        "subject": "Quarterly report",
        "attachment": True,
        "routing": "outbound",
        "size": 64342,
        "remoteIp": "192.0.2.10",
        "attempts": 2,
        "nextAttempt": "2022-07-28T10:47:54+0000",
        "created": "2022-07-28T10:46:54+0000",
        "info": "Waiting for a scan result",
        "priority": "normal",
        **changes,
    }


def page(
    items: list[dict[str, Any]], *, total: int | None = None, next: str | None = None, previous: str | None = None
) -> str:
    """A page as recorded: pageSize counts what is on it; next and previous are absent when there is none."""
    pagination: dict[str, Any] = {"pageSize": len(items), "totalCount": len(items) if total is None else total}
    pagination |= {"next": next} if next else {}
    pagination |= {"previous": previous} if previous else {}
    return json.dumps({"meta": {"status": 200, "pagination": pagination}, "data": [{"messages": items}], "fail": []})


@dataclass
class Scripted:
    """One answer. `hang_up` = the connection ends where the answer should be."""

    body: str = NOTHING
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: Any
    signed: bool


class ScriptedVendor:
    """Gives the scripted answers in order, the last one for ever; `seen` has every request."""

    def __init__(self) -> None:
        self.answers: list[Scripted] = []
        self.seen: list[Seen] = []
        self.secret = SECRET
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def script(self, *answers: Scripted | str) -> None:
        self.answers = [Scripted(answer) if isinstance(answer, str) else answer for answer in answers]

    def _signed(self, path: str, headers: dict[str, str]) -> bool:
        realm, _, rest = headers.get("authorization", "").partition(" ")
        access_key, _, given = rest.rpartition(":")
        text = f"{headers.get('x-mc-date')}:{headers.get('x-mc-req-id')}:{path}:{CREDENTIALS.app_key}"
        wanted = base64.b64encode(hmac_sha1(self.secret, text.encode())).decode()
        return (realm, access_key, given) == ("MC", CREDENTIALS.access_key, wanted)

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> Scripted:
        signed = self._signed(path, headers)
        self.seen.append(Seen(path, headers, json.loads(body), signed))
        if not signed:
            return Scripted(INVALID_SIGNATURE, 401)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        decide: Callable[[str, dict[str, str], bytes], Scripted] = self._answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = decide(self.path, headers, self.rfile.read(int(headers["content-length"])))
                if answer.hang_up:
                    self.close_connection = True
                    return
                content = answer.body.encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
