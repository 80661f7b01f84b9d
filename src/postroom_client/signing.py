"""The signature of API 1.0 (contract 1.1): HMAC-SHA1 over date, request id, path and application key. Pure.

Promises: signs exactly the text that is sent. Fails: never; `Credentials` has checked the keys.
"""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime
from email.utils import format_datetime

from postroom_client.credentials import Credentials


def date_header(now: datetime) -> str:
    """`Tue, 24 Nov 2015 12:50:11 UTC`, in every locale."""
    # RFC 5322 dates end in GMT here; the vendor's page and all its samples write UTC.
    return format_datetime(now.astimezone(UTC), usegmt=True).removesuffix("GMT") + "UTC"


def signature(credentials: Credentials, *, date: str, request_id: str, path: str) -> str:
    """The part after the colon in the Authorization header."""
    text = f"{date}:{request_id}:{path}:{credentials.app_key}"
    return base64.b64encode(hmac.digest(credentials.secret(), text.encode(), "sha1")).decode()


def signed_headers(credentials: Credentials, path: str, *, now: datetime, request_id: str) -> dict[str, str]:
    """All headers of one call. The body is not signed (a property of the scheme, not of this client)."""
    date = date_header(now)
    signed = signature(credentials, date=date, request_id=request_id, path=path)
    return {
        "Authorization": f"MC {credentials.access_key}:{signed}",
        "x-mc-app-id": credentials.app_id,
        "x-mc-date": date,
        "x-mc-req-id": request_id,
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
