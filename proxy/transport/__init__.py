"""HTTP on both sides: the only code, besides `app`, that knows aiohttp."""
