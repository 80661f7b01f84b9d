"""HTTP: the vendor-compatible gateway API, the console, health and metrics, on one port."""
