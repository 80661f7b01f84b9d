"""Our own API, `/v1`: everything that the vendor-compatible API does not offer."""
