"""Bodies of the compatible API: how requests are read and answers are written."""
