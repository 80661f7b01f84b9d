"""Plans: a frozen set of entries and one action, applied and undone as one."""
