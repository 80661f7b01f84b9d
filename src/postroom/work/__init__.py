"""Lease, check, send, record; and what runs beside mail."""
