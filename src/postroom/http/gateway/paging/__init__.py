"""Pages: tokens, totals, and the two kinds of list (queues and logs)."""
