"""Sockets, TLS, and the HTTP server on them."""
