"""Proving a store: one file for each kind of truth."""
