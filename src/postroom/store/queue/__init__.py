"""What happens to entries: accept, claim, move, act, end."""

from postroom.store.queue.notices import Original, notice

__all__ = ["Original", "notice"]
