"""One file a call of the compatible API."""
