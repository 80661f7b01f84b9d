"""The envelope of every answer, `{"meta":..,"data":[..],"fail":[..]}`, compact, in that order (contract section 3).

Pure. Promises: `fail` and `meta.status` are always present, nulls never; `<` and `>` are escaped, as the vendor does.
A Failure is a complete answer: raise it anywhere, and the front sends it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.errors import PeerError

RECORDED_HEADERS = (  # of functions that ran; refusals before that were recorded without them (contract 1.3)
    (b"cache-control", b"no-store"),
    (b"pragma", b"no-cache"),
    (b"x-robots-tag", b"noindex, nofollow"),
)
CONTENT_TYPE = (b"content-type", b"application/json")


class Fault(msgspec.Struct, frozen=True):
    """One reason, members in the recorded order; `field` comes first, when there is one."""

    field: str | msgspec.UnsetType
    code: str
    message: str
    retryable: bool


class ItemFailure(msgspec.Struct, frozen=True):
    """What is wrong with one item of `data`; `key` echoes the item."""

    key: Any
    faults: tuple[Fault, ...]


class Pagination(msgspec.Struct, frozen=True, omit_defaults=True):
    """`pageSize` is the number of items on this page; members without a value are left out."""

    pageSize: int  # noqa: N815 - the wire's name, as below
    totalCount: int | None = None  # noqa: N815
    next: str | None = None
    previous: str | None = None


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    status: int
    pagination: Pagination | None = None


class Envelope(msgspec.Struct, frozen=True):
    meta: Meta
    data: list[Any]
    fail: list[Any]


_encode = msgspec.json.Encoder().encode


class Failure(PeerError):
    """A call that ends before its function has run: HTTP status, one fault, headers beside the usual ones."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fault = Fault(msgspec.UNSET, code, message, retryable)
        self.headers = headers

    def body(self) -> bytes:
        return encode(Meta(self.status), [], [{"errors": [self.fault]}])


def encode(meta: Meta, data: list[Any], fail: list[Any]) -> bytes:
    """`<` and `>` occur only inside strings, where the escape means the same."""
    return _encode(Envelope(meta, data, fail)).replace(b"<", b"\\u003c").replace(b">", b"\\u003e")


def answer(data: list[Any], failed: list[ItemFailure], pagination: Pagination | None) -> bytes:
    """The body of a function that ran: HTTP 200, whatever is in `fail`."""
    return encode(Meta(200, pagination), data, [_item(failure) for failure in failed])


def _item(failure: ItemFailure) -> dict[str, Any]:
    errors = {"errors": failure.faults}
    return errors if failure.key is None else {"key": failure.key, **errors}


class _Reason(msgspec.Struct):
    code: str
    message: str


class _Failed(msgspec.Struct):
    errors: list[_Reason]


class _Written(msgspec.Struct):
    data: list[msgspec.Raw]
    fail: list[_Failed]


_written = msgspec.json.Decoder(_Written).decode


def refusal(body: bytes) -> Failure | None:
    """The first reason why a function did nothing; None when it did something."""
    found = _written(body)
    if found.data or not found.fail:
        return None
    reason = found.fail[0].errors[0]
    return Failure(200, reason.code, reason.message)


def not_allowed(field: str, expected: str) -> Fault:
    """A value outside its enumeration, in the vendor's words."""
    return Fault(field, "err_validation_value_not_allowed", f"Field must be one of [{expected}]", False)


def malformed(field: str, expected: str) -> Fault:
    """A value of the wrong form; the code is the nearest that clients know."""
    return Fault(field, "err_validation_value_not_allowed", f"Field must be {expected}", False)


def too_broad(problem: PeerError) -> Fault:
    """A search that is too broad; the text says what to send instead."""
    return Fault(msgspec.UNSET, "err_search_too_broad", f"Search not answered: {problem}", True)


def invalid_token(reason: str = "") -> Fault:
    """A page token or id that is not ours, or has expired (contract section 3: `0007 Invalid token`)."""
    return Fault(msgspec.UNSET, "xdk_failure", f"0007 Invalid token{reason}", False)
