"""The published figures, reproducible by anyone: `make bench-intake`, `make bench-relay`, `make bench-page` and others.

Every server runs as a real process on 127.0.0.1 in its own directory, with limits on count and time, and is stopped by
its process id. `docs/performance.md` explains the figures.
"""
