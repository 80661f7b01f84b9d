"""The way to ask the store for something: call a verb with its arguments, and let the store run the `Write` or `Read`.

    made = await store.write(access.create_app(sealer, name="soar", role="reader"))
    found = await store.read(plans.latest(10))
    plan = reader.ask(plans.look(ident))  # among other reads, in a function given to `store.read`

So no code outside the store holds a transaction. `then` does more in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from postroom.store.engine import ReadTx, Tx

P = ParamSpec("P")
T = TypeVar("T", covariant=True)
R = TypeVar("R")
L = TypeVar("L")


class Looking(Protocol):
    """What a verb needs of a reader."""

    tx: ReadTx


class Write(Generic[T]):
    """Something to do in the writer's next transaction, completely or not at all."""

    __slots__ = ("_do",)

    def __init__(self, do: Callable[[Tx], T]) -> None:
        self._do = do

    def __call__(self, tx: Tx) -> T:
        return self._do(tx)

    def then(self, more: Callable[[T], Write[Any] | None]) -> Write[T]:
        """Do this, and in the same transaction what `more` returns for its result."""

        def both(tx: Tx) -> T:
            result = self._do(tx)
            following = more(result)
            if following is not None:
                following(tx)
            return result

        return Write(both)


class Read(Generic[T]):
    """Something to read through a reader."""

    __slots__ = ("_look",)

    def __init__(self, look: Callable[[Looking], T]) -> None:
        self._look = look

    def __call__(self, reader: Looking) -> T:
        return self._look(reader)


def writes(function: Callable[Concatenate[Tx, P], R]) -> Callable[P, Write[R]]:
    """Make a verb of a function that changes something inside a transaction."""

    @wraps(function)
    def verb(*args: P.args, **named: P.kwargs) -> Write[R]:
        return Write(lambda tx: function(tx, *args, **named))

    return verb


def reads(function: Callable[Concatenate[ReadTx, P], R]) -> Callable[P, Read[R]]:
    """Make a verb of a function that reads something."""

    @wraps(function)
    def verb(*args: P.args, **named: P.kwargs) -> Read[R]:
        return Read(lambda reader: function(reader.tx, *args, **named))

    return verb


def looks(function: Callable[Concatenate[L, P], R]) -> Callable[P, Callable[[L], R]]:
    """A verb of a function that takes the reader itself: for pages, counts, entries."""

    @wraps(function)
    def verb(*args: P.args, **named: P.kwargs) -> Callable[[L], R]:
        return lambda reader: function(reader, *args, **named)

    return verb
