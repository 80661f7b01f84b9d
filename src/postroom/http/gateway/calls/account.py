"""`POST /api/account/get-account`: the account record, which clients use as a connection test.

Promises: there is one account, the gateway itself; its values change only with the settings; the members that clients
were seen to read are there. Fails: never.
"""

from __future__ import annotations

import hashlib
from typing import Any

from postroom import __version__
from postroom.clock import DAY, MINUTE
from postroom.http.gateway.call import Call
from postroom.http.gateway.wire.envelope import answer
from postroom.http.services import Services
from postroom.store import access

PATH = "/api/account/get-account"


class GetAccount:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, call: Call) -> bytes:
        users = await self._services.store.read(access.count_users())
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
