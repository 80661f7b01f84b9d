"""The vendor-compatible API. Only `wire` knows the vendor's terms and their contradictions; only `front` knows HTTP."""
