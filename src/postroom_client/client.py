"""The clients, sync and async. They only move bytes and sleep; `exchange` decides what to send and reads the answers.

Promises: a listing asks for a page only when it needs one; connections are reused; `close` (or `with`) closes them.
Fails: the errors of `postroom_client.errors`; ValueError for wrong arguments, before anything is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterator
from os import PathLike
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import urlsplit

try:
    import httpx
except ImportError as missing:  # an extra: the gateway itself does not need it
    raise ImportError('postroom_client needs httpx: pip install "postroom[client]"') from missing

from postroom_client.credentials import Credentials, read_admin_json
from postroom_client.exchange import Answer, Reply, Request, Retries, Step, Unreachable, Wait, find_page
from postroom_client.message import Page, ProcessingMessage
from postroom_client.query import Asked, Query, query

R = TypeVar("R")
TIMEOUT = 30.0  # seconds to connect, and for each wait for bytes


class _Session:
    """What both clients share: everything but the transport."""

    def __init__(self, base_url: str, credentials: Credentials, retries: Retries | None) -> None:
        url = base_url.rstrip("/")
        _check_base_url(url)
        self.base_url = url
        self.credentials = credentials
        self.retries = retries or Retries()

    @classmethod
    def from_admin_json(cls, path: str | PathLike[str], **options: Any) -> Self:
        """A client of the gateway that wrote this `admin.json`; `base_url=` overrides the address in it."""
        base_url, credentials = read_admin_json(path)
        return cls(options.pop("base_url", None) or base_url, credentials, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, {self.credentials!r})"

    def _page(self, asked: Query, token: str | None) -> Generator[Step, Reply, Page]:
        return find_page(self.credentials, asked, token, self.retries)


class Listing:
    """Messages of the processing queue, page by page. Each iteration asks the gateway anew."""

    def __init__(self, client: Client, asked: Query) -> None:
        self._client = client
        self._query = asked

    def __iter__(self) -> Iterator[ProcessingMessage]:
        for page in self.pages():
            yield from page.messages

    def pages(self) -> Iterator[Page]:
        """Page after page, each fetched when needed."""
        token: str | None = None
        while True:
            page = self._client._run(self._client._page(self._query, token))
            yield page
            token = page.next_token
            if token is None:
                return

    def total_count(self) -> int | None:
        """How many messages match now (one call); None when the gateway does not say."""
        return next(self.pages()).total_count


class AsyncListing:
    """Messages of the processing queue, page by page. Each iteration asks the gateway anew."""

    def __init__(self, client: AsyncClient, asked: Query) -> None:
        self._client = client
        self._query = asked

    async def __aiter__(self) -> AsyncIterator[ProcessingMessage]:
        async for page in self.pages():
            for message in page.messages:
                yield message

    async def pages(self) -> AsyncIterator[Page]:
        """Page after page, each fetched when needed."""
        token: str | None = None
        while True:
            page = await self._client._run(self._client._page(self._query, token))
            yield page
            token = page.next_token
            if token is None:
                return

    async def total_count(self) -> int | None:
        """How many messages match now (one call); None when the gateway does not say."""
        return (await self._client._run(self._client._page(self._query, None))).total_count


class Client(_Session):
    """A client of a gateway, or of the vendor. Use it in a `with`, or `close` it."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        timeout: float = TIMEOUT,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        super().__init__(base_url, credentials, retries)
        self._http = http or httpx.Client(timeout=timeout)

    def find_processing_messages(self, **asked: Unpack[Asked]) -> Listing:
        """Messages of the processing queue; no call is made before you iterate over the listing."""
        return Listing(self, query(**asked))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _run(self, steps: Generator[Step, Reply, R]) -> R:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: R = end.value
                return result
            match step:
                case Wait(seconds):
                    time.sleep(seconds)
                    reply = None
                case Request():
                    try:
                        reply = _answer(self._http.post(self.base_url + step.path, **_content(step)))
                    except httpx.RequestError as failure:
                        reply = _unreachable(failure)


class AsyncClient(_Session):
    """The same for asyncio programs. Use it in an `async with`, or `await aclose()` it."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        timeout: float = TIMEOUT,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(base_url, credentials, retries)
        self._http = http or httpx.AsyncClient(timeout=timeout)

    def find_processing_messages(self, **asked: Unpack[Asked]) -> AsyncListing:
        """Messages of the processing queue; no call is made before you iterate over the listing."""
        return AsyncListing(self, query(**asked))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    async def _run(self, steps: Generator[Step, Reply, R]) -> R:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: R = end.value
                return result
            match step:
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                    reply = None
                case Request():
                    try:
                        reply = _answer(await self._http.post(self.base_url + step.path, **_content(step)))
                    except httpx.RequestError as failure:
                        reply = _unreachable(failure)


def _check_base_url(url: str) -> None:
    """The URL appears in a `repr` and in logs: it must not hold a password or token, and neither must this error."""
    expected = "base_url: expected something like https://gateway.example:8080"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text repeats the URL
        raise ValueError(expected) from None
    if "@" in parts.netloc:
        raise ValueError(f"{expected}, without a user name or password")
    if not usable or "?" in url or "#" in url:
        raise ValueError(expected)


def _content(request: Request) -> dict[str, Any]:
    # A redirect would carry the signature elsewhere, and it does not fit the new path.
    return {"content": request.body, "headers": dict(request.headers), "follow_redirects": False}


def _answer(response: httpx.Response) -> Answer:
    return Answer(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
    )


def _unreachable(failure: httpx.RequestError) -> Unreachable:
    return Unreachable(f"{type(failure).__name__} {failure}".strip())
