"""What happens to entries: accept, claim, move, act, end."""

from postroom.store.queue.notices import beginning, notice
from postroom.store.queue.recorded import switching

__all__ = ["beginning", "notice", "switching"]
