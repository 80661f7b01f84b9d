"""The published figures, rerunnable by anyone: `make bench-intake`, `make bench-relay`, `make bench-page`.

Every server runs as a real process on 127.0.0.1 with its own directory, is bounded in count and time, and is stopped by
its process id. `docs/performance.md` tells how to read the figures.
"""
