"""Small asyncio pieces everything else is built from."""
