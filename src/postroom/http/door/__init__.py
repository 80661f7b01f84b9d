"""Who calls, whether they may, how often: everything between a request and its function."""
