"""The conformance suite of the store: how every engine has to behave.

The rule: these tests use the face alone. That is what `postroom.store` and its rooms list in `__all__`, the methods of
`Store` and `Reader` without a leading underscore, and modules outside the store. No SQL, no transaction, no table, no
file of an engine: `tests/test_house.py` enforces it. A second engine runs the suite as it is (`ENGINES` in
`conftest.py`). What must look into tables, statements or files is a test of one engine, in `tests/store`.
"""
