"""Which session exists, on which version, where it runs, and who owns it."""
