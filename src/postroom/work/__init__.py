"""The worker: lease, check, send, record; and the periodic tasks."""
