"""The console as people use it: a real gateway and a real browser."""
