"""Paging: tokens, totals, and the two kinds of lists (queues and logs)."""
