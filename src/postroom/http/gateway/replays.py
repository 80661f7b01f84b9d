"""Runs each changing call once. The body of a signed call is not signed (contract 1.1), so a signature is good for one
body only.

Promises: the same signature with the same body gets the same answer, while the first call runs, afterwards, and across
a restart. With another body it gets 401 and changes nothing, also when the first body could not be read. An answer that
is too long to be kept is sent only once; the call does not run again for it. A call that failed on our side may be sent
again. Reads never come here. Fails: Failure for another body; what the call itself raises passes through.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from postroom.http.door.callers import Admitted
from postroom.http.gateway.wire.envelope import Failure, Fault, ItemFailure
from postroom.http.gateway.wire.envelope import answer as envelope
from postroom.store import Store, access

_UNREAD = b"not read"  # in the place of a hash, which is longer: no body has it
NOT_KEPT = Fault(
    msgspec.UNSET, "err_answer_not_kept",
    "This call has run already; its answer was too long to be kept, and it does not run again: look at what became "
    "of it",
    False,
)  # fmt: skip


class Replays:
    def __init__(self, store: Store, running: dict[bytes, tuple[bytes, asyncio.Future[None]]]) -> None:
        """`running`: signature -> (hash of the body, its end); it outlives new settings."""
        self._store = store
        self._running = running

    async def once(self, admitted: Admitted, data: bytes, run: Callable[[], Awaitable[bytes]]) -> bytes:
        """`data`: the body as it came; `run` gives the body of a 200 answer. A call with a token has no signature to
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
        """Use up the signature of a call whose body did not come whole: no later body fits it."""
        if admitted.signature is not None:
            signature, expires = hashlib.sha256(admitted.signature).digest(), admitted.expires
            await self._store.write(access.use_signature(signature, _UNREAD, expires))

    async def _first(
        self, signature: bytes, body_hash: bytes, expires: int, run: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        used = await self._store.write(access.use_signature(signature, body_hash, expires))
        if used is not None and used.body_hash != body_hash:
            raise other_body()
        if used is not None and used.kept is not None:
            return access.unpack_answer(used.kept)
        answer = await run()
        kept: bytes | None = answer
        if len(answer) > access.MAX_ANSWER:
            kept = await asyncio.to_thread(access.pack_answer, answer)
        if kept is None:
            kept = envelope([], [ItemFailure(None, (NOT_KEPT,))], None)
        await self._store.write(access.keep_answer(signature, kept))
        return answer


def other_body() -> Failure:
    return Failure(
        401, "err_xdk_invalid_signature",
        "0004 Invalid Signature: it was used for another body; a call that changes something needs a signature of its "
        "own",
    )  # fmt: skip
