"""`python -m bench.unindexed serve ...`: the gateway without its search index and counters, to measure their cost.

For `bench.find` only; all else is the gateway as it is. Fails: AttributeError when the product renames their starters.
"""

from __future__ import annotations

from postroom.cli import main
from postroom.store.store import Store


def _nothing(*_: object, **__: object) -> None:
    """Replaces the start of the thread that fills them."""


if __name__ == "__main__":
    assert callable(Store.start_fillers)
    Store.start_fillers = _nothing  # type: ignore[method-assign]
    main()
