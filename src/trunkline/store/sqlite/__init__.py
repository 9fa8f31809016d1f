"""The embedded store: one SQLite file in the state directory."""
