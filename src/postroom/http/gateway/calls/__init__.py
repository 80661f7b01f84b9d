"""The functions of the compatible API, one file each."""
