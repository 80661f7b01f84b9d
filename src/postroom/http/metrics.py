"""`/metrics` for Prometheus. Direct callers on this machine need no token; all others need an access token.

Promises: each scrape reads queues and ledger from the store, in a reader thread, so that these numbers are always
right; everything else was counted on the event loop. Fails: 503 when the store cannot be read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from postroom.clock import Millis
from postroom.http.door.callers import Callers
from postroom.http.door.proxies import PROXIED
from postroom.http.gateway.wire.envelope import Failure
from postroom.http.services import Services
from postroom.model import Origin, Outcome, Queue
from postroom.store import Reader, permissions
from postroom.telemetry import ACK_BUCKETS, Counts

_TYPE = "text/plain; version=0.0.4; charset=utf-8"


# attribute of Counts -> (metric, help); gauges may fall, counters only rise
_GAUGES = {
    "smtp_sessions": "SMTP sessions open now",
    "active_entries": "Entries in hand",
    "active_bytes": "Bytes of the messages in hand",
}
_COUNTERS = {
    "smtp_sessions_total": "SMTP sessions opened",
    "smtp_accepted": "Messages answered with 250",
    "smtp_rejected_messages": "Messages refused after DATA",
    "claimed": "Entries taken from the store to be worked on",
    "deferred": "Attempts that will be repeated",
    "leases_lost": "Results dropped because the lease had ended",
    "taken_over": "Leases of dead workers that were ended",
    "maybe_delivered": "Entries labelled as possibly delivered",
    "unreadable": "Entries held because they, or their message, could not be read",
    "commits": "Transactions committed",
    "log_dropped": "Log lines that could not be written",
}


class Stored(msgspec.Struct, frozen=True):
    """What one scrape reads."""

    queues: dict[Queue, int]
    leaving: int
    locked: dict[Queue, int]
    created: dict[str, int]
    ended: dict[str, int]
    queued: int


def read_stored(reader: Reader, now: Millis) -> Stored:
    created, ended, queued = reader.ledger()
    return Stored(reader.queue_counts(), reader.leaving(), reader.locked_counts(now), created, ended, queued)


class Scrape(Collector):
    """One answer: a collector that lives as long as its request."""

    def __init__(self, stored: Stored, counts: Counts) -> None:
        self._stored = stored
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        yield from self._of_store()
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"postroom_{name}", text, value=getattr(self._counts, name))
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(
                f"postroom_{name.removesuffix('_total')}", text, value=getattr(self._counts, name)
            )
        refused = CounterMetricFamily("postroom_smtp_refused", "SMTP commands refused", labels=["code"])
        for code, number in sorted(self._counts.smtp_refused.items()):
            refused.add_metric([str(code)], number)
        yield refused
        yield _acknowledgements(self._counts.ack_seconds, self._counts.ack_seconds_sum)

    def _of_store(self) -> Iterator[Metric]:
        stored = self._stored
        entries = GaugeMetricFamily("postroom_queue_entries", "Entries in each queue", labels=["queue"])
        locked = GaugeMetricFamily("postroom_queue_locked", "Entries being worked on", labels=["queue"])
        for queue in Queue:
            entries.add_metric([queue.value], stored.queues.get(queue, 0))
            locked.add_metric([queue.value], stored.locked.get(queue, 0))
        entries.add_metric(["leaving"], stored.leaving)  # what a plan ends when its undo window is over
        yield entries
        yield locked
        created = CounterMetricFamily("postroom_created", "Entries created, by origin", labels=["origin"])
        for origin in Origin:
            created.add_metric([origin.value], stored.created.get(origin.value, 0))
        yield created
        ended = CounterMetricFamily("postroom_ended", "Entries ended, by outcome", labels=["outcome"])
        for outcome in Outcome:
            ended.add_metric([outcome.value], stored.ended.get(outcome.value, 0))
        yield ended
        difference = sum(stored.created.values()) - sum(stored.ended.values()) - stored.queued
        yield GaugeMetricFamily(
            "postroom_ledger_difference", "Created minus ended minus queued: always 0", value=difference
        )


def _acknowledgements(counted: list[int], total: float) -> HistogramMetricFamily:
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, number in zip([*map(str, ACK_BUCKETS), "+Inf"], counted, strict=True):
        running += number
        buckets.append((bound, running))
    return HistogramMetricFamily(
        "postroom_ack_seconds", "Time from the final dot to 250", buckets=buckets, sum_value=total
    )


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def routes(services: Services, callers: Callers) -> list[Route]:
    async def metrics(request: Request) -> Response:
        proxied = any(name.decode() in request.headers for name in PROXIED)
        if proxied or not _is_local(request.client.host if request.client else ""):
            try:
                await callers.bearer(request.scope, "/metrics", permissions.DASHBOARD_READ)
            except Failure as failure:
                headers = {name.decode(): value.decode() for name, value in failure.headers}
                text = f"{failure.fault.message}: callers on other machines need an access token (POST /oauth/token)\n"
                return PlainTextResponse(text, failure.status, headers)
        now = services.clock.now()
        stored = await services.store.read(lambda reader: read_stored(reader, now))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Scrape(stored, services.counts))
        return Response(generate_latest(registry), media_type=_TYPE, headers={"cache-control": "no-store"})

    return [Route("/metrics", metrics)]
