"""Authentication, rate limits and audit: everything between a request and its function."""
