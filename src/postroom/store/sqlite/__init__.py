"""The SQLite engine: the only room that knows apsw."""
