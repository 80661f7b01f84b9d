"""Upkeep: what is forgotten, swept, counted and reaped."""
