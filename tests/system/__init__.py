"""Postroom as operators run it: a real process, real sockets, a real disk."""
