"""The wire format of the compatible API: reading requests, writing answers."""
