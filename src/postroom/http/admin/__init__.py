"""Our own API, `/v1`: what the vendor-compatible one has no call for."""
