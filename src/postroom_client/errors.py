"""What can go wrong, as types. This API reports failures as HTTP 200 with a `fail` list: here they are errors.

    PostroomClientError
      ConnectionFailed          no answer: refused, reset, timed out (after the retries)
      ApiError                  the answer is a failure: `code`, `message`, `field`, `request_id`, `status`, `errors`
        AuthenticationError     wrong keys, wrong signature, clock too far off
          InvalidApplication    the application id is not known
          BindingExpired        the access key has expired: log in again
        PermissionDenied        known, but not allowed
        InvalidRequest          a field is missing or wrong: see `field`
          InvalidToken          a page token or id that is corrupt or too old: ask for the first page again
        RateLimited             too many calls; `wait` says how long
        ServerFailed            500..599
        UnexpectedAnswer        not an answer of this API at all (a proxy's page, for example)

Promises: no message, `repr` or attribute holds a key or a signature.
"""

from __future__ import annotations

from dataclasses import dataclass


class PostroomClientError(Exception):
    """Base of all errors of this package."""


class ConnectionFailed(PostroomClientError):
    """No answer from the gateway."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One element of `fail[].errors`. `message` is for people, `code` for programs."""

    code: str
    message: str
    field: str | None = None
    retryable: bool | None = None


class ApiError(PostroomClientError):
    """The gateway answered with a failure. The attributes are those of the first one; `errors` has them all."""

    def __init__(self, failures: tuple[Failure, ...], *, status: int, request_id: str) -> None:
        assert failures
        self.errors = failures
        self.status = status
        self.request_id = request_id
        super().__init__(str(self))

    @property
    def code(self) -> str:
        return self.errors[0].code

    @property
    def message(self) -> str:
        return self.errors[0].message

    @property
    def field(self) -> str | None:
        return self.errors[0].field

    @property
    def retryable(self) -> bool | None:
        return self.errors[0].retryable

    def __str__(self) -> str:
        place = f" ({self.field})" if self.field else ""
        more = f" and {len(self.errors) - 1} more" if len(self.errors) > 1 else ""
        return f"{self.code}: {self.message}{place}{more} [HTTP {self.status}, request {self.request_id}]"


class AuthenticationError(ApiError):
    """The gateway does not accept our identity."""


class InvalidApplication(AuthenticationError):
    """The application id is unknown; the vendor sometimes says so of a valid one, for a moment."""


class BindingExpired(AuthenticationError):
    """The access key has expired."""


class PermissionDenied(ApiError):
    """Known, but not allowed to do this."""


class InvalidRequest(ApiError):
    """A field of the request is missing or wrong."""


class InvalidToken(InvalidRequest):
    """A page token or an id that the gateway cannot read (any more)."""


class RateLimited(ApiError):
    """Not executed: too many calls. `wait` = seconds until the gateway takes calls again, None when it did not say."""

    wait: float | None = None


class ServerFailed(ApiError):
    """The gateway failed, or its proxy cannot reach it."""


class UnexpectedAnswer(ApiError):
    """Not an answer of this API."""


_BY_CODE: dict[str, type[ApiError]] = {
    "err_developer_key": InvalidApplication,
    "err_xdk_binding_expired": BindingExpired,
    "err_xdk_invalid_signature": AuthenticationError,
    "token_expired": AuthenticationError,
    "token_verification_failed": AuthenticationError,
    "app_forbidden": PermissionDenied,
    "err_xdk_operation_forbidden_for_address": PermissionDenied,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    418: BindingExpired,  # contract section 0, fact 4
    429: RateLimited,
}


def error_class(status: int, failure: Failure) -> type[ApiError]:
    """The class of an error: the status decides when it means something, else the code (status 200 means nothing)."""
    if status in (418, 429):
        return _BY_STATUS[status]
    if failure.code in _BY_CODE:
        return _BY_CODE[failure.code]
    if failure.code == "xdk_failure" and "token" in failure.message.lower():
        return InvalidToken
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return ServerFailed
    if failure.code.startswith("err_validation"):
        return InvalidRequest
    return ApiError
