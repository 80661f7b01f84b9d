"""The vendor-compatible API. `wire` alone knows the contradictions of its words; `front` alone knows HTTP."""
