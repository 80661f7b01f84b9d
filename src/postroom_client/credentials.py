"""The four words that sign a request of the vendor-compatible API.

Promises: a wrong secret key or an incomplete file fails here, before the first call; no `repr` and no error text ever
holds a key. Fails: ValueError saying which word is wrong, OSError when the file cannot be read.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Credentials:
    """Application (id, key) and binding (access key, secret key). A `repr` shows only the application id."""

    app_id: str
    app_key: str = field(repr=False)
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def __post_init__(self) -> None:
        for word, value in (("app_id", self.app_id), ("app_key", self.app_key), ("access_key", self.access_key)):
            # A line break would let the author of the credentials add headers of their own.
            if not value or not value.isascii() or not value.isprintable():
                raise ValueError(f"{word}: expected printable ASCII text, got {'nothing' if not value else 'other'}")
        if not self.secret_key or not _is_base64(self.secret_key):
            raise ValueError("secret_key: expected base64 text, as the gateway gave it out")

    def secret(self) -> bytes:
        """The key of the MAC."""
        return base64.b64decode(self.secret_key)

    @classmethod
    def from_admin_json(cls, path: str | PathLike[str]) -> Credentials:
        """The credentials in the `admin.json` that a gateway writes into its data directory on its first start."""
        return read_admin_json(path)[1]


def read_admin_json(path: str | PathLike[str]) -> tuple[str, Credentials]:
    """`admin.json` -> (base URL, credentials)."""
    place = Path(path)
    try:
        content = json.loads(place.read_bytes())
    except ValueError:
        raise ValueError(f"{place}: expected JSON, as the gateway writes it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{place}: expected a JSON object")
    words: dict[str, str] = {}
    for name in ("baseUrl", "appId", "appKey", "accessKey", "secretKey"):
        value = content.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{place}: {name} is missing")
        words[name] = value
    return words["baseUrl"], Credentials(words["appId"], words["appKey"], words["accessKey"], words["secretKey"])


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False
