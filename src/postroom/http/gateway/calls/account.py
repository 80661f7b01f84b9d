"""`POST /api/account/get-account`: the account record, which clients use as a connection test.

Promises: one account, the gateway itself; the values change only with the settings; all members that known clients read
are present. Fails: never.
"""

from __future__ import annotations

import hashlib
from typing import Any

from postroom import __version__
from postroom.clock import DAY, MINUTE
from postroom.http.gateway.call import Call
from postroom.http.gateway.wire.envelope import answer
from postroom.http.services import Services
from postroom.store.find.reader import Reader

PATH = "/api/account/get-account"


class GetAccount:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, call: Call) -> bytes:
        users = await self._services.store.read(_users)
        return answer([self._record(users)], [], None)

    def _record(self, users: int) -> dict[str, Any]:
        settings = self._services.settings
        name = settings.gateway.hostname or "localhost"
        return {
            "accountName": name,
            "accountCode": "P" + hashlib.sha256(name.lower().encode()).hexdigest()[:9].upper(),
            "type": "full",
            "gateway": True,
            "archive": False,
            "region": "local",
            "domain": settings.gateway.internal_domains[0] if settings.gateway.internal_domains else "",
            "userCount": users,
            "maxRetention": settings.retention.history // DAY,
            "maxRetentionConfirmed": True,
            "minRetentionEnabled": False,
            "automatedSegmentPurge": True,
            "policyInheritance": False,
            "searchReason": False,
            "contentAdministratorDefaultView": "Metadata",
            "adminSessionTimeout": settings.console.session_lifetime // MINUTE,
            "exportApi": False,
            "expressAccount": False,
            "passphrase": "",
            "supportCode": "",
            "adminEmail": "",
            "contactEmail": "",
            "contactName": "",
            "telephone": "",
            "packages": [f"Postroom {__version__}"],
        }


def _users(reader: Reader) -> int:
    return int(reader.tx.rows("SELECT count(*) FROM console_user")[0][0])
