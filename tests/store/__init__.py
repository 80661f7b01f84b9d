"""Tests that look inside SQLite: its tables, files, statements and plans. They are the tests of this one engine; what
every engine has to do is shown in `tests/conformance`, through the face of the store alone.
"""
