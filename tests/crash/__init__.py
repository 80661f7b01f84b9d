"""Crash tests: kills at every named moment, and simulated power cuts. docs/reliability.md has the details."""
