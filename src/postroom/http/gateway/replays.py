"""Runs each changing call once: binds its signature, which covers no body itself (contract 1.1), to one body.

Promises: the same signature with the same body gets the same answer, while the first call runs, afterwards, and after a
restart; with another body it gets 401 and changes nothing, also when the first body could not be read. An answer that
is too long to keep is given only once; the call does not run again. A call that failed on our side may be repeated.
Reads are not checked. Fails: Failure for another body; exceptions of the call pass through.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from postroom.http.door.callers import Admitted
from postroom.http.gateway.wire.envelope import Failure, Fault, ItemFailure
from postroom.http.gateway.wire.envelope import answer as envelope
from postroom.store.access import signatures
from postroom.store.store import Store

_UNREAD = b"not read"  # in the place of a hash, which is longer: no body has it
NOT_KEPT = Fault(
    msgspec.UNSET, "err_answer_not_kept",
    "This call has run already; its answer was too long to be kept, and it does not run again: "
    "look at what became of it",
    False,
)  # fmt: skip


class Replays:
    def __init__(self, store: Store, running: dict[bytes, tuple[bytes, asyncio.Future[None]]]) -> None:
        """`running`: signature -> (hash of the body, its end); it outlives new settings."""
        self._store = store
        self._running = running

    async def once(self, admitted: Admitted, data: bytes, run: Callable[[], Awaitable[bytes]]) -> bytes:
        """`data`: the body as it came; `run` gives the body of a 200 answer. A call with a token has nothing to
        compare."""
        if admitted.signature is None:
            return await run()
        signature = hashlib.sha256(admitted.signature).digest()
        body_hash = hashlib.sha256(data).digest()
        while signature in self._running:
            first, ended = self._running[signature]
            if first != body_hash:
                raise other_body()
            await asyncio.shield(ended)  # then its answer is in the store, or it failed and this one is the next to try
        ended = asyncio.get_running_loop().create_future()
        self._running[signature] = (body_hash, ended)
        try:
            return await self._first(signature, body_hash, admitted.expires, run)
        finally:
            del self._running[signature]
            ended.set_result(None)

    async def use_up(self, admitted: Admitted) -> None:
        """For a call whose body was incomplete: refuses every later body."""
        if admitted.signature is not None:
            signature, expires = hashlib.sha256(admitted.signature).digest(), admitted.expires
            await self._store.write(lambda tx: signatures.use(tx, signature, _UNREAD, expires))

    async def _first(
        self, signature: bytes, body_hash: bytes, expires: int, run: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        used = await self._store.write(lambda tx: signatures.use(tx, signature, body_hash, expires))
        if used is not None and used.body_hash != body_hash:
            raise other_body()
        if used is not None and used.kept is not None:
            return signatures.unpacked(used.kept)
        answer = await run()
        kept: bytes | None = answer
        if len(answer) > signatures.MAX_ANSWER:
            kept = await asyncio.to_thread(signatures.packed, answer)
        if kept is None:
            kept = envelope([], [ItemFailure(None, (NOT_KEPT,))], None)
        await self._store.write(lambda tx: signatures.answered(tx, signature, kept))
        return answer


def other_body() -> Failure:
    return Failure(
        401, "err_xdk_invalid_signature",
        "0004 Invalid Signature: it was used for another body; "
        "a call that changes something needs a signature of its own",
    )  # fmt: skip
