"""What happens to entries: accept, claim, move, act, end."""

from postroom.store.queue.notices import beginning, notice

__all__ = ["beginning", "notice"]
