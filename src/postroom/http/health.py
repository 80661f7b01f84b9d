"""`/health/live` and `/health/ready`, for supervisors and load balancers.

Promises: live answers 200 while the event loop runs; ready answers 503 with the reasons until the gateway can take mail
and calls. Fails: never.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from postroom.http.services import Services

_FRESH = {"cache-control": "no-store"}


def routes(services: Services) -> list[Route]:
    async def live(request: Request) -> JSONResponse:
        return JSONResponse({"status": "live"}, headers=_FRESH)

    async def ready(request: Request) -> JSONResponse:
        reasons = services.ready()
        status = "not ready" if reasons else "ready"
        return JSONResponse({"status": status, "reasons": reasons}, 503 if reasons else 200, headers=_FRESH)

    return [Route("/health/live", live), Route("/health/ready", ready)]
