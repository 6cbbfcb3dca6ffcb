"""The sans-I/O core: bytes and errors in, bytes and replies out; no network, no clock."""
