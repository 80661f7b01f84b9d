"""One client on one kept connection, for `bench.find`: the signed compatible call, and `/v1` with a token, both timed.

Promises: times run from the first byte of the request to the last of its answer; signing and parsing JSON are not
included. Fails: RuntimeError when the answer is not a valid one.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bench.find_cases import Case
from bench.find_truth import Shown
from bench.gateway import Gateway
from postroom.clock import Millis
from postroom_client import Credentials, signed_headers

PATH = "/api/gateway/find-processing-messages"
LIMIT = 120.0  # seconds for one answer


@dataclass(frozen=True)
class Answer:
    milliseconds: float
    begin: Millis
    end: Millis
    rows: int
    total: int
    following: str | None  # the token of the next page
    refused: str  # why there was no answer; empty when there was one
    document: Any

    def shown(self) -> list[Shown]:
        """What a page of the compatible call says of its entries."""
        return [
            Shown(
                row["to"]["emailAddress"], row["subject"], row["size"],
                round(datetime.fromisoformat(row["created"]).timestamp() * 1000),
            )
            for row in self.document["data"][0]["messages"]
        ]  # fmt: skip

    def idents(self) -> list[int]:
        """The ids on a page of `/v1`."""
        return [int(row["id"], 16) for row in self.document["entries"]]


class Client:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._credentials = Credentials.from_admin_json(gateway.data / "admin.json")
        self._connection = http.client.HTTPConnection(*gateway.http, timeout=LIMIT)
        self._token, self._token_until = "", 0.0

    def close(self) -> None:
        self._connection.close()

    def ask(self, case: Case, page: str | None = None) -> Answer:
        return self._language(case, page) if case.query else self._compatible(case, page)

    def _compatible(self, case: Case, token: str | None) -> Answer:
        pagination: dict[str, Any] = {"pageSize": case.size, **({"pageToken": token} if token else {})}
        body = json.dumps({"meta": {"pagination": pagination}, "data": [case.item]}).encode()
        headers = signed_headers(self._credentials, PATH, now=datetime.now(UTC), request_id=str(uuid.uuid4()))
        status, took, begin, end, found = self._timed("POST", PATH, body, headers)
        if status != 200:
            raise RuntimeError(f"{case.name}: expected 200, got {status}: {str(found)[:300]}")
        if failed := found.get("fail"):
            return Answer(took, begin, end, 0, 0, None, json.dumps(failed, ensure_ascii=False), found)
        meta = found["meta"].get("pagination", {})
        rows = len(found["data"][0]["messages"])
        return Answer(took, begin, end, rows, meta.get("totalCount", 0), meta.get("next"), "", found)

    def _language(self, case: Case, after: str | None) -> Answer:
        asked = {
            "q": case.query,
            "limit": str(case.size),
            "total": "false" if after else "true",  # as the compatible call: the page behind has it already
            "order": "oldest" if case.oldest else "newest",
        }
        if after:
            asked["after"] = after
        path = f"/v1/entries?{urllib.parse.urlencode(asked)}"
        status, took, begin, end, found = self._timed("GET", path, None, self._bearer())
        if status == 422:
            return Answer(took, begin, end, 0, 0, None, found["detail"], found)
        if status != 200:
            raise RuntimeError(f"{case.name}: expected 200, got {status}: {str(found)[:300]}")
        return Answer(took, begin, end, len(found["entries"]), found.get("total") or 0, found.get("next"), "", found)

    def own(self, method: str, path: str, body: Any = None) -> tuple[float, Any]:
        """Calls an operation of `/v1`: (seconds, answer)."""
        data = None if body is None else json.dumps(body).encode()
        status, took, _, _, found = self._timed(method, path, data, self._bearer())
        if status != 200:
            raise RuntimeError(f"{method} {path}: expected 200, got {status}: {found}")
        return took / 1000, found

    def _timed(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, float, Millis, Millis, Any]:
        begin, start = time.time_ns() // 1_000_000, time.perf_counter()
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        took = (time.perf_counter() - start) * 1000
        return answer.status, took, begin, time.time_ns() // 1_000_000, json.loads(content)

    def _bearer(self) -> dict[str, str]:
        if time.monotonic() > self._token_until:
            admin = json.loads((self._gateway.data / "admin.json").read_text())
            form = {
                "grant_type": "client_credentials", "client_id": admin["clientId"],
                "client_secret": admin["clientSecret"],
            }  # fmt: skip
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            self._connection.request("POST", "/oauth/token", urllib.parse.urlencode(form), headers)
            found = json.loads(self._connection.getresponse().read())
            self._token, self._token_until = found["access_token"], time.monotonic() + 600
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
