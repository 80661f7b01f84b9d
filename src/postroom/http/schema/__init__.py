"""The published OpenAPI schema and its page."""
