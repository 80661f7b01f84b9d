"""Finding entries: readers, search, index, counters, tracking."""
