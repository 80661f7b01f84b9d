"""`POST /api/gateway/find-processing-messages`: the processing queue. The way of a page is `queue_listing`'s.

Promises: every member of the answer as recorded (contract section 6); one element of `data` for each query, also when it found nothing.
Fails: as `queue_listing` does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.http.gateway.paging.queues import QueueListing
from postroom.http.gateway.paging.tokens import Page
from postroom.http.gateway.wire.entries import QueuedMessage, messages, read_query
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.services import Services

PATH = "/api/gateway/find-processing-messages"


class Listed(msgspec.Struct, frozen=True):
    messages: list[QueuedMessage]


def function(services: Services) -> QueueListing:
    idents = EntryIds(services.sealer)

    def shown(pages: list[Page]) -> list[Any]:
        now = services.clock.now()
        return [Listed(messages(page.entries, idents, now)) for page in pages]

    return QueueListing(services, PATH, read_query=read_query, shown=shown)
